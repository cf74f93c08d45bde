"""The grid that a map lives on, and the phase of every stride: which of the sublattices a strided operation keeps.

A strided operation leaves a map on a coarser *child* lattice. Under the fixed phase every sample keeps the sublattice
0. Under the adaptive phase (Chaman and Dokmanic, CVPR 2021) each sample keeps the one on which the operation's input
deviates most, in energy, from its background; the first strided operation on a lattice decides and later ones with the
same factor follow, so parallel branches stay aligned.

Shapes: N samples, D spatial axes. A phase is an integer tensor (N, D) with entries in [0, factor).
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.errors import ImageError
from borderless.geometry import Box, ceil_div, clip

if TYPE_CHECKING:
    from borderless.signal import Signal


class Lattice:
    """Every `stride`-th pixel of the input along each axis; `parent`, `factor` and `phase` say how it came about."""

    __slots__ = ("_children", "_projections", "factor", "parent", "phase", "stride")

    def __init__(
        self,
        stride: tuple[int, ...],
        parent: "Lattice | None" = None,
        factor: tuple[int, ...] | None = None,
        phase: Tensor | None = None,
    ) -> None:
        self.stride = stride
        self.parent = parent
        self.factor = factor or (1,) * len(stride)
        self.phase = phase
        self._children: dict[tuple[int, ...], Lattice] = {}
        self._projections: dict[int, Lattice] = {}

    def child(self, factor: tuple[int, ...]) -> "Lattice | None":
        """The lattice that an earlier strided operation with this factor made, if there was one."""
        return self._children.get(factor)

    def add_child(self, factor: tuple[int, ...], phase: Tensor | None) -> "Lattice":
        stride = tuple(s * f for s, f in zip(self.stride, factor, strict=True))
        child = self._children[factor] = Lattice(stride, self, factor, phase)
        return child

    def without(self, index: int) -> "Lattice":
        """The same grid after its `index`-th axis was summed over; always the same object for the same axis."""
        if index not in self._projections:
            self._projections[index] = Lattice(tuple(s for i, s in enumerate(self.stride) if i != index))
        return self._projections[index]

    def offset_px(self) -> Tensor | None:
        """(N, D): the input pixel on which each sample's cell 0 sits; None under the fixed phase (all zeros)."""
        if self.parent is None or self.phase is None:
            return None
        above = self.parent.offset_px()
        here = self.phase * torch.tensor(self.parent.stride, device=self.phase.device)
        return here if above is None else here + above

    def __repr__(self) -> str:
        return f"Lattice(stride={self.stride}, phase={'fixed' if self.phase is None else 'per sample'})"


def enter(signal: "Signal", factor: tuple[int, ...]) -> "tuple[Signal, Lattice]":
    """Prepare `signal` for a strided operation: re-based to the kept sublattice, and the lattice of the result."""
    lattice = signal.lattice
    if all(f == 1 for f in factor):
        return signal, lattice
    child = lattice.child(factor)
    if child is None:
        phase = choose_phase(signal, factor) if signal.border.is_adaptive else None
        child = lattice.add_child(factor, phase)
    return (signal if child.phase is None else rebase(signal, child.phase, factor)), child


@torch.no_grad()
def choose_phase(signal: "Signal", factor: tuple[int, ...]) -> Tensor:
    """(N, D): per sample, the residue class of frame indices on which the map deviates most from its background.

    Energies are summed in float32 at least. Ties go to the first class in row-major order.
    """
    deviation = signal.window if signal.background is None else signal.window - signal.background
    if deviation.dtype in (torch.float16, torch.bfloat16):
        deviation = deviation.float()
    inner = tuple(i for i in range(1, deviation.ndim) if i not in signal.axes)
    energy = deviation.square().sum(inner) if inner else deviation.square()  # (N, *window)
    padding: list[int] = []
    folded: list[int] = [energy.shape[0]]
    for start, size, f in reversed(list(zip(signal.start, energy.shape[1:], factor, strict=True))):
        before = start % f
        blocks = ceil_div(before + size, f)
        padding += [before, blocks * f - before - size]
        folded[1:1] = [blocks, f]
    axes = range(len(factor))
    by_class = F.pad(energy, padding).reshape(folded).sum([1 + 2 * i for i in axes])  # (N, *factor)
    index = by_class.flatten(1).argmax(1)
    phase: list[Tensor] = []
    for f in reversed(factor):
        phase.insert(0, index % f)
        index = index // f
    return torch.stack(phase, 1)


def rebase(signal: "Signal", phase: Tensor, factor: tuple[int, ...]) -> "Signal":
    """Renumber each sample's cells so that the frame index i + phase becomes i; all samples share one window.

    A map that may grow gets factor - 1 more cells in front; a `valid` one loses as many at the end.
    """
    box, window = [], []
    for (a, b), n, f in zip(signal.box, signal.frame, factor, strict=True):
        match signal.border.keeps:
            case "touching":
                kept = clip((a - (f - 1), b), n, signal.border.reach)
            case "frame":
                kept = (0, n)
            case "inside":
                kept = (a, b - (f - 1))
                if kept[0] >= kept[1]:
                    raise ImageError(
                        f"got a map with {b - a} cells along an axis where stride {f} chooses among {f} sublattices, "
                        f"under the border 'valid' with phase='adaptive'; at least {f} cells are needed: use a larger "
                        "image, or phase='fixed'"
                    )
        window.append(kept)
        box.append((kept[0], kept[1] + f - 1))
    cells = signal.read(tuple(box))
    for i, (axis, f) in enumerate(zip(signal.axes, factor, strict=True)):
        length = window[i][1] - window[i][0]
        cut = cells.narrow(axis, 0, length)
        for r in range(1, f):
            chosen = (phase[:, i] == r).reshape(-1, *[1] * (cells.ndim - 1))
            cut = torch.where(chosen, cells.narrow(axis, r, length), cut)
        cells = cut
    return signal.derive(cells, signal.background, box=_as_box(window))


def _as_box(window: list[tuple[int, int]]) -> Box:
    return tuple(window)
