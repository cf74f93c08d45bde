"""What a page is made of. No HTML but in `limited_html`: how things look is the template's business."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

TableCell = str | int | float

_TAGS = "b|strong|i|em|code|sub|sup"
_TAG = re.compile(rf"&lt;(/?)({_TAGS}|a)&gt;|&lt;a href=&quot;((?:https?://|#)[^\s&]*)&quot;&gt;|&lt;(br)&gt;")


@dataclass(frozen=True)
class Figure:
    """A picture (PNG, JPEG, GIF or SVG file), what it shows, and what one who cannot see it should know (`alt`)."""

    path: Path
    caption: str
    alt: str

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise ValueError(
                f"got no alternative text for the figure {self.path.name}; it needs a sentence that says what is "
                "seen; pass alt="
            )


@dataclass(frozen=True)
class Table:
    """Rows of cells. Floats are shown with four significant digits; pass a string to choose another form."""

    columns: Sequence[str]
    rows: Sequence[Sequence[TableCell]]
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"got a row of {len(row)} cells, {row}, in a table of {len(self.columns)} columns; give every "
                    "row one cell a column"
                )

    def text_rows(self) -> list[list[str]]:
        """The cells as they are shown."""
        return [[_shown(cell) for cell in row] for row in self.rows]

    def numeric_columns(self) -> list[bool]:
        """Which columns hold numbers only (also "98.5 ± 0.3" or "3.1×"), to be set flush right."""
        number = re.compile(r"^[≈<≤−+-]*\s*\d.*|^[-–−]?$|^nan$|^-?inf$")
        texts = self.text_rows()
        return [bool(texts) and all(number.match(row[i]) for row in texts) for i in range(len(self.columns))]


@dataclass(frozen=True)
class Section:
    """A part of a story: paragraphs (text with the tags that `limited_html` knows), then figures, then tables."""

    title: str
    text: list[str] = field(default_factory=list[str])
    figures: list[Figure] = field(default_factory=list[Figure])
    tables: list[Table] = field(default_factory=list[Table])


def limited_html(text: str) -> str:
    """Escape `text`, keeping only <b> <strong> <i> <em> <code> <sub> <sup> <br> <a href="https://…"> <a href="#…">.

    >>> limited_html("a < b, <em>always</em> <script>")
    'a &lt; b, <em>always</em> &lt;script&gt;'
    """
    open_tags: list[str] = []

    def keep(match: re.Match[str]) -> str:
        closing, name, address, line_break = match.groups()
        if line_break:
            return "<br>"
        if address:
            open_tags.append("a")
            return f'<a href="{address}">'
        if not closing:
            open_tags.append(name)
        elif not open_tags or open_tags.pop() != name:
            raise ValueError(
                f"got </{name}> without its <{name}> in the text {text!r}; close tags in the order they were opened"
            )
        return f"<{closing}{name}>"

    kept = _TAG.sub(keep, html.escape(text))
    if open_tags:
        raise ValueError(f"got <{open_tags[-1]}> that is never closed in the text {text!r}; close it")
    return kept


def plain_text(text: str) -> str:
    """`text` without the tags that `limited_html` keeps: for a terminal.

    >>> plain_text("a < b, <em>always</em>")
    'a < b, always'
    """
    return html.unescape(re.sub(r"<[^>]*>", "", limited_html(text)))


def _shown(cell: TableCell) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
