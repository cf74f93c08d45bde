"""Run an untouched model on the parts of a grid, one after the other."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from borderless.conversion import attached, conversion_of
from borderless.engine.border import Border
from borderless.engine.geometry import Box, Interval
from borderless.engine.inputs import arguments_named
from borderless.engine.outputs import release
from borderless.errors import UnsupportedOperation
from borderless.partition.carry import CarryPass, Exchange
from borderless.partition.gather import Alone, NeedsOtherParts, Rendezvous
from borderless.partition.part import PartEdge, PartSignal
from borderless.partition.rims import KeptCall, Place
from borderless.partition.spill import Spill
from borderless.runtime.malloc import give_back_freed_memory

Read = Callable[[Box], Tensor]
Emit = Callable[[Box, Any], None]
Done = Callable[[int], Any]


@dataclass(frozen=True)
class Grid:
    """The partition of an image: for each axis, the intervals of pixels.

    image: its size, where the parts do not cover it.
    """

    cuts: tuple[tuple[Interval, ...], ...]
    image: tuple[int, ...] = ()

    @classmethod
    def regular(cls, size: Sequence[int], step: Sequence[int]) -> "Grid":
        """Return parts of `step` pixels, and at the end of each axis what is left."""
        return cls(tuple(tuple((a, min(n, a + s)) for a in range(0, n, s)) for n, s in zip(size, step, strict=True)))

    @property
    def size(self) -> tuple[int, ...]:
        """The size of the image."""
        return self.image or tuple(cuts[-1][1] for cuts in self.cuts)

    def band(self, rows: range) -> "Grid":
        """Return the parts of some rows, as a grid of its own."""
        return Grid((self.cuts[0][rows.start : rows.stop], *self.cuts[1:]), self.size)

    @property
    def count(self) -> int:
        """The number of parts."""
        return prod(len(cuts) for cuts in self.cuts)

    @property
    def rows(self) -> int:
        """The number of rows of parts: intervals along the first axis."""
        return len(self.cuts[0])

    def parts(self, rows: range | None = None) -> Iterator[tuple[Place, Box]]:
        """Yield the place and the pixels of each part, in row-major order; of `rows` alone."""
        for combination in product(*(enumerate(cuts) for cuts in self.cuts)):
            if rows is not None and combination[0][0] not in rows:
                continue
            index = tuple(i for i, _ in combination)
            is_last = tuple(i == len(cuts) - 1 for i, cuts in zip(index, self.cuts, strict=True))
            yield Place(index, is_last), tuple(box for _, box in combination)


@dataclass
class Runner:
    """A model that runs on the parts of an image. macs: multiply-adds of all parts so far.

    args, kwargs: what the model takes after the image. kind: makes a pass. spill: puts away the maps of parts that
    wait. may_wait: whether parts may wait for one another.
    """

    model: nn.Module
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    kept: list[KeptCall] = field(default_factory=list)
    kind: Callable[..., CarryPass] = CarryPass
    spill: Spill | None = None
    may_wait: bool = True
    macs: int = 0
    waits: int = 0
    images: Any = None  # which arguments are images, as the conversion of the model names them
    _entering: tuple[CarryPass, tuple[int, ...], tuple[int, ...]] | None = None

    def __post_init__(self) -> None:
        converted = conversion_of(self.model)
        self.edge = PartEdge(Border("zero") if converted is None else converted.border)

    def run(self, grid: Grid, read: Read, emit: Emit, rows: range | None = None, done: Done | None = None) -> None:
        """Run on all parts of `grid`; `read` gives the pixels (N, C, *space) of a box, `emit` takes each output.

        Args:
            grid: How the image is cut.
            read: Called with the box of each part.
            emit: Called with the box of each part and what the model returned for it.
            rows: The rows of parts to run; from another than the first on, with what `kept` says of those before.
            done: Called with the number of each row that is done, if parts need not wait for one another.

        Raises:
            UnsupportedOperation: Parts wait for one another, and not all rows run here.
        """
        with attached(self.model, self), torch.no_grad():  # pyright: ignore[reportArgumentType]
            parts = list(grid.parts(rows))
            try:
                for number, (place, box) in enumerate(parts):
                    self._part(grid, place, box, read, emit, Alone())
                    is_end_of_row = number + 1 == len(parts) or parts[number + 1][0].index[0] > place.index[0]
                    give_back_freed_memory()
                    if is_end_of_row and done is not None:
                        done(place.index[0])
            except NeedsOtherParts:
                if not self.may_wait or (rows is not None and rows.start):
                    raise UnsupportedOperation(
                        f"Expected a network whose output follows from its surroundings but got "
                        f"{type(self.model).__name__}, which has an operation over all of space (a global pool, a norm "
                        "over space): bands of the image would wait for one another; run it in one process."
                    ) from None
                self._together(grid, parts, read, emit)

    def _together(self, grid: Grid, parts: Sequence[tuple[Place, Box]], read: Read, emit: Emit) -> None:
        """Run on parts that wait for one another."""
        self.kept.clear()
        self.macs = 0
        together = Rendezvous() if self.spill is None else Rendezvous(self.spill.rests, self.spill.resumes)

        def task(number: int) -> None:
            self._part(grid, *parts[number], read, emit, together, number)

        with self.spill or nullcontext():
            together.run([partial(task, number) for number in range(len(parts))])
        self.waits = together.waits
        give_back_freed_memory()

    def _part(
        self, grid: Grid, place: Place, box: Box, read: Read, emit: Emit, exchange: Exchange, number: int = 0
    ) -> None:
        scope = self.kind(self.edge, self.model, place=place, kept=self.kept, exchange=exchange)
        if self.spill is not None:
            self.spill.passes[number] = scope
        self._entering = scope, tuple(a for a, _ in box), grid.size
        cells = read(box)
        with arguments_named(self.model, self.args, self.kwargs):
            output = self.model(cells, *self.args, **self.kwargs)
        scope.check_lent()
        self.macs += scope.macs
        emit(box, output)
        if self.spill is not None:
            del self.spill.passes[number]
        self._entering = None

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Make a part of a map of the first argument."""
        assert self._entering is not None
        scope, start, size = self._entering
        return (PartSignal.from_part(args[0], start, size, scope), *args[1:]), kwargs

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """Return the output as it is, with its parts of maps."""
        release(module, lambda signal: signal.window)
        return output
