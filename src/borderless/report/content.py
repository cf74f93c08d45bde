"""Hold the content of a page. No HTML but in `limited_html`: the template decides how things look."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

TableCell = str | int | float

# Levels of notes, as pages and terminals write them.
LEVELS = {"fail": "Fail", "warning": "Warning", "pass": "Pass", "info": "Info"}

_TAGS = "b|strong|i|em|code|sub|sup"
_TAG = re.compile(rf"&lt;(/?)({_TAGS}|a)&gt;|&lt;a href=&quot;((?:https?://|#)[^\s&]*)&quot;&gt;|&lt;(br)&gt;")


@dataclass(frozen=True)
class Figure:
    """A picture with its caption.

    Attributes:
        path: A PNG, JPEG, GIF or SVG file.
        caption: What it shows; with the tags that `limited_html` knows.
        alt: What somebody who cannot see it should know.
    """

    path: Path
    caption: str
    alt: str

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise ValueError(
                f"Expected an alternative text for the figure {self.path.name} but got none; say in a sentence what it "
                "shows, with alt=."
            )


@dataclass(frozen=True)
class Table:
    """A table. Floats are shown with four significant digits; pass a string to choose another form.

    Attributes:
        columns: The heads.
        rows: A cell for each column.
        caption: Text under it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[TableCell]]
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"Expected {len(self.columns)} cells, one per column, but got a row of {len(row)} cells, {row}; "
                    "complete it."
                )

    def text_rows(self) -> list[list[str]]:
        """Return the cells as they are shown."""
        return [[_shown(cell) for cell in row] for row in self.rows]

    def numeric_columns(self) -> list[bool]:
        """Return which columns have numbers only (also "98.5 ± 0.3" or "3.1×"), to be set flush right."""
        number = re.compile(r"^[≈<≤−+-]*\s*\d.*|^[-–−]?$|^nan$|^-?inf$")
        texts = self.text_rows()
        return [bool(texts) and all(number.match(row[i]) for row in texts) for i in range(len(self.columns))]


@dataclass(frozen=True)
class Note:
    """A sentence with a badge.

    Attributes:
        level: One of `LEVELS`.
        text: With the tags that `limited_html` knows.
        commands: Lines to paste into a terminal or into Python.
    """

    level: str
    text: str
    commands: Sequence[str] = ()


@dataclass(frozen=True)
class Card:
    """The first screen of a page: what was found, how sure it is, a look at it, and what to do next.

    Attributes:
        note: The finding.
        number: The number that it rests on, "" if there is none.
        label: What the number counts, with its interval.
        facts: Short lines about how it was measured.
        figures: At most two, side by side where there is room.
        next_step: What the command does.
        command: A line to paste into a terminal.
    """

    note: Note
    number: str = ""
    label: str = ""
    facts: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    next_step: str = ""
    command: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a page. Texts may have the tags that `limited_html` knows.

    Attributes:
        title: Its heading.
        text: Paragraphs.
        figures: After the paragraphs and the notes.
        tables: After the figures.
        result: What was found, in one line, under the heading and in the list of contents.
        notes: Sentences with badges, after the paragraphs.
    """

    title: str
    text: list[str] = field(default_factory=list[str])
    figures: list[Figure] = field(default_factory=list[Figure])
    tables: list[Table] = field(default_factory=list[Table])
    result: str = ""
    notes: list[Note] = field(default_factory=list[Note])


def limited_html(text: str) -> str:
    """Escape `text` and keep only <b> <strong> <i> <em> <code> <sub> <sup> <br> <a href="https://…"> <a href="#…">.

    Example:
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
            raise ValueError(f"Expected an open <{name}> before </{name}> but got {text!r}; close tags in their order.")
        return f"<{closing}{name}>"

    kept = _TAG.sub(keep, html.escape(text))
    if open_tags:
        raise ValueError(f"Expected every tag to be closed but got {text!r}; close <{open_tags[-1]}>.")
    return kept


def plain_text(text: str) -> str:
    """Return `text` without the tags that `limited_html` keeps, for a terminal.

    Example:
        >>> plain_text("a < b, <em>always</em>")
        'a < b, always'
    """
    return html.unescape(re.sub(r"<[^>]*>", "", limited_html(text)))


def _shown(cell: TableCell) -> str:
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
