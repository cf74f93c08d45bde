"""Read from the layers alone: strides, receptive field, costs, uneven padding, and what reads position.

With the rows and columns of pixels that no output depends on (Alsallakh et al., Mind the Pad, ICLR 2021).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from borderless.auditing.parts import Compared
from borderless.auditing.result import Finding, Measurements
from borderless.auditing.subject import Subject
from borderless.engine.border import BorderName
from borderless.explanation import PositionRead, explain
from borderless.measures.uneven_padding import Influence, UnevenPadding, even_sizes, influence, uneven_padding
from borderless.report.content import Section, Table

NAME = "layout"
NEEDS: tuple[str, ...] = ()
STEPS = {"layout": 10.0, "influence": 1.0}
COMPARED: tuple[Compared, ...] = (("cost of infinite, ×", 1, ("costs", "infinite")),)

_MOST_ROWS, _INFLUENCE_IMAGES = 12, 4
_BORDERS: tuple[BorderName, ...] = ("zero", "full", "infinite")


@dataclass(frozen=True)
class NetworkLayout:
    """Strides, sizes and costs of a network.

    Attributes:
        total_stride_px: Of the last feature map, (rows, columns).
        receptive_field_px: Of the last feature map, (height, width).
        macs: Multiply-adds per image under the original padding.
        costs: Multiply-adds under each border, relative to the original padding.
        position_reads: Where the model reads absolute position by itself.
        uneven: Operations that pad the two ends of an axis differently.
        even_sizes: Sides of images near this one without uneven padding.
    """

    total_stride_px: tuple[int, ...]
    receptive_field_px: tuple[int, ...]
    macs: int
    costs: dict[str, float]
    position_reads: tuple[PositionRead, ...]
    uneven: tuple[UnevenPadding, ...]
    even_sizes: tuple[int, ...]


def measure(subject: Subject) -> dict[str, Any]:
    """Return `layout` and `influence`."""
    layout = subject.step("layout", lambda tell: _layout(subject, tell))
    unread = subject.step(
        "influence", lambda _: influence(subject.model, subject.first[:_INFLUENCE_IMAGES], subject.seed)
    )
    return {"layout": layout, "influence": unread}


def _layout(subject: Subject, tell: Callable[[float, float], Any]) -> NetworkLayout:
    model, size, channels = subject.body, subject.size, subject.first.shape[1]
    explained = {}
    for i, name in enumerate(_BORDERS):
        tell(i, len(_BORDERS) + 2)
        explained[name] = explain(model, size, name, channels=channels, tiles=False)
    tell(len(_BORDERS), len(_BORDERS) + 2)
    own = explained["zero"]
    return NetworkLayout(
        total_stride_px=tuple(int(s) for s in own.total_stride),
        receptive_field_px=tuple(int(f) for f in own.receptive_field),
        macs=own.macs_own,
        costs={name: one.cost for name, one in explained.items()},
        position_reads=explained["infinite"].position_reads,
        uneven=uneven_padding(model, size, channels),
        even_sizes=tuple(even_sizes(model, size, channels)),
    )


def findings(audit: Measurements) -> list[Finding]:
    """Return what reads position, pixels that nothing depends on, and uneven padding."""
    layout: NetworkLayout | None = audit.results.get("layout")
    unread: Influence | None = audit.results.get("influence")
    found = [] if layout is None else [_position_read(read) for read in layout.position_reads]
    if unread is not None:
        for axis, lines, size in zip(
            ("rows", "columns"), (unread.unread_rows, unread.unread_columns), audit.size, strict=True
        ):
            found += [_blind(axis, lines, size)] if lines else []
    if layout is not None and layout.uneven:
        found.append(_uneven(layout, audit.size))
    return found


def _position_read(read: PositionRead) -> Finding:
    return Finding(
        "position-read",
        "fail",
        f"{read.module or 'The model itself'} reads absolute position: {read.operation}; {read.reason}.",
        {"module": read.module, "operation": read.operation},
        "No border helps against what is read by design. Replace the module: a global pool instead of a flattened "
        "feature map, no position embedding.",
    )


def _blind(axis: str, lines: list[int], size: int) -> Finding:
    return Finding(
        f"blind-{axis}",
        "fail",
        f"No output depends on the pixels of {axis[:-1] if len(lines) == 1 else axis} {_ranges(lines)} (of {size}).",
        {"lines": lines},
        "Choose a size of image on which every cell is read (see the sizes below).",
    )


def _uneven(layout: NetworkLayout, size: tuple[int, int]) -> Finding:
    modules = list(dict.fromkeys(one.module for one in layout.uneven))
    where = f"{', '.join(modules[:3])}{' …' if len(modules) > 3 else ''}"
    return Finding(
        "uneven-padding",
        "warning",
        f"On {_by(size)} pixels, {len(modules)} {'layer pads' if len(modules) == 1 else 'layers pad'} the "
        f"start and the end of an axis differently ({where}).",
        {"modules": modules, "even_sizes": list(layout.even_sizes)},
        f"Images of {' or '.join(f'{n} × {n}' for n in layout.even_sizes)} px have no uneven padding."
        if layout.even_sizes
        else "No size within 32 px of this one has even padding only.",
    )


def section(audit: Measurements, _: Path) -> Section | None:
    """Return strides and receptive field, and a table of uneven padding."""
    layout: NetworkLayout | None = audit.results.get("layout")
    if layout is None:
        return None
    text = [
        f"Total stride {_by(layout.total_stride_px)} px, receptive field {_by(layout.receptive_field_px)} px, "
        f"{layout.macs / 1e9:.2f} · 10⁹ multiply-adds per image of {_by(audit.size)} px.",
        "Padding depends on the size of the image: where a stride does not come out even, the last window reads less "
        "padding than the first, or leaves cells unread (Alsallakh et al., 2021)." + (_sizes(layout, audit.size)),
    ]
    rows = [
        [one.module or one.operation, one.axis, one.cells, one.before, str(one.after) if one.after >= 0 else "unread"]
        for one in layout.uneven[:_MOST_ROWS]
    ]
    count = len(layout.uneven)
    caption = f"The first {_MOST_ROWS} of {count}; all are in audit.json." if count > _MOST_ROWS else ""
    tables = [Table(["layer", "axis", "cells", "padding before", "after"], rows, caption)]
    result = f"Total stride {_by(layout.total_stride_px)} px, receptive field {_by(layout.receptive_field_px)} px."
    return Section("Stride, receptive field and padding", text, tables=tables if rows else [], result=result)


def _sizes(layout: NetworkLayout, size: tuple[int, int]) -> str:
    """Return which sizes have no uneven padding."""
    if not layout.uneven:
        return f" Images of {_by(size)} px have no uneven padding."
    others = ", ".join(str(side) for side in layout.even_sizes if (side, side) != size)
    if others:
        return f" Sizes near this one without uneven padding: {others} px."
    return " No size within 32 px of this one has even padding only."


def record(audit: Measurements) -> dict[str, Any] | None:
    """Return the layout, with the rows and columns that nothing depends on."""
    layout: NetworkLayout | None = audit.results.get("layout")
    unread: Influence | None = audit.results.get("influence")
    if layout is None:
        return None
    return {
        "total_stride_px": layout.total_stride_px,
        "receptive_field_px": layout.receptive_field_px,
        "macs": layout.macs,
        "costs": layout.costs,
        "position_reads": [asdict(read) for read in layout.position_reads],
        "uneven_padding": [asdict(one) for one in layout.uneven],
        "even_sizes": layout.even_sizes,
        "unread_rows": None if unread is None else unread.unread_rows,
        "unread_columns": None if unread is None else unread.unread_columns,
    }


def _by(sizes: tuple[int, ...]) -> str:
    return " × ".join(map(str, sizes))


def _ranges(lines: list[int]) -> str:
    """Write numbers, runs of them as from–to."""
    runs: list[list[int]] = []
    for line in lines:
        if runs and line == runs[-1][-1] + 1:
            runs[-1][1:] = [line]
        else:
            runs.append([line])
    shown = [str(run[0]) if len(run) == 1 else f"{run[0]}–{run[1]}" for run in runs]
    return ", ".join(shown[:6]) + (" …" if len(shown) > 6 else "")
