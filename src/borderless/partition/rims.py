"""Rims: what the calls of a model keep, of the maps that go in, for the parts that come later.

A rim along an axis holds what lies before a part on that axis: on earlier axes the cells of the part, on later ones the
whole map.
"""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from borderless.engine.geometry import Box
from borderless.engine.naming import describe
from borderless.engine.padding import memory_format_of
from borderless.engine.reading import cut
from borderless.partition.part import PartSignal


@dataclass(frozen=True)
class Place:
    """A part's position in the grid: its index along each axis, and whether it is the last one there."""

    index: tuple[int, ...]
    is_last: tuple[bool, ...]


@dataclass
class Rim:
    """The cells that one call keeps of one map along one axis: those at hand, and those that the next parts will read.

    start: the first cell along the axis.
    """

    axis: int
    cells: Tensor | None = None
    box: Box = ()
    _growing: Tensor | None = None

    def keep(self, source: PartSignal, merged: PartSignal, start: int, place: Place) -> None:
        """Keep the cells of `merged` from `start` on; `source` is the new part of it."""
        k, whole = self.axis, source.whole_box
        piece = tuple((start, merged.box[k][1]) if i == k else new for i, new in enumerate(source.box))
        cells = cut(merged.window, merged.axes, merged.box, piece)
        later = range(k + 1, len(piece))
        if all(place.index[i] == 0 and place.is_last[i] for i in later):
            self.cells, self.box = cells.clone(memory_format=memory_format_of(cells)), piece
            return
        box = tuple(whole[i] if i > k else interval for i, interval in enumerate(piece))
        if all(place.index[i] == 0 for i in later):
            sizes = list(cells.shape)
            for axis, (a, b) in zip(merged.axes, box, strict=True):
                sizes[axis] = b - a
            self._growing = cells.new_empty(sizes)
        assert self._growing is not None
        cut(self._growing, merged.axes, box, piece).copy_(cells)
        if all(place.is_last[i] for i in later):
            self.cells, self.box, self._growing = self._growing, box, None


@dataclass
class KeptCall:
    """The record that one call of the model's keeps from part to part.

    function: of PyTorch's; its name in a call that another process has kept. starts: for each axis, of the parts by
    their index, the first output that is theirs. rims: of each map, along each axis.
    """

    function: Any
    starts: list[dict[int, int]] = field(default_factory=list)
    rims: list[list[Rim]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The function, as texts and saved states name it."""
        return self.function if isinstance(self.function, str) else describe(self.function)

    def done(self, place: Place, source: PartSignal, outputs: Box) -> tuple[int | None, ...]:
        """Return the first of `outputs` along each axis that is still to be given; None: the first that can be.

        The first of several parts need not begin where the image does.
        """
        if not self.starts:
            self.starts = [{} for _ in outputs]
        axes = zip(self.starts, place.index, source.box, source.whole_box, outputs, strict=True)
        return tuple(
            starts[at] if at else first if begin <= low else None
            for starts, at, (begin, _), (low, _), (first, _) in axes
        )

    def pass_on(self, place: Place, source: PartSignal) -> None:
        """Note that a part gives an output for each of its cells."""
        self.done(place, source, source.box)
        self.give(place, source.box)

    def give(self, place: Place, outputs: Box) -> None:
        """Note which outputs a part gives."""
        for starts, at, (_, stop) in zip(self.starts, place.index, outputs, strict=True):
            starts[at + 1] = stop
            starts.pop(at - 1, None)  # no part will ask for it: a stream has any number of them

    def rims_of(self, number: int, count: int) -> list[Rim]:
        """Return the rims of a call's map by its number, along `count` axes."""
        while len(self.rims) <= number:
            self.rims.append([Rim(axis) for axis in range(count)])
        return self.rims[number]

    def state(self) -> dict[str, Any]:
        """Return it as numbers, texts and tensors."""
        return {
            "function": self.name,
            "starts": [dict(starts) for starts in self.starts],
            "rims": [[{"cells": rim.cells, "box": rim.box} for rim in rims] for rims in self.rims],
        }

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "KeptCall":
        """Return what `state` was made of, where the function is known by its name."""
        return cls(
            state["function"],
            [dict(starts) for starts in state["starts"]],
            [[Rim(axis, rim["cells"], _box(rim["box"])) for axis, rim in enumerate(rims)] for rims in state["rims"]],
        )


def _box(saved: Any) -> Box:
    return tuple((int(a), int(b)) for a, b in saved)
