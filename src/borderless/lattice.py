"""The grid that a map lives on, and the phase of every stride: which of the sublattices a strided operation keeps.

A strided operation leaves a map on a coarser lattice, upsampling on a finer one. Under the fixed phase every sample
keeps the sublattice 0. Under the adaptive phase (Chaman and Dokmanic, CVPR 2021) each sample keeps the one on which the
operation's input deviates most, in energy, from its background. The first strided operation decides; later ones on the
same lattice follow, also in several steps or in one, so parallel branches stay aligned. A phase stands for a residue
class of cells; it is the member between -factor and factor that lets the map grow least. Upsampling back to a lattice
that the map came from undoes the phases in between.

Shapes: N samples, D spatial axes.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.cells import Shift
from borderless.geometry import Box, Slide

if TYPE_CHECKING:
    from borderless.signal import Signal

Stride = tuple[int | Fraction, ...]
# Energies closer than this, relative to the largest, are equal but for rounding.
TIE = 1e-4
_ROUND_UP_ABOVE = (math.sqrt(5) - 1) / 2


class Lattice:
    """The cells i · stride + offset, in input pixels.

    stride: for each axis, a fraction where a map is finer than the image. offset: integers (N, D), or None: all 0.
    offsets: for each axis, the smallest and the largest offset that there can be. parent: the finer lattice that this
    one is a part of.
    """

    __slots__ = ("_coarser", "_finer", "_projections", "offset", "offsets", "parent", "stride")

    def __init__(
        self,
        stride: Stride,
        offset: Tensor | None = None,
        offsets: Box | None = None,
        parent: "Lattice | None" = None,
    ) -> None:
        self.stride = stride
        self.offset = offset
        self.offsets = offsets or ((0, 0),) * len(stride)
        self.parent = parent
        self._coarser: list[Lattice] = []
        self._finer: dict[Stride, Lattice] = {}
        self._projections: dict[int, Lattice] = {}

    def is_same(self, other: "Lattice") -> bool:
        """Whether cells of equal number are the same place on both, in every sample."""
        return self is other or (self.offset is None and other.offset is None and self.stride == other.stride)

    def coarser(self, factor: tuple[int, ...]) -> "Lattice | None":
        """The part of this lattice, `factor` times coarser, that an earlier strided operation chose, if one did."""
        stride = _times(self.stride, factor)
        return next((below for below in self._below() if below.stride == stride), None)

    def implied_class(self, factor: tuple[int, ...]) -> Tensor | None:
        """(N, D): the residue class that an earlier, longer stride has decided for this factor already, if one has."""
        stride = _times(self.stride, factor)
        below = next((below for below in self._below() if _divides(stride, below.stride)), None)
        distance = None if below is None else self.distance_to(below)
        return None if distance is None else distance % torch.tensor(factor, device=distance.device)

    def coarsen(self, factor: tuple[int, ...], phase: Tensor | None, largest: tuple[int, ...]) -> "Lattice":
        """A new part of this lattice: of every `factor` cells the one at `phase` (N, D) (None: the first).

        largest: of the phases; the smallest is `factor` - 1 less.
        """
        offset, offsets = self.offset, self.offsets
        if phase is not None:
            step = phase * torch.tensor(self.stride, device=phase.device)
            offset = step if offset is None else offset + step
            offsets = tuple(
                (low + (most - f + 1) * int(s), high + most * int(s))
                for (low, high), f, most, s in zip(offsets, factor, largest, self.stride, strict=True)
            )
        made = Lattice(_times(self.stride, factor), offset, offsets, self)
        for below in [b for b in self._coarser if _divides(made.stride, b.stride)]:  # whose phase this one follows
            self._coarser.remove(below)
            made._coarser.append(below)
            below.parent = made
        self._coarser.append(made)
        return made

    def finer(self, factor: tuple[int, ...]) -> "Lattice":
        """The lattice of a map upsampled by `factor`: one that this is a part of, or else a new one.

        A new one has its cell 0 where the next coarser lattice above this one has it.
        """
        stride = _times(self.stride, tuple(Fraction(1, f) for f in factor))
        above = self
        while above.stride != stride and above.parent is not None and _divides(stride, above.parent.stride):
            above = above.parent
        if above.stride == stride:
            return above
        if stride not in above._finer:
            made = above._finer[stride] = Lattice(stride, above.offset, above.offsets, above.parent)
            made._coarser.append(above)
        return above._finer[stride]

    def distance_to(self, below: "Lattice") -> Tensor | None:
        """(N, D): on which cell of this lattice each sample's cell 0 of `below`, a part of it, sits; None: all on 0."""
        if below.offset is None:
            return None
        pixels = below.offset if self.offset is None else below.offset - self.offset
        stride = [Fraction(s) for s in self.stride]
        up = torch.tensor([s.numerator for s in stride], device=pixels.device)
        down = torch.tensor([s.denominator for s in stride], device=pixels.device)
        return torch.div(pixels * down, up, rounding_mode="floor")

    def shift_to(self, below: "Lattice") -> Shift | None:
        """How cells of this lattice are renumbered for `below`, a part of it; None: not at all."""
        distance = self.distance_to(below)
        if distance is None:
            return None
        bounds = [
            (int((low - here_low) / Fraction(s)), int((high - here_high) / Fraction(s)))
            for (low, high), (here_low, here_high), s in zip(below.offsets, self.offsets, self.stride, strict=True)
        ]
        return Shift(distance, tuple(low for low, _ in bounds), tuple(high for _, high in bounds))

    def without(self, index: int) -> "Lattice":
        """The same grid after its `index`-th axis was summed over; always the same object for the same axis."""
        if index not in self._projections:
            self._projections[index] = Lattice(tuple(s for i, s in enumerate(self.stride) if i != index))
        return self._projections[index]

    def _below(self) -> "Iterator[Lattice]":
        for lattice in self._coarser:
            yield lattice
            yield from lattice._below()

    def __repr__(self) -> str:
        stride = ", ".join(map(str, self.stride))
        return f"Lattice(stride=({stride}), phase={'fixed' if self.offset is None else 'per sample'})"


