"""Indexing and slicing a map, and functions that stand for an index."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from borderless.engine.aliases import View
from borderless.engine.lattice import Lattice
from borderless.engine.naming import describe, named
from borderless.engine.registry import Declared, rule
from borderless.engine.relabeled import Relabeled, on_batches
from borderless.engine.rules.picking import pick, why_picked
from borderless.engine.rules.pointwise import check_parameters
from borderless.engine.rules.rows import lattice_of_reshaped, lattice_of_rows
from borderless.engine.rules.sliding import slides_of, strided_slice
from borderless.engine.signal import Signal, first_signal
from borderless.engine.signatures import arguments


def _need_of_index(function: Any, signal: Any, index: Any) -> Declared:
    if not isinstance(signal, Signal):
        return "everything"
    if why_picked(signal, index if isinstance(index, tuple) else (index,)) is not None:
        return "everything"
    entries = [e for e in one_per_dimension(signal, index if isinstance(index, tuple) else (index,)) if e is not None]
    along_space = [entry for axis, entry in enumerate(entries) if axis in signal.axes]
    if not all(isinstance(entry, slice) for entry in along_space):
        return "everything"
    return slides_of([entry.indices(n) for entry, n in zip(along_space, signal.frame, strict=True)], signal.frame)


def _getitem_seen(function: Any, source: Relabeled, signal: Any, index: Any) -> Any:
    """Tokens and stacks: the index of the map, which takes all tokens."""
    if signal is not source:
        raise source.scope.unsupported("indexing by a map")
    entries = one_per_dimension(source, index if isinstance(index, tuple) else (index,))
    first, own, batch, tokens = slice(None), [], 0, None
    dimension = place = 0
    for entry in entries:
        if entry is None:
            own.append(None)
            place += 1
            continue
        if dimension == source.batch:
            first, batch = entry, place
        elif dimension == source.tokens:
            n = source.shape[dimension]
            if not isinstance(entry, slice) or entry.indices(n) != (0, n, 1):
                raise source.refusal(function)
            own += [slice(None)] * len(source.map.axes)
            tokens = place
        else:
            own.append(entry)
        place += not isinstance(entry, int)
        dimension += 1
    if isinstance(first, int) and (source.batch or source.tokens is not None):
        return on_batches(function, (source, index), {})
    return Relabeled.of(source.map[(first, *own)], batch, tokens, source.flattened_by)


@rule(torch.Tensor.__getitem__, needs=_need_of_index, dims=_getitem_seen)
def getitem(function: Any, signal: Any, index: Any) -> Any:
    """Take slices: along space a strided operation, elsewhere a view. Single cells are those of the frame."""
    if not isinstance(signal, Signal):
        found = first_signal(index)
        assert found is not None
        raise found.scope.unsupported("indexing by a map")
    entries = index if isinstance(index, tuple) else (index,)
    reason = why_picked(signal, entries)
    if reason is not None:
        return pick(function, signal, entries, reason)
    found = picked(signal, index)
    if found.slices != [(0, n, 1) for n in signal.frame]:
        signal = signal.possible_alias(strided_slice(signal, found.slices), function)
    if all(isinstance(entry, slice) and entry == slice(None) for entry in found.plain):
        return signal
    samples, lattice = None, None
    first = found.first
    if found.plain[0] is None and isinstance(first, slice) and first == slice(None):  # a batch of one
        samples, lattice = signal.window.shape[0], lattice_of_reshaped(signal, 1, function)
    elif isinstance(first, Tensor) or first != slice(None):
        signal.scope.mixes_rows(function)
        samples = signal.window.shape[0]
        lattice = _lattice_of_picked(signal, first, found.plain)
    view = View(lambda cells: cells[tuple(found.plain)], signal.axes, samples)
    if not found.is_list:
        return signal.alias(view, axes=found.axes, lattice=lattice)
    background = None if signal.background is None else view.of_background(signal.background)
    return signal.derive(view.apply(signal.window), background, axes=found.axes, lattice=lattice)


class Picked(NamedTuple):
    """An index of a map.

    slices: along each spatial axis (start, stop, step). plain: the entries of the index, with all of space. axes: where
    space is in the result.
    """

    slices: list[tuple[int, int, int]]
    plain: list[Any]
    axes: tuple[int, ...]

    @property
    def first(self) -> Any:
        """The entry for the batch."""
        return next(entry for entry in self.plain if entry is not None)

    @property
    def is_list(self) -> bool:
        """Whether the result is a copy, of channels or samples in a list."""
        return any(isinstance(entry, Tensor) for entry in self.plain)


def picked(signal: Signal, index: Any) -> Picked:
    """Return what `index` picks of a map; refuse what picks absolute positions."""
    entries = one_per_dimension(signal, index if isinstance(index, tuple) else (index,))
    slices, plain, axes = [], [], []
    dimension = place = 0
    for entry in entries:
        if entry is None:
            plain.append(None)
            place += 1
            continue
        if dimension in signal.axes:
            if not isinstance(entry, slice):
                raise signal.scope.unsupported(f"the index {entry!r} along space", "it picks an absolute position")
            slices.append(entry.indices(signal.shape[dimension]))
            axes.append(place)
            plain.append(slice(None))
        else:
            plain.append(entry)
        place += not isinstance(entry, int)
        dimension += 1
    return Picked(slices, plain, tuple(axes))


def _lattice_of_picked(signal: Signal, first: Any, plain: list[Any]) -> Lattice:
    """Return the lattice of what the entry `first` picks of the batch, whose rows may be what were channels before."""
    if not signal.border.is_adaptive:
        return signal.lattice
    count = signal.window.shape[0]
    if plain[0] is None:
        raise signal.scope.unsupported(
            "an index along the batch", "with phase='adaptive' each sample has its own phase. Write .unsqueeze(0) apart"
        )
    if isinstance(first, int):
        after = torch.empty(signal.window.shape, device="meta")[tuple(plain)]
        return lattice_of_rows(signal, [first % count] * len(after))
    return lattice_of_rows(signal, torch.arange(count, device=signal.window.device)[first].tolist())


def one_per_dimension(signal: Signal, index: tuple[Any, ...]) -> list[Any]:
    """`index` with the ellipsis and the missing end written out; refuses what mixes dimensions."""
    if any(isinstance(entry, Signal) for entry in index):
        raise signal.scope.unsupported(
            "an index that is a feature map",
            "it picks channels or samples by the values of a map. Write torch.where(mask, x, other)",
        )
    lists = sum(isinstance(entry, list | Tensor) for entry in index)
    if lists > 1 or any(isinstance(e, bool) or (isinstance(e, Tensor) and e.ndim != 1) for e in index):
        raise signal.scope.unsupported(f"the index {index!r}", "only numbers, slices and one list are understood")
    entries = [torch.tensor(e) if isinstance(e, list) else e for e in index]
    given = sum(e is not None and e is not Ellipsis for e in entries)
    missing = [slice(None)] * (signal.ndim - given)
    at = next((i for i, e in enumerate(entries) if e is Ellipsis), None)
    return [*entries, *missing] if at is None else [*entries[:at], *missing, *entries[at + 1 :]]


def _index_of(function: Any, signal: Signal, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Return the index that a call of `function` stands for."""
    given = arguments(function, (signal, *args), kwargs)
    dim, entry = given["dim"] % signal.ndim, given.get("index")
    if function.__name__ == "narrow":
        start = int(given["start"])
        start += signal.shape[dim] * (start < 0)
        entry = slice(start, start + given["length"])
    return (*[slice(None)] * dim, entry)


