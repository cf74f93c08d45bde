"""The site: `sphinx-build -W -b html docs docs/_build`."""

import shutil
import warnings
from pathlib import Path

from sphinx.application import Sphinx
from sphinx_gallery.sorting import FileNameSortKey

import borderless

project = "borderless"
copyright = "the borderless authors"
release = version = borderless.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
# Beside the pages, so that what a result points to (tables, pictures) is part of the site.
HERE = Path(__file__).parent
shutil.copytree(HERE.parent / "results", HERE / "reference" / "results", dirs_exist_ok=True)
# Written anew by each build, so that no page of a function stays that is gone.
shutil.rmtree(HERE / "reference" / "api", ignore_errors=True)
exclude_patterns = [
    "reference/results/README.md",
    "_build",
    "gallery/*.ipynb",
    "gallery/*.py",
    "sg_execution_times.rst",
]
myst_heading_anchors = 3
# Docstrings are plain text with code in single backquotes.
default_role = "code"
templates_path = ["_templates"]
autosummary_generate = True
# Apart from the functions `audit` and `tiling` also where a file system does not distinguish case.
autosummary_filename_map = {
    "borderless.Audit": "borderless.Audit-class",
    "borderless.Tiling": "borderless.Tiling-class",
}
autodoc_typehints = "description"
# Short names would be written with their marks where a type is one of several.
autodoc_typehints_format = "fully-qualified"
autodoc_member_order = "bysource"
# One parameter per line, so that signatures fit on a phone.
python_maximum_signature_line_length = 60
nitpicky = False

html_theme = "furo"
html_title = "borderless"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "/plot_",
    "within_subsection_order": FileNameSortKey,
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "reference_url": {"borderless": None},
}

# Of sphinx-gallery: the order's class cannot be pickled into Sphinx's cache.
suppress_warnings = ["config.cache"]

# Copied to the site as they are.
html_extra_path = ["example-audit.html", "example-audit.json"]


def setup(app: Sphinx) -> None:
    """Point links to ../results/, which are right in the repository, to the copy among the pages."""

    def to_the_copy(_: Sphinx, name: str, source: list[str]) -> None:
        if name == "results":
            source[0] = source[0].replace("](../results/", "](reference/results/")

    app.connect("source-read", to_the_copy)


warnings.filterwarnings("ignore", message=".*FigureCanvasAgg is non-interactive.*")
