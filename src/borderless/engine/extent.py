"""The position of the stored window of a map: on its frame, in the whole of which it is a part, and for each sample.

Boxes hold one interval [start, stop) of frame indices an axis.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from borderless.engine.edge import AxisEdge, along
from borderless.engine.geometry import Box, Keep


class Extent:
    """The position of a Signal's window.

    is_gathered: whether a value over all of space is more than the same value over the window, because other parts of
    the map lie elsewhere, or because not all of the window is every sample's. Rules then ask `statistics`.
    """

    is_gathered = False
    # Of the Signal that this is a part of.
    start: tuple[int, ...]
    frame: tuple[int, ...]
    axes: tuple[int, ...]
    lattice: Any
    scope: Any
    _sizes: torch.Size

    @property
    def edges(self) -> tuple[AxisEdge, ...]:
        """The edge of the pass along each axis of the map."""
        return along(self.scope.border.axes, self.lattice.axes, len(self.axes))

    @property
    def has_original_padding(self) -> bool:
        """Whether the model's original padding lies outside, as at the edge of a part of an unmodified map too."""
        return all(edge.is_original for edge in self.edges)

    def keeps(self, kind: Keep) -> bool:
        """Return whether along every axis outputs are kept as `kind` says."""
        for edge in self.edges:  # noqa: SIM110  it runs often
            if edge.keeps != kind:
                return False
        return True

    def directed(self, operations: Sequence[Any]) -> tuple[Any, ...]:
        """Return `operations`, one an axis, as the border has them: along a causal axis none reads a later cell."""
        edges = self.edges
        if not any([edge.is_causal for edge in edges]):  # noqa: C419  it runs often
            return tuple(operations)
        axes = zip(operations, edges, self.frame, strict=False)
        return tuple([operation.causal(n) if edge.is_causal else operation for operation, edge, n in axes])

    @property
    def box(self) -> Box:
        """The window as frame indices: for each axis (start, stop)."""
        shape = self._sizes
        return tuple([(a, a + shape[axis]) for a, axis in zip(self.start, self.axes)])  # noqa: B905  it runs often

    @property
    def whole_box(self) -> Box:
        """The box on which the whole map is stored, of which a tile holds a part."""
        return self.box

    @property
    def whole_edges(self) -> tuple[AxisEdge, ...]:
        """The edges of the whole map."""
        return self.edges

    @property
    def frame_box(self) -> Box:
        """The frame as frame indices: for each axis (0, n)."""
        return tuple((0, n) for n in self.frame)

    @property
    def frames(self) -> tuple[tuple[int, ...], ...]:
        """The frame of each sample; one for all where they are equal."""
        return (self.frame,)

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The box on which the whole map of each sample is stored; one for all where they are equal."""
        return (self.whole_box,)

    def own(self, cells: Tensor, around: float = 0.0, axes: tuple[int, ...] | None = None) -> Tensor:  # noqa: ARG002
        """Return `cells` of the window, with `around` where they are none of a sample's own.

        axes: the spatial dimensions of `cells`; None: those of the map.
        """
        return cells

    def pool_locally(self, pool: Callable[[Any], Any]) -> Any:
        """Return pool(this map), where no pool over the whole frame turns out to be a global one."""
        return pool(self)

    def gather_parts(self, part: Any, merge: Callable[[list[Any]], Any]) -> Any:
        """Return merge(parts): `part`, taken of this map's window, and the same of all other parts of the whole map."""
        return merge([part])