class Settled(NamedTuple):
    """Where a strided operation leaves a map, and how the cells that it reads are renumbered for that (None: not).

    deviation: of the map from its background, if it had to be computed to choose.
    """

    lattice: Lattice
    shift: Shift | None = None
    deviation: Tensor | None = None


def settle(signal: "Signal", slides: tuple[Slide, ...]) -> Settled:
    """The lattice that a sliding operation leaves `signal` on, chosen now unless it was chosen before."""
    lattice = signal.lattice
    factor = tuple([slide.stride for slide in slides])
    if max(factor) == 1:
        return Settled(lattice)
    coarse, deviation = lattice.coarser(factor), None
    if coarse is None:
        phase, largest = None, tuple(f - 1 for f in factor)
        if signal.border.is_adaptive:
            if not all(isinstance(s, int) for s in lattice.stride):
                raise signal.scope.unsupported(
                    "a strided operation", "phase='adaptive' chooses among whole pixels, and this map is finer"
                )
            phase = lattice.implied_class(factor)
            if phase is None:
                deviation = signal.deviation()
                phase = choose_phase(deviation, signal.axes, signal.start, factor)
            if signal.border.keeps == "touching":
                largest = tuple(s.cheapest_phase(window) for s, window in zip(slides, signal.box, strict=True))
                bound = torch.tensor(largest, device=phase.device)
                phase = torch.where(phase > bound, phase - torch.tensor(factor, device=phase.device), phase)
        coarse = lattice.coarsen(factor, phase, largest)
    return Settled(coarse, lattice.shift_to(coarse), deviation)


