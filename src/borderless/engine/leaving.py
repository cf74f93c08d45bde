"""Feature maps after a model has flattened space for good: ordinary cells that are still watched.

A detection head, a vector quantizer or a soft-argmax turns its last maps into lists of cells. A map is then cropped to
its frame, as every map is that a model returns, and goes on as an ordinary tensor. `LeftCells` is that tensor: it
computes as PyTorch does, and remembers which of its dimensions hold cells, so that a later function that mixes them
(attention, a convolution with its original padding) is still named; see `rules.after_leaving`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from borderless.engine.forward_pass import ForwardPass
from borderless.engine.registry import LEFT, find_rule
from borderless.engine.signatures import by_position
from borderless.engine.torch_internals import DisableTorchFunctionSubclass, tree_map


class LeftCells(Tensor):
    """An ordinary tensor of which `cell_dims` hold the cells of a map that has left the engine.

    scope: the pass. origin: what made the map leave, as an error text names it. is_reported: whether it was said
    already that its cells are mixed.
    """

    cell_dims: frozenset[int]
    scope: ForwardPass
    origin: str
    is_reported: bool

    @classmethod
    def of(
        cls, cells: Tensor, dims: Iterable[int], scope: ForwardPass, origin: str, is_reported: bool = False
    ) -> Tensor:
        """Watch `cells`; as they are where no dimension of `dims` has more than one cell, or a program is recorded."""
        held = frozenset(dim for dim in dims if cells.shape[dim] != 1)
        with DisableTorchFunctionSubclass():
            if not held or type(cells) not in (Tensor, cls):  # a subclass cannot be laid over another one
                return cells
            made = cells.as_subclass(cls)
        made.cell_dims, made.scope, made.origin, made.is_reported = held, scope, origin, is_reported
        return made

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = by_position(func, args, kwargs) if kwargs else (args, {})
        return find_rule(LEFT)(func, *args, **kwargs)


def unwatched(value: Any) -> Any:
    """Return `value` with an ordinary tensor for every `LeftCells` in it."""

    def ordinary(leaf: Any) -> Any:
        return leaf.as_subclass(Tensor) if isinstance(leaf, LeftCells) else leaf

    with DisableTorchFunctionSubclass():
        return tree_map(ordinary, value)
