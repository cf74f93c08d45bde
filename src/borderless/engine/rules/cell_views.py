"""Views and indices of cells that have left the engine: which dimensions hold cells afterwards."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from borderless.engine.leaving import LeftCells, unwatched
from borderless.engine.rules.cell_products import AfterCall
from borderless.engine.torch_internals import DisableTorchFunctionSubclass, tree_leaves

CHOSEN = AfterCall()  # single cells, without their positions


def kept(cells: list[LeftCells], mixes: str = "") -> AfterCall:
    """Results of the same number of dimensions have their cells where the arguments have them."""
    first = cells[0]
    return AfterCall(
        lambda made: frozenset(d for d in first.cell_dims if made.ndim == first.ndim and d < made.ndim), mixes
    )


def dims_of_view(function: Callable[[Tensor], Any], shape: Sequence[int], dims: Sequence[int]) -> list[frozenset[int]]:
    """Return which dimensions of each tensor that `function`, a view, makes of one of `shape` hold what `dims` held."""
    probe = torch.empty(tuple(shape), device="meta")
    spans = [(probe.stride(dim), probe.stride(dim) * probe.shape[dim]) for dim in dims if probe.shape[dim] > 1]
    with DisableTorchFunctionSubclass():
        made = [leaf for leaf in tree_leaves(function(probe)) if isinstance(leaf, Tensor)]
    return [
        frozenset(
            dim
            for dim, (step, size) in enumerate(zip(leaf.stride(), leaf.shape, strict=True))
            if size > 1 and step and any(step < stop and step * size > start for start, stop in spans)
        )
        for leaf in made
    ]


def of_view(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], source: LeftCells) -> AfterCall:
    """Return what a view does to the cells of `source`."""
    if not isinstance(args[0], LeftCells):  # the shape of cells alone is asked for
        return CHOSEN
    of_parts = dims_of_view(lambda probe: function(probe, *args[1:], **kwargs), source.shape, sorted(source.cell_dims))
    parts = iter(of_parts)
    return AfterCall(lambda _: next(parts))


def of_index(args: tuple[Any, ...], kwargs: dict[str, Any], cells: list[LeftCells]) -> AfterCall:
    """Return what an index does to cells: slices and lists of positions along a dimension keep dimensions in place."""
    tensor, index = args
    lists = [leaf for leaf in tree_leaves(index) if isinstance(leaf, Tensor)]
    if not isinstance(tensor, LeftCells):
        return CHOSEN if len(lists) > 1 or lists[0].dtype is torch.bool else AfterCall(lambda _: cells[0].cell_dims)
    entries = index if isinstance(index, tuple) else (index,)
    places = [i for i, entry in enumerate(entries) if isinstance(entry, list | Tensor)]
    if not places:
        return of_view(Tensor.__getitem__, args, kwargs, tensor)
    row = torch.as_tensor(unwatched(entries[places[0]]))
    if len(places) > 1 or row.ndim != 1 or any(isinstance(entry, int) for entry in entries):
        return kept(cells) if len(places) == 1 and row.ndim == 1 and row.dtype is not torch.bool else CHOSEN
    # In the place of a list of positions along a dimension all of it: dimensions stay where they are.
    whole = of_view(
        Tensor.__getitem__,
        (tensor, tuple(slice(None) if entry is entries[places[0]] else entry for entry in entries)),
        {},
        tensor,
    )
    is_choice = row.dtype is torch.bool and _dimension_of(entries, places[0], tensor.ndim) in tensor.cell_dims
    return CHOSEN if is_choice else whole


def _dimension_of(entries: tuple[Any, ...], place: int, ndim: int) -> int:
    """Return the dimension of a tensor that an entry of its index is for."""
    given = [entry for entry in entries if entry is not None and entry is not ...]
    before = [entry for entry in entries[:place] if entry is not None]
    return sum(ndim - len(given) if entry is ... else 1 for entry in before)