def unsettle(lattice: Lattice, factor: tuple[int, ...]) -> tuple[Lattice, Shift | None]:
    """The lattice of a map of `lattice` upsampled by `factor`, and how its cells are renumbered (None: not)."""
    fine = lattice.finer(factor)
    shift = fine.shift_to(lattice)
    if shift is None or not any((*shift.low, *shift.high)):
        return fine, None
    return fine, Shift(-shift.by, tuple(-high for high in shift.high), tuple(-low for low in shift.low))


@torch.no_grad()
def choose_phase(deviation: Tensor, axes: tuple[int, ...], start: tuple[int, ...], factor: tuple[int, ...]) -> Tensor:
    """Return (N, D): per sample, the residue class of frame indices on which the map deviates most from its background.

    The choice moves with the map, whatever is on it. Classes whose energy is within `TIE` of the largest are tied, as
    those of uniform, symmetric and periodic objects are; among them the first one is taken that follows the centroid
    of the energy. A centroid is rounded at a fraction that is the golden ratio's: symmetric objects have their centroid
    at simple fractions of a cell, and no number keeps farther from all of those.

    Args:
        deviation: (N, C, *window), the map less its background.
        axes: the spatial dimensions of `deviation`.
        start: frame indices of the window's first cell.
        factor: stride of the operation along each axis.
    """
    inner = tuple(i for i in range(1, deviation.ndim) if i not in axes)
    dtype = torch.float32 if deviation.dtype in (torch.float16, torch.bfloat16) else deviation.dtype
    if inner:
        energy = torch.linalg.vector_norm(deviation, dim=inner, dtype=dtype).square()  # (N, *window)
    else:
        energy = deviation.to(dtype).square()
    energy = energy.to(torch.float32 if energy.device.type == "mps" else torch.float64)
    by_class = _energy_by_class(energy, start, factor)
    largest = by_class.amax(tuple(range(1, by_class.ndim)), keepdim=True)
    rank = torch.zeros_like(by_class, dtype=torch.int64)
    for i, (first, f) in enumerate(zip(start, factor, strict=True)):
        others = tuple(1 + j for j in range(len(factor)) if j != i)
        along = energy.sum(others) if others else energy  # (N, size)
        cells = torch.arange(first, first + along.shape[1], device=along.device, dtype=along.dtype)
        centroid = ((along * cells).sum(1) / along.sum(1)).nan_to_num()  # of an empty map: 0
        nearest = torch.ceil(centroid - _ROUND_UP_ABOVE).long()
        shape = [f if j == i else 1 for j in range(len(factor))]
        behind = (torch.arange(f, device=along.device) - nearest[:, None]).remainder(f)
        rank = rank * f + behind.reshape(-1, *shape)
    index = torch.where(by_class >= (1 - TIE) * largest, rank, math.prod(factor)).flatten(1).argmin(1)
    phase: list[Tensor] = []
    for f in reversed(factor):
        phase.insert(0, index % f)
        index = index // f
    return torch.stack(phase, 1)


def _energy_by_class(energy: Tensor, start: tuple[int, ...], factor: tuple[int, ...]) -> Tensor:
    """Return (N, *factor): the energy (N, *window) summed over each residue class of frame indices."""
    padding: list[int] = []
    folded: list[int] = [energy.shape[0]]
    for first, size, f in reversed(list(zip(start, energy.shape[1:], factor, strict=True))):
        before = first % f
        blocks = -(-(before + size) // f)
        padding += [before, blocks * f - before - size]
        folded[1:1] = [blocks, f]
    return F.pad(energy, padding).reshape(folded).sum([1 + 2 * i for i in range(len(factor))])


def _times(stride: Stride, factor: tuple[int | Fraction, ...]) -> Stride:
    products = (Fraction(s) * f for s, f in zip(stride, factor, strict=True))
    return tuple(int(p) if p.denominator == 1 else p for p in products)


def _divides(finer: Stride, coarser: Stride) -> bool:
    return all((Fraction(c) / f).denominator == 1 for f, c in zip(finer, coarser, strict=True))
