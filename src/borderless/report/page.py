"""One self-contained page: pictures become data: addresses, and its own policy forbids the browser any request."""

import base64
from collections.abc import Sequence
from pathlib import Path

from borderless.report.content import Figure, Section, limited_html
from borderless.runtime.files import write_atomically

_MEDIA_TYPES = {
    ".png": "image/png",
    ".gif": "image/gif",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".svg": "image/svg+xml",
}


def write(sections: Sequence[Section], path: Path, title: str, lead: str, provenance: str = "") -> Path:
    """Write `sections` as one HTML file, atomically, and return its path.

    All texts may hold the tags of `limited_html`; anything else is shown as it is written.

    Args:
        sections: In the order of the page.
        path: The file.
        title: The page's heading.
        lead: The paragraph under it.
        provenance: How to get the same numbers again, in small print at the end.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined  # not for whoever only lists the experiments

    environment = Environment(
        loader=PackageLoader("borderless.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Jinja does not say what a filter is.
    environment.filters.update(limited=_limited, picture=_picture)  # pyright: ignore[reportUnknownMemberType]
    page = environment.get_template("page.html.j2").render(
        sections=sections, title=title, lead=lead, provenance=provenance
    )
    write_atomically(path, page)
    return path


def _limited(text: str) -> str:
    from markupsafe import Markup

    return Markup(limited_html(text))


def _picture(figure: Figure) -> dict[str, object]:
    """The figure's data: address, and its size so that text does not jump while the page loads."""
    from PIL import Image

    media_type = _MEDIA_TYPES.get(figure.path.suffix.lower())
    if media_type is None:
        raise ValueError(
            f"got the figure {figure.path.name}; it must be one of {', '.join(_MEDIA_TYPES)}; save it as PNG"
        )
    if not figure.path.is_file():
        raise FileNotFoundError(
            f"got the figure {figure.path}, which does not exist; draw it before the page is written"
        )
    data = base64.b64encode(figure.path.read_bytes()).decode("ascii")
    size = None
    if media_type != "image/svg+xml":
        with Image.open(figure.path) as image:
            # A file that states its resolution is shown at its true size, 96 pixels of the page to the inch.
            scale = 96 / image.info.get("dpi", (96, 96))[0]
            size = (round(image.width * scale), round(image.height * scale))
    # Pictures much wider than high keep a legible size on a phone and scroll in their own box.
    is_wide = size is not None and size[0] > 1.25 * size[1]
    return {"address": f"data:{media_type};base64,{data}", "size": size, "is_wide": is_wide}
