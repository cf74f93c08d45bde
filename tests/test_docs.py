"""Every Python block of the documentation runs, and every command in it exists, with the options it is shown with."""

import contextlib
import html
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import borderless as bl
import borderless.errors
from borderless.auditing import moving
from borderless.auditing.record import SCHEMA
from borderless.auditing.run import MOST_IN_MEMORY
from borderless.cli.main import main
from borderless.experiments import EXPERIMENTS

ROOT = Path(__file__).parent.parent
OTHER_LIBRARIES = ROOT / "docs" / "how-to" / "other-libraries"
PAGES = sorted(
    path
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if not {"_build", "gallery", "results"} & {*path.parts}
)


# Pages whose code takes a quarter of a minute or more.
LONG = ("audit", "finetune")


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """The words of each `borderless` command, without what starts it and without its comment."""
    lines = [line for block in blocks(page, "console") for line in block.splitlines()]
    lines += re.findall(r"`(borderless [^`]*)`", page.read_text(encoding="utf-8"))
    found = []
    for line in lines:
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if "borderless" in words and words[0] in ("borderless", "torchrun"):
            found.append(words[len(words) - words[::-1].index("borderless") :])
    return found


@pytest.mark.parametrize(
    "page",
    # `test_readme` runs the README.
    [
        pytest.param(page, marks=pytest.mark.nightly) if page.stem in LONG else page
        for page in PAGES
        if blocks(page, "python") and page.stem != "README" and page.parent != OTHER_LIBRARIES
    ],
    ids=lambda page: page.stem,
)
def test_the_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    text = page.read_text(encoding="utf-8")
    with_output = re.compile(r"^```python\n(.*?)^```(?:\n\n```text\n(.*?)^```)?", re.DOTALL | re.MULTILINE)
    for block, output in with_output.findall(text):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(block, str(page), "exec"), names)
        assert not output or out.getvalue() == output