def _need_of_selection(function: Any, signal: Any, *args: Any, **kwargs: Any) -> Declared:
    if not isinstance(signal, Signal) or any(isinstance(value, Signal) for value in (*args, *kwargs.values())):
        return "everything"
    return _need_of_index(function, signal, _index_of(function, signal, args, kwargs))


def _select_seen(function: Any, source: Relabeled, signal: Any, *args: Any, **kwargs: Any) -> Any:
    return signal[_index_of(function, signal, args, kwargs)]


@rule(*named("narrow", "select", "index_select"), needs=_need_of_selection, dims=_select_seen)
def select(function: Any, signal: Any, *args: Any, **kwargs: Any) -> Any:
    """Take what the index takes that these functions stand for."""
    check_parameters(function, signal, *args, *kwargs.values())
    return getitem(torch.Tensor.__getitem__, signal, _index_of(function, signal, args, kwargs))


@rule(*named("flip", "fliplr", "flipud"), dims=("dims",))
def flip(function: Any, signal: Signal, *given: Any, dims: Any = None) -> Any:
    """Reverse channels or the batch; space is mirrored about the center of the frame, an absolute position."""
    if function.__name__ != "flip":
        dims = 0 if function.__name__ == "flipud" else 1
    elif dims is None:
        dims = given[0] if len(given) == 1 else given
    turned = {d % signal.ndim for d in ((dims,) if isinstance(dims, int) else dims)}
    if turned & set(signal.axes):
        reason = "it mirrors a feature map about the center of its frame"
        if signal.border.is_own and not signal.border.is_adaptive:
            signal.scope.reads_position(describe(function), reason)
            return torch.flip(signal.crop(), tuple(turned))
        raise signal.scope.unsupported(
            describe(function),
            f"{reason}, an absolute position. Write the flip outside of the converted model, on its image and on its "
            "output: model(x.flip(-1)).flip(-1)",
        )
    background, lattice = signal.background, None
    if 0 in turned:
        signal.scope.mixes_rows(function)
        lattice = lattice_of_rows(signal, range(signal.window.shape[0])[::-1])
        background = None if background is None else background.expand(signal.window.shape[0], *background.shape[1:])
    dims = tuple(turned)
    return signal.derive(
        torch.flip(signal.window, dims), None if background is None else torch.flip(background, dims), lattice=lattice
    )
