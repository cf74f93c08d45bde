"""The grids that maps live on, and the phase of every stride: which of the sublattices a strided operation keeps.

A strided operation leaves a map on a coarser lattice, upsampling on a finer one. The lattices of one image are a
family: one for each stride, and every two of them share cells, so whichever operations lead to a stride, in whatever
order, they lead to the same cells, and parallel branches stay aligned.

Under the fixed phase every sample keeps the sublattice 0. Under the adaptive phase (Chaman and Dokmanic, CVPR 2021)
each sample keeps one of the sublattices that share cells with the whole family (see `phase`). A phase stands for a
residue class of cells; it is the member between -factor and factor that lets the map grow least. Upsampling back to a
lattice of the family undoes the phases between.

Shapes: N samples, D spatial axes.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm

import torch
from torch import Tensor

from borderless.engine.geometry import Box, ceil_div
from borderless.engine.shifting import Shift

Stride = tuple[int | Fraction, ...]


class Family(dict[Stride, "Lattice"]):
    """The lattices of the images of one batch, by their strides.

    origin: of the rows of which family, in order, the rows of this batch are; its own all, or None, where nobody asked.
    selections: the families of other batches of its rows. sources: of which rows of which lattices each is.
    """

    def __init__(self, origin: "tuple[Family, tuple[int, ...]] | None" = None) -> None:
        super().__init__()
        self.origin = origin
        self.selections: dict[tuple[int, ...], Family] = {}
        self.sources: dict[Stride, list[tuple[Lattice, tuple[int, ...]]]] = {}

    def of_all_rows(self) -> "list[Lattice]":
        """Return the lattices of the family, and of all batches of its rows."""
        return [*self.values(), *(lattice for family in self.selections.values() for lattice in family.of_all_rows())]

    def enter(self, lattice: "Lattice", apart: dict[Stride, Box]) -> None:
        """Take `lattice` into the family; apart: how far, in pixels, the others of it are, at least and at most.

        Those that it does not name are as far away as the nearest known way through another one says.
        """
        for stride, other in self.items():
            if (box := apart.get(stride)) is None:
                ways = [
                    tuple((a + c, b + d) for (a, b), (c, d) in zip(box, self[via].pixels_to(stride), strict=True))
                    for via, box in apart.items()
                    if via in self
                ]
                box = min(ways, key=lambda way: sum(high - low for low, high in way))
            lattice.apart[stride] = box
            other.apart[lattice.stride] = tuple((-high, -low) for low, high in box)
        lattice.family = self
        self[lattice.stride] = lattice


class Lattice:
    """The cells i · stride + offset, in input pixels.

    stride: for each axis, a fraction where a map is finer than the image. offset: integers (N, D), or None: all 0.
    family: the lattices of one image by their strides, this one among them. axes: which of the image's axes its own
    are, where it is that of a line or of a transposed map, None: all of them in order.
    """

    __slots__ = ("_lines", "_source", "_transposed", "apart", "axes", "family", "offset", "stride")

    def __init__(
        self,
        stride: Stride,
        offset: Tensor | None = None,
        family: Family | None = None,
        axes: tuple[int, ...] | None = None,
    ) -> None:
        self.stride = stride
        self.offset = offset
        self.axes = axes
        self.family = Family() if family is None else family
        self.family[stride] = self
        # By how many pixels, at least and at most, the offset of another of the family exceeds this one's (else 0).
        self.apart: dict[Stride, Box] = {}
        self._lines: dict[int, Lattice] = {}
        self._transposed: dict[tuple[int, ...], Lattice] = {}
        self._source: tuple[Lattice, tuple[int, ...]] | None = None  # which this is with its axes in another order

    @property
    def total_stride(self) -> tuple[int, ...]:
        """The smallest shift, in pixels, along each axis that moves every lattice of the family onto itself."""
        along = self._total_stride()
        if self.axes is None or sorted(self.axes) != list(range(len(along))):
            return along
        return tuple(along[self.axes.index(i)] for i in range(len(along)))  # in the order of the image's axes

    def _total_stride(self) -> tuple[int, ...]:
        lattices = self.family.of_all_rows()
        strides: list[Stride] = [lattice.stride for lattice in lattices]
        for lattice in lattices:
            for order, transposed in lattice._transposed.items():
                along = transposed._total_stride()
                strides.append(tuple(along[order.index(i)] for i in range(len(order))))
            for index, line in lattice._lines.items():
                along = line._total_stride()
                strides.append((*along[:index], 1, *along[index:]))
        return tuple(lcm(*(s.numerator for s in axis)) for axis in zip(*strides, strict=True))

    def is_same(self, other: "Lattice") -> bool:
        """Return whether cells of equal number have the same position on both, in every sample."""
        if self is other:
            return True
        return self.offset is other.offset is None and self.stride == other.stride and self.axes == other.axes

    def find_coarser(self, factor: tuple[int, ...]) -> "Lattice | None":
        """Return the part of this lattice that is `factor` times coarser, if the family has it already."""
        return self.family.get(_times(self.stride, factor))

    def known_class(self, factor: tuple[int, ...]) -> tuple[list[Tensor | int], tuple[int, ...]]:
        """Return the family's constraint on the phase of a new part: for each axis, it is residue (N) modulo a number.

        The number divides `factor`; it is 1 where all phases are left to choose from.
        """
        residues: list[Tensor | int] = []
        moduli: list[int] = []
        for axis, (here, f) in enumerate(zip(self.stride, factor, strict=True)):
            residue, modulus = 0, 1
            for other in self.family.values():
                # here · phase = distance (mod coarse), so that the new lattice has cells in common with the other one.
                fine, coarse = _gcd(other.stride[axis], here), _gcd(other.stride[axis], here * f)
                period = int(coarse / Fraction(fine))
                shared = gcd(modulus, period)
                if period == shared:
                    continue
                distance = _along(other.offset, axis) - _along(self.offset, axis)
                steps = distance * fine.denominator // fine.numerator
                wanted = steps * pow(int(here / Fraction(fine)), -1, period) % period
                missing = (wanted - residue) // shared * pow(modulus // shared, -1, period // shared)
                residue = residue + modulus * (missing % (period // shared))
                modulus *= period // shared
            residues.append(residue)
            moduli.append(modulus)
        return residues, tuple(moduli)

    def make_coarser(self, factor: tuple[int, ...], phase: Tensor | None, largest: tuple[int, ...]) -> "Lattice":
        """Return a new part of this lattice: of every `factor` cells the one at `phase` (N, D) (None: the first).

        largest: of the phases; the smallest is `factor` - 1 less.
        """
        stride = _times(self.stride, factor)
        if phase is None:
            return self._further(stride, None, ((0, 0),) * len(factor))
        pixels = phase * torch.tensor(self.stride, device=phase.device)
        bounds = tuple(
            ((most - f + 1) * int(s), most * int(s)) for f, most, s in zip(factor, largest, self.stride, strict=True)
        )
        return self._further(stride, pixels, bounds)

    def find_finer(self, factor: tuple[int, ...]) -> "Lattice":
        """Return the lattice of a map upsampled by `factor`: that of the family, or else a new one.

        A new one has its cell 0 where the finest of its parts in the family has it.
        """
        stride = _times(self.stride, tuple(Fraction(1, f) for f in factor))
        if stride in self.family:
            return self.family[stride]
        parts = (lattice for lattice in self.family.values() if _divides(stride, lattice.stride))
        finest = min(parts, key=lambda lattice: [float(s) for s in lattice.stride])
        return finest._further(stride, None, ((0, 0),) * len(factor))

    def _further(self, stride: Stride, pixels: Tensor | None, bounds: Box) -> "Lattice":
        """Return a new lattice of the family, `pixels` (None: 0), which lie in `bounds`, further on than this one."""
        offset = self.offset
        if pixels is not None:
            offset = pixels if offset is None else offset + pixels
        others = list(self.family.values()) if pixels is not None or self.apart else []
        made = Lattice(stride, offset, self.family, self.axes)
        for other in others:
            apart = [
                (low - most, high - least)
                for (low, high), (least, most) in zip(self._pixels_to(other), bounds, strict=True)
            ]
            made.apart[other.stride] = tuple(apart)
            other.apart[stride] = tuple((-high, -low) for low, high in apart)
        return made

    def fits(self, other: "Lattice") -> bool:
        """Return whether cells of both coincide in every sample, as those of a family do; reads the offsets."""
        apart = (_along(self.offset, axis) - _along(other.offset, axis) for axis in range(len(self.stride)))
        shared = (_gcd(a, b) for a, b in zip(self.stride, other.stride, strict=True))
        return all(
            not bool(torch.as_tensor(distance * part.denominator % part.numerator).any())
            for distance, part in zip(apart, shared, strict=True)
        )

    def pixels_to(self, stride: Stride) -> Box:
        """By how many pixels the offset of the lattice of this stride exceeds this one's, at least and at most."""
        return self.apart.get(stride, ((0, 0),) * len(self.stride))

    def _pixels_to(self, other: "Lattice") -> Box:
        return self.pixels_to(other.stride)

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
        """Return how cells of this lattice are renumbered for `below`, a part of it; None: not at all."""
        distance = self.distance_to(below)
        if distance is None:
            return None
        bounds = list(zip(self._pixels_to(below), self.stride, strict=True))
        low = tuple(int(ceil_div(least, s)) for (least, _), s in bounds)  # pyright: ignore[reportArgumentType]
        return Shift(distance, low, tuple(int(most // s) for (_, most), s in bounds))

    def without(self, index: int) -> "Lattice":
        """Return the same grid after its `index`-th axis was summed over; always the same object for the same axis."""
        if index not in self._lines:
            others = [i for i in range(len(self.stride)) if i != index]
            offset = None if self.offset is None else self.offset[:, others]
            axes = tuple(i if self.axes is None else self.axes[i] for i in others)
            self._lines[index] = Lattice(tuple(self.stride[i] for i in others), offset, axes=axes)
        return self._lines[index]

    def along(self, indices: Sequence[int]) -> "Lattice":
        """Return the same grid along the axes `indices` alone, after all others were summed over."""
        lattice = self
        for index in reversed(range(len(self.stride))):
            if index not in indices:
                lattice = lattice.without(index)
        return lattice

    def transposed(self, order: tuple[int, ...]) -> "Lattice":
        """Return the same grid with its axes in another order; twice to and fro it is the same object.

        What is strided or upsampled from there on is a family of its own.
        """
        if self._source is not None and tuple(self._source[1][i] for i in order) == tuple(range(len(order))):
            return self._source[0]
        if order not in self._transposed:
            axes = tuple(i if self.axes is None else self.axes[i] for i in order)
            offset = None if self.offset is None else self.offset[:, list(order)]
            stride = tuple(self.stride[i] for i in order)
            made = Lattice(stride, offset, axes=None if axes == tuple(range(len(axes))) else axes)
            made._source = self, order
            self._transposed[order] = made
        return self._transposed[order]

    def __repr__(self) -> str:
        stride = ", ".join(map(str, self.stride))
        return f"Lattice(stride=({stride}), phase={'fixed' if self.offset is None else 'per sample'})"


def _times(stride: Stride, factor: tuple[int | Fraction, ...]) -> Stride:
    products = (s * f for s, f in zip(stride, factor, strict=True))
    return tuple(int(p) if p.denominator == 1 else p for p in products)


def _divides(finer: Stride, coarser: Stride) -> bool:
    return all((Fraction(c) / f).denominator == 1 for f, c in zip(finer, coarser, strict=True))


def _gcd(a: int | Fraction, b: int | Fraction) -> Fraction:
    """Return the largest number of which both are multiples."""
    return Fraction(gcd(a.numerator * b.denominator, b.numerator * a.denominator), a.denominator * b.denominator)


def _along(offset: Tensor | None, axis: int) -> Tensor | int:
    return 0 if offset is None else offset[:, axis]
