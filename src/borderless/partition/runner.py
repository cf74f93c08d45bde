"""Run an untouched model on the parts of a grid, one after the other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from borderless.conversion import attached, conversion_of
from borderless.engine.border import Border
from borderless.engine.geometry import Box, Interval
from borderless.engine.inputs import arguments_named
from borderless.engine.outputs import release
from borderless.partition.carry import Call, CarryPass, Exchange, Place
from borderless.partition.gather import Alone, NeedsOtherParts, Rendezvous
from borderless.partition.part import PartEdge, PartSignal

Read = Callable[[Box], Tensor]
Emit = Callable[[Box, Any], None]


@dataclass(frozen=True)
class Grid:
    """How an image is cut into parts: for each axis, the intervals of pixels."""

    cuts: tuple[tuple[Interval, ...], ...]

    @classmethod
    def regular(cls, size: Sequence[int], step: Sequence[int]) -> "Grid":
        """Return parts of `step` pixels, and at the end of each axis what is left."""
        return cls(tuple(tuple((a, min(n, a + s)) for a in range(0, n, s)) for n, s in zip(size, step, strict=True)))

    @property
    def size(self) -> tuple[int, ...]:
        """The size of the image."""
        return tuple(cuts[-1][1] for cuts in self.cuts)

    def parts(self) -> Iterator[tuple[Place, Box]]:
        """Yield the place and the pixels of each part, in row-major order."""
        for combination in product(*(enumerate(cuts) for cuts in self.cuts)):
            index = tuple(i for i, _ in combination)
            is_last = tuple(i == len(cuts) - 1 for i, cuts in zip(index, self.cuts, strict=True))
            yield Place(index, is_last), tuple(box for _, box in combination)


@dataclass
class Runner:
    """A model that runs on the parts of an image. macs: multiply-adds of all parts so far.

    args, kwargs: what the model takes after the image.
    """

    model: nn.Module
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    kept: list[Call] = field(default_factory=list)
    macs: int = 0
    images: Any = None  # as a `Conversion` has
    waits: int = 0
    images: Any = None  # which arguments are images, as the conversion of the model names them
    _entering: tuple[CarryPass, tuple[int, ...], tuple[int, ...]] | None = None

    def __post_init__(self) -> None:
        converted = conversion_of(self.model)
        self.edge = PartEdge(Border("zero") if converted is None else converted.border)

    def run(self, grid: Grid, read: Read, emit: Emit) -> None:
        """Run on all parts of `grid`; `read` gives the pixels (N, C, *space) of a box, `emit` takes each output."""
        with attached(self.model, self), torch.no_grad():  # pyright: ignore[reportArgumentType]
            parts = list(grid.parts())
            try:
                for place, box in parts:
                    self._part(grid, place, box, read, emit, Alone())
            except NeedsOtherParts:
                self.kept.clear()
                self.macs = 0
                together = Rendezvous()
                together.run(
                    [
                        lambda place=place, box=box: self._part(grid, place, box, read, emit, together)
                        for place, box in parts
                    ]
                )
                self.waits = together.waits

    def _part(self, grid: Grid, place: Place, box: Box, read: Read, emit: Emit, exchange: Exchange) -> None:
        scope = CarryPass(self.edge, self.model, place=place, kept=self.kept, exchange=exchange)
        self._entering = scope, tuple(a for a, _ in box), grid.size
        cells = read(box)
        with arguments_named(self.model, self.args, self.kwargs):
            output = self.model(cells, *self.args, **self.kwargs)
        self.macs += scope.macs
        emit(box, output)

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Make a part of a map of the first argument."""
        assert self._entering is not None
        scope, start, size = self._entering
        return (PartSignal.from_part(args[0], start, size, scope), *args[1:]), kwargs

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """Return the output as it is, with its parts of maps."""
        release(module, lambda signal: signal.window)
        return output
