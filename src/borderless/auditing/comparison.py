"""Put two audits side by side: a page of two records (see `record`), of any machine and any version that they name."""

from pathlib import Path
from typing import Any

from borderless.auditing.page import LEAD
from borderless.auditing.parts import Compared, discover, in_order
from borderless.auditing.record import FILE
from borderless.auditing.verdict import RANDOM
from borderless.report.content import Note, Section, Table
from borderless.report.numbers import safe
from borderless.report.page import write

# The parts in the order of their rows; others follow.
_ORDER = ("sensitivity", "zones", "margin", "shifts", "border_error", "layout")


def write_comparison(one: dict[str, Any], other: dict[str, Any], path: Path) -> tuple[Path, list[Table]]:
    """Write a page with two records side by side; returns its path and its tables."""
    names = [_name(record) for record in (one, other)]
    if names[0] == names[1]:
        names = [f"{name} ({letter})" for name, letter in zip(names, "AB", strict=True)]
    rows = [[title, *(_cell(record, factor, keys) for record in (one, other))] for title, factor, keys in _compared()]
    table = Table(["", *names], rows, "– was not measured, or is not in a record of that version.")
    notes = []
    images = [(r["images"]["count"], r["images"]["size"], r["seed"]) for r in (one, other)]
    if images[0] != images[1]:
        described = [f"{count} of {' × '.join(map(str, size))} px, seed {seed}" for count, size, seed in images]
        notes.append(Note("warning", f"The audits used other images: {described[0]}, and {described[1]}."))
    sections = [Section("Side by side", tables=[table], notes=notes)]
    for name, record in zip(names, (one, other), strict=True):
        findings = [Note(finding["level"], finding["text"]) for finding in record["findings"]]
        sections.append(Section(name, notes=findings))
    page = write(sections, path, f"{names[0]} and {names[1]}", LEAD, f"From two {FILE}.")
    return page, [table]


def _name(record: dict[str, Any]) -> str:
    name = safe(record["model"]["name"])
    return f"{name} ({RANDOM})" if record["model"].get("has_random_weights") else name


def _compared() -> list[Compared]:
    """Return the rows: title, factor, and where in the record the number is."""
    parts = in_order(discover().values(), lambda part: part.NAME, _ORDER)
    rows = [(title, factor, (part.NAME, *keys)) for part in parts for title, factor, keys in part.COMPARED]
    return [*rows, ("accuracy on these images, %", 100, ("images", "accuracy"))]


def _cell(record: dict[str, Any], factor: float, keys: tuple[str, ...]) -> str:
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        return "–"
    return f"{factor * value:.3g}" if not isinstance(value, str) else value
