"""Write one self-contained page: pictures become data: addresses, and its policy forbids the browser any request.

Figures of `plots` are packed, and get a second picture for dark screens: outside images and color bars, whose positions
the file has, light becomes dark and the reverse, and hues stay.
"""

import base64
import json
import re
from collections.abc import Sequence
from pathlib import Path

from borderless.report.content import LEVELS, Card, Figure, Section, Table, limited_html
from borderless.runtime.files import write_atomically

_MEDIA_TYPES = {
    ".png": "image/png",
    ".gif": "image/gif",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".svg": "image/svg+xml",
}
# No line ends between a number and its unit or sign, nor within an option.
_SPACE = "\N{NO-BREAK SPACE}"
_UNIT = re.compile(r"(?<=\d) (?=%|px|×)|(?<=×) (?=\d)|(?<=&lt;) (?=\d)")
_OPTION = re.compile(r"(?<!\S)(--?[\w-]+)")
# Widths, in pixels and in letters, that fit a phone.
_PHONE_PX, _PHONE_LETTERS = 380, 44


def write(
    sections: Sequence[Section], path: Path, title: str, lead: str, provenance: str = "", card: Card | None = None
) -> Path:
    """Write `sections` as one HTML file, atomically, and return its path.

    All texts may hold the tags of `limited_html`; anything else is shown as it is written.

    Args:
        sections: In the order of the page.
        path: The file.
        title: The page's heading.
        lead: The paragraph under it.
        provenance: How to get the same numbers again, in small print at the end.
        card: First screen, above the list of contents.
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
    environment.filters.update(limited=_limited, commands=_commands, picture=_picture, is_wide=_is_wide)  # pyright: ignore[reportUnknownMemberType]
    page = environment.get_template("page.html.j2").render(
        sections=sections, title=title, lead=lead, provenance=provenance, card=card, levels=LEVELS
    )
    write_atomically(path, page)
    return path


def _limited(text: str) -> str:
    from markupsafe import Markup

    return Markup(_UNIT.sub(_SPACE, limited_html(text)))


def _commands(text: str) -> str:
    from markupsafe import Markup, escape

    return Markup(_OPTION.sub(r"<span>\1</span>", str(escape(text))))


def _is_wide(table: Table) -> bool:
    """Return whether a table may be wider than a phone, by the letters of its longest cells."""
    rows = [*table.text_rows(), [max(column.split(), key=len, default="") for column in table.columns]]
    return sum(min(24, max(map(len, column))) for column in zip(*rows, strict=True)) > _PHONE_LETTERS


def _picture(figure: Figure) -> dict[str, object]:
    """Return the figure's data: addresses, and its size so that text does not jump while the page loads."""
    from PIL import Image

    from borderless.report.dark import BOXES, darkened, packed  # loads what draws

    media_type = _MEDIA_TYPES.get(figure.path.suffix.lower())
    if media_type is None:
        raise ValueError(f"Expected a figure of {', '.join(_MEDIA_TYPES)} but got {figure.path.name}; save it as PNG.")
    if not figure.path.is_file():
        raise FileNotFoundError(
            f"Expected the figure {figure.path} but got no such file; draw it before the page is written."
        )
    size, dark, address = None, "", ""
    if media_type != "image/svg+xml":
        with Image.open(figure.path) as image:
            # A file that states its resolution is shown at its true size, 96 pixels of the page to the inch.
            scale = 96 / image.info.get("dpi", (96, 96))[0]
            size = (round(image.width * scale), round(image.height * scale))
            if BOXES in image.info:
                address = _address("image/webp", packed(image))
                dark = _address("image/webp", packed(darkened(image, json.loads(image.info[BOXES]))))
    # Pictures much wider than high keep a legible size on a phone and scroll in their own box.
    is_wide = size is not None and size[0] > 1.25 * size[1] and size[0] > _PHONE_PX
    return {
        "address": address or _address(media_type, figure.path.read_bytes()),
        "dark": dark,
        "size": size,
        "is_wide": is_wide,
    }


def _address(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
