"""The whole image moves: do two views of it get the same prediction?"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from borderless.auditing.parts import Compared
from borderless.auditing.result import Finding, Measurements
from borderless.auditing.subject import Subject
from borderless.measures.shift_consistency import Consistency, ProtocolName, consistency
from borderless.report.content import Section, Table
from borderless.report.numbers import with_interval

_VIEWS: dict[ProtocolName, str] = {
    "zhang2019": "two crops of the image",
    "circular": "two rolls of the image",
    "canvas": "two positions on an empty canvas",
}

NAME = "shifts"
NEEDS: tuple[str, ...] = ()
STEPS = {f"shifts, {protocol}": cost for protocol, cost in zip(_VIEWS, (3.0, 3.0, 4.0), strict=True)}
FROM_OUTSIDE = tuple(STEPS)
COMPARED: tuple[Compared, ...] = (
    ("same prediction, two crops, %", 100, ("zhang2019", "value")),
    ("same prediction, two positions, %", 100, ("canvas", "value")),
)


def measure(subject: Subject) -> dict[str, Any]:
    """Return `shifts`: the consistency by protocol; what could not be measured is left out."""
    found = {name: subject.step(f"shifts, {name}", partial(_consistency, subject, name)) for name in _VIEWS}
    return {"shifts": {name: one for name, one in found.items() if one is not None}}


def _consistency(subject: Subject, protocol: ProtocolName, tell: Callable[[float, float], Any]) -> Consistency:
    """Measure it with crops and canvases that differ from the images by an eighth of their sides."""
    return consistency(
        subject.model,
        subject.images,
        subject.labels,
        protocol,
        range_px=max(2, min(subject.size) // 8),
        passes=subject.passes,
        seed=subject.seed,
        background=subject.background,
        batch_size=subject.batch_size,
        workers=subject.workers,
        progress=tell,
    )


def findings(_: Measurements) -> list[Finding]:
    """Return none: no control tells how much of it the border causes."""
    return []


def section(audit: Measurements, _: Path) -> Section | None:
    """Return a table of the protocols."""
    shifts: dict[ProtocolName, Consistency] = audit.results.get("shifts", {})
    if not shifts:
        return None
    has_labels = all(found.fidelity is not None for found in shifts.values())
    rows = [
        [
            _VIEWS[name],
            f"{100 * found.value:.1f} ({100 * found.low:.0f}–{100 * found.high:.0f})",
            *([f"{100 * (found.fidelity or 0):.1f}"] if has_labels else []),
        ]
        for name, found in shifts.items()
    ]
    return Section(
        "The whole image moves",
        [
            "How often two views of the same image have the same prediction. Offsets are up to an eighth of the "
            "image's side. Crops lose and gain pixels at the edge, rolls cut the image apart, canvases do neither."
        ],
        tables=[
            Table(
                ["views", "same prediction, %", *(["same and right, %"] if has_labels else [])],
                rows,
                f"Of {audit.images} images; in brackets the 95 % interval over images.",
            )
        ],
        result=_in_one_line(shifts),
    )


def _in_one_line(shifts: dict[ProtocolName, Consistency]) -> str:
    name, found = next(iter(shifts.items()))
    return (
        f"{with_interval(found.value, found.low, found.high)} of the images have the same prediction in {_VIEWS[name]}."
    )


def record(audit: Measurements) -> dict[str, dict[str, float | None]]:
    """Return the consistency by protocol."""
    shifts: dict[ProtocolName, Consistency] = audit.results.get("shifts", {})
    return {
        name: {"value": one.value, "low": one.low, "high": one.high, "fidelity": one.fidelity}
        for name, one in shifts.items()
    }
