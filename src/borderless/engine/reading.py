"""Reading the cells of a box: from what is stored, and outside it from the background, mirrored, or of one value.

Shapes: cells (N, C, *space); `axes` are the dimensions of space; boxes hold [start, stop) an axis.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.engine.edge import Around
from borderless.engine.geometry import Box, Mirroring, cover, outside_indices
from borderless.engine.padding import pad


def read_around(
    cells: Tensor,
    axes: tuple[int, ...],
    stored: Box,
    wanted: Box,
    frame: Sequence[int],
    around: tuple[Around, ...],
    background: Tensor | None,
) -> Tensor:
    """Return the cells of `wanted`, from `cells` stored on `stored`; outside lies what `around` says of each axis."""
    for kind in dict.fromkeys(around):
        each = zip(around, stored, wanted, strict=True)
        box = tuple([want if kind == own else have for own, have, want in each])
        if kind == "background":
            cells = read(cells, axes, stored, box, background)
        elif isinstance(kind, str):
            cells = read_mirrored(cells, axes, stored, box, frame, kind)
        else:
            cells = read(cells, axes, stored, box, cells.new_full([1] * cells.ndim, kind) if kind else None)
        stored = box
    return cells


def read(cells: Tensor, axes: tuple[int, ...], stored: Box, wanted: Box, background: Tensor | None) -> Tensor:
    """Return the cells of `wanted`, from `cells` stored on `stored`, with background (None: 0) outside of it."""
    missing = []
    for axis, have, want in zip(axes, stored, wanted, strict=True):
        (a, b), before, after = cover(have, want)
        if (a, b) != have:
            cells = cells.narrow(axis, a - have[0], b - a)
        missing.append((before, after))
    if not any(before or after for before, after in missing):
        return cells
    return pad(
        cells, axes, missing, background, [a + before for (a, _), (before, _) in zip(wanted, missing, strict=True)]
    )


def read_mirrored(
    cells: Tensor, axes: tuple[int, ...], stored: Box, wanted: Box, frame: Sequence[int], outside: Mirroring
) -> Tensor:
    """Return the cells of `wanted`, of a map that goes on outside its `frame` by mirroring, repeating or going round.

    Along an axis where cells outside are wanted, those that stand for them are stored.
    """
    missing = [(have[0] - want[0], want[1] - have[1]) for have, want in zip(stored, wanted, strict=True)]
    is_native = axes == tuple(range(2, cells.ndim)) and len(axes) <= 3 and cells.is_floating_point()
    for (before, after), have, n in zip(missing, stored, frame, strict=True):
        if before == after == 0:
            continue
        most = {"reflect": n - 1, "replicate": before + after, "circular": n}[outside]
        is_native = is_native and have == (0, n) and 0 <= min(before, after) <= max(before, after) <= most
    if outside == "reflect" and cells.is_cuda and torch.are_deterministic_algorithms_enabled():
        is_native = False  # PyTorch has no deterministic gradient for it
    # Several times faster than to gather; PyTorch's own circular padding alone would lose channels last.
    if is_native and outside != "circular":
        return F.pad(cells, [amount for pair in reversed(missing) for amount in pair], outside)
    if is_native:
        for axis, (before, after), n in zip(axes, missing, frame, strict=True):
            around = [cells.narrow(axis, n - before, before)] if before else []
            around += [cells, *([cells.narrow(axis, 0, after)] if after else [])]
            cells = torch.cat(around, axis) if before or after else cells
        return cells
    for axis, n, have, want in zip(axes, frame, stored, wanted, strict=True):
        if want == have:
            continue
        if have[0] <= want[0] and want[1] <= have[1]:
            cells = cells.narrow(axis, want[0] - have[0], want[1] - want[0])
        else:
            indices = [i - have[0] for i in outside_indices(want, n, outside)]
            cells = cells.index_select(axis, torch.tensor(indices, device=cells.device))
    return cells


def thin(cells: Tensor, axes: Sequence[int], steps: Sequence[int]) -> Tensor:
    """Every `steps[i]`-th cell along axis `axes[i]`, from the first: a view."""
    for axis, step in zip(axes, steps, strict=True):
        if step != 1:
            cells = cells[(slice(None),) * axis + (slice(None, None, step),)]
    return cells


def cut(cells: Tensor, axes: Sequence[int], stored: Box, box: Box) -> Tensor:
    """Return the cells of `box`, a part of `stored`."""
    for axis, (first, _), (a, b) in zip(axes, stored, box, strict=True):
        cells = cells.narrow(axis, a - first, b - a)
    return cells
