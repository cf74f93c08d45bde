"""Indexing and slicing a map."""

from typing import Any

import torch
from torch import Tensor

from borderless.engine.aliases import View
from borderless.engine.registry import Declared, rule
from borderless.engine.rules.sliding import slides_of, strided_slice
from borderless.engine.signal import Signal, first_signal


def _need_of_index(function: Any, signal: Any, index: Any) -> Declared:
    if not isinstance(signal, Signal):
        return "everything"
    entries = [e for e in _one_per_dimension(signal, index if isinstance(index, tuple) else (index,)) if e is not None]
    along_space = [entry for axis, entry in enumerate(entries) if axis in signal.axes]
    if not all(isinstance(entry, slice) for entry in along_space):
        return "everything"
    return slides_of([entry.indices(n) for entry, n in zip(along_space, signal.frame, strict=True)], signal.frame)


@rule(torch.Tensor.__getitem__, needs=_need_of_index)
def getitem(function: Any, signal: Any, index: Any) -> Any:
    """Take slices: along space a strided operation, elsewhere a view."""
    if not isinstance(signal, Signal):
        found = first_signal(index)
        assert found is not None
        raise found.scope.unsupported("indexing by a map")
    entries = _one_per_dimension(signal, index if isinstance(index, tuple) else (index,))
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
    full = [(0, n, 1) for n in signal.frame]
    if slices != full:
        signal = signal.possible_alias(strided_slice(signal, slices), function)
    is_list = any(isinstance(entry, Tensor) for entry in plain)
    if not is_list and all(entry == slice(None) for entry in plain):
        return signal
    if signal.border.is_adaptive and plain[0] != slice(None):
        raise signal.scope.unsupported(
            "an index along the batch", "with phase='adaptive' each sample has its own phase"
        )
    samples = None if plain[0] == slice(None) else len(signal.window)
    view = View(lambda cells: cells[tuple(plain)], signal.axes, samples)
    if not is_list:
        return signal.alias(view, axes=tuple(axes))
    background = None if signal.background is None else view.of_background(signal.background)
    return signal.derive(view.apply(signal.window), background, axes=tuple(axes))


def _one_per_dimension(signal: Signal, index: tuple[Any, ...]) -> list[Any]:
    """`index` with the ellipsis and the missing end written out; refuses what mixes dimensions."""
    lists = sum(isinstance(entry, list | Tensor) for entry in index)
    if lists > 1 or any(isinstance(e, Signal | bool) or (isinstance(e, Tensor) and e.ndim != 1) for e in index):
        raise signal.scope.unsupported(f"the index {index!r}", "only numbers, slices and one list are understood")
    entries = [torch.tensor(e) if isinstance(e, list) else e for e in index]
    given = sum(e is not None and e is not Ellipsis for e in entries)
    missing = [slice(None)] * (signal.ndim - given)
    at = next((i for i, e in enumerate(entries) if e is Ellipsis), None)
    return [*entries, *missing] if at is None else [*entries[:at], *missing, *entries[at + 1 :]]