@pytest.mark.filterwarnings("default")  # those libraries warn of their own
@pytest.mark.parametrize("page", sorted(OTHER_LIBRARIES.glob("*.md")), ids=lambda page: page.stem)
def test_with_other_libraries_the_python_prints_what_stands_below(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = page.read_text(encoding="utf-8")
    for library in re.findall(r"^(?:import|from) (\w+)", "".join(blocks(page, "python")), re.MULTILINE):
        pytest.importorskip(library)
    steps = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(steps) == len(blocks(page, "python")), "a block without its output"
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code, printed in steps:
        exec(compile(code, str(page), "exec"), names)
        assert capsys.readouterr().out.endswith(printed), code


@cache
def help_of(*words: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main([*words, "--help-all" if words else "--help"]) == 0
    return out.getvalue()


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_the_commands_exist(page: Path) -> None:
    for words in commands(page):
        command = words[0] if words else "--help"
        if command.startswith("-"):
            continue
        assert f"  {command}" in help_of(), words
        options = [word.split("=")[0] for word in words if word.startswith("--")]
        if command == "run" and len(words) > 1 and words[1] not in ("NAME", "…"):
            assert words[1] in EXPERIMENTS, words
            text = help_of("run", words[1]) + "--small"
        elif command in ("explain", "audit", "finetune", "tile", "occlude", "playground"):
            alone = ("tile", "occlude", "playground")
            text = help_of(command, *(["resnet18"] if command not in alone else [])) + "--compare"
        else:
            continue
        for option in options:
            assert option in text or option in ("--help", "--help-all"), (words, option)


def test_what_the_pages_point_to_is_there() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:"):
                # The build copies results/ there, and makes the gallery of examples/.
                source = (page.parent / target).resolve().as_posix().replace("docs/reference/results", "results")
                source = source.replace("docs/gallery/index", "examples/README.rst")
                assert Path(source).exists(), (page.name, target)


def test_the_example_report_is_of_this_version() -> None:
    docs = ROOT / "docs"
    page = (docs / "example-audit.html").read_text(encoding="utf-8")
    found = json.loads((docs / "example-audit.json").read_text(encoding="utf-8"))
    assert found["schema"] == SCHEMA, "borderless audit tf_efficientnet_lite0 --count 16, then copy its two files"
    assert {name for name in found if isinstance(found[name], dict | list)} >= {"sensitivity", "layout"}
    assert all(finding["name"] for finding in found["findings"])
    assert len(page) < 1.5e6
    # The page is of the same run.
    assert f"{100 * found['headline']['flips']:.0f} %" in page and "tf_efficientnet_lite0" in page
    assert found["command"] in html.unescape(re.sub(r"<[^>]*>", "", page))
    how_to = (docs / "how-to" / "audit.md").read_text(encoding="utf-8")
    linked = re.findall(r'<a href="\.\./([^"]+)">', how_to)
    assert linked == ["example-audit.html", "example-audit.json"]
    assert f"html_extra_path = {json.dumps(linked)}" in (docs / "conf.py").read_text(encoding="utf-8")
    assert found["command"].startswith(blocks(docs / "how-to" / "audit.md", "console")[3].strip().removeprefix("$ "))


def test_the_reference_says_how_many_objects_an_audit_moves() -> None:
    text = " ".join((ROOT / "docs" / "reference" / "audit.md").read_text(encoding="utf-8").split())
    assert (
        f"{moving._FIRST_OBJECTS} at first, then more, until half the width of the 95 % interval on photographs is "
        f"{100 * moving._HALF_WIDTH:g} points or there are no more images (at most {MOST_IN_MEMORY})"
    ) in text
    assert f"The causes are distinguished on the first {moving._CAUSE_OBJECTS}." in text


def named_apart() -> set[str]:
    """Return the public names that have a page each."""
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    errors = {name for name in bl.__all__ if name in vars(borderless.errors)}
    modules = {name for name in bl.__all__ if isinstance(getattr(bl, name), ModuleType)}
    data = set(re.findall(r"^.. autodata:: (\w+)$", page, re.MULTILINE))
    return set(bl.__all__) - errors - modules - data - {"__version__"}


def test_every_public_name_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^(?:   |.. autodata:: )(?:\w+\.)*(\w+)$", page, re.MULTILINE))
    assert named_apart() - listed == set()
    assert "automodule:: borderless.errors" in page


def test_the_home_page_says_why_and_leads_to_every_section() -> None:
    docs = ROOT / "docs"
    home, conf = ((docs / name).read_text(encoding="utf-8") for name in ("index.md", "conf.py"))
    assert "**Why it matters.** " in home
    shown = "\n".join(blocks(docs / "index.md", "console"))
    readme = "\n".join(blocks(ROOT / "README.md", "console"))
    assert [line in readme for line in shown.splitlines()] == [True, True]
    (cards,) = re.findall(r"^```{container} cards\n(.*?)^```", home, re.DOTALL | re.MULTILINE)
    assert len(re.findall(r"^- \*\*\[[^\]]+\]\(.+\)\*\*$", cards, re.MULTILINE)) >= 8
    # What was decided while it was written is for those who change it.
    assert "decisions" not in home
    assert "../decisions/index" in (docs / "contributing" / "index.md").read_text(encoding="utf-8")
    for option in ('autodoc_typehints = "description"', 'autodoc_typehints_format = "fully-qualified"'):
        assert option in conf  # else parameters are told twice, and types written with their marks
    css = (docs / "_static" / "site.css").read_text(encoding="utf-8")
    assert re.search(r"\.table-wrapper {[^}]*overflow-x: auto", css)  # a wide table on a phone


@pytest.mark.nightly
def test_the_site_is_built_without_a_warning_and_reads_as_it_is_meant_to(tmp_path: Path) -> None:
    for library in ("sphinx", "furo", "myst_parser", "sphinx_gallery"):
        pytest.importorskip(library)
    # The build writes beside its sources.
    generated = shutil.ignore_patterns("_build", "gallery", "api", "results", "__pycache__")
    for folder in ("docs", "examples", "results"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=generated)
    shutil.copy(ROOT / "CONTRIBUTING.md", tmp_path)
    command = [sys.executable, "-m", "sphinx", "--quiet", "-W", "--keep-going", "-b", "html", "docs", "html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert (done.returncode, done.stderr) == (0, "")
    site = tmp_path / "html"
    pages = {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    # A page for each name, whose types have no marks.
    api = {Path(page).stem.removesuffix("-class").rpartition(".")[2] for page in pages if "/api/" in page}
    assert named_apart() - api == set()
    assert [page for page, text in pages.items() if "~borderless" in text] == []
    # Cards, and decisions in the navigation below contributing alone.
    (cards,) = re.findall(r'<div class="cards [^"]*">(.*?)</div>', pages["index.html"], re.DOTALL)
    assert cards.count("<li>") >= 8
    entries = pages["index.html"].split('<li class="toctree-l1')[1:]
    assert len(entries) > 30
    assert ["contributing/index.html" in entry for entry in entries if "decisions/" in entry] == [True]
    assert pages["reference/coverage.html"].count('<div class="table-wrapper') >= 1
    # Examples of the fields, with pictures; the audit's leaves nothing out.
    for name in ("plot_3_audit", "plot_4_microscopy", "plot_5_satellite", "plot_6_audio"):
        assert f"sphx_glr_{name}_001.png" in pages[f"gallery/{name}.html"]
    printed = pages["gallery/plot_3_audit.html"]
    assert "responds to absolute position" in printed and "Skipped" not in printed
