"""Carried parts: each call of a model's keeps, of what went in, the rims that later parts read.

Parts come in row-major order over a grid. The model's own code runs on part after part; each of its calls, known by
its order, puts the rims of earlier parts around its maps, gives just the outputs that no part has given, and keeps the
cells that outputs still to come read. So the outputs of all parts are a partition of the whole map, and nothing is
computed twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from borderless.engine.geometry import Box, Interval
from borderless.engine.naming import describe
from borderless.engine.operations import Operation, common_part
from borderless.engine.padding import memory_format_of
from borderless.engine.reading import cut
from borderless.engine.registry import Need, traits_of
from borderless.engine.relabeled import Relabeled
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import have_one_storage, tree_leaves, tree_map, version_of
from borderless.partition.part import (
    PartPass,
    PartSignal,
    not_done,
    parts_of,
    whole_of_result,
    with_maps_placed,
)
from borderless.partition.rims import KeptCall, Place


class Exchange(Protocol):
    """Lets parts wait for one another."""

    def gather(self, key: int, part: Any, merge: Any) -> Any:
        """Return merge(parts), of all parts in their order, to every part."""
        ...


@dataclass
class CarryPass(PartPass):
    """A pass over one of several parts. kept: the calls of the model's in their order, shared by all parts."""

    place: Place = field(kw_only=True)
    kept: list[KeptCall] = field(kw_only=True)
    exchange: Exchange = field(kw_only=True)
    _next: int = 0
    _gathered: int = 0
    _lent: list[tuple[Tensor, int, Any]] = field(default_factory=list)

    def gather(self, part: Any, merge: Any) -> Any:
        """Return merge(parts), given what this part contributes."""
        key, self._gathered = self._gathered, self._gathered + 1
        return self.exchange.gather(key, part, merge)

    def call(self, source: PartSignal, func: Any, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call of the model's on this part."""
        need = traits_of(rule).need(func, args, kwargs)
        if need.kind == "gathered":
            return rule(func, *args, **kwargs)
        if not need.slides and need.kind in ("everything", "neighborhood", "resampled"):
            return self._on_whole_maps(func, args, kwargs)
        if need.kind == "cell":
            args, kwargs = self._with_single_cells(*with_maps_placed(source, args, kwargs))
        maps = parts_of(args, kwargs)
        state = self._state(func)
        is_by_cell = need.kind == "cell" or not need.slides
        if len(maps) == 1 and is_by_cell and source.window.numel():
            if need.slides:  # of one cell; of another part they may cut off some
                state.pass_on(self.place, source)
            return rule(func, *args, **kwargs)
        return self._on_parts(state, need, maps, func, rule, args, kwargs)

    def _with_single_cells(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Return arguments where maps of one cell, which the unmodified model spreads over larger ones, are tensors."""
        maps = parts_of(args, kwargs)
        if len({one.frame for one in maps}) == 1 or len({one.axes for one in maps}) > 1:
            return args, kwargs
        singles = [one for one in maps if set(one.frame) == {1} and one.has_original_padding]
        cells = {id(one): self.assembled(one).crop() for one in singles}
        return tree_map(lambda leaf: cells.get(id(leaf), leaf), (args, kwargs))

    def _state(self, func: Any) -> KeptCall:
        if self._next == len(self.kept):
            self.kept.append(KeptCall(func))
        state, self._next = self.kept[self._next], self._next + 1
        if state.function == describe(func):
            state.function = func
        if state.function != func:  # the getter of an attribute is a new object each time
            raise self.unsupported(
                describe(func), f"the model took another path than on the part before, where {state.name} came"
            )
        return state

    def _on_parts(
        self,
        state: KeptCall,
        need: Need,
        maps: list[PartSignal],
        func: Any,
        rule: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        merged = [self._merged(state, number, source) for number, source in enumerate(maps)]
        whole = whole_of_result(need, maps)
        operations = maps[0].operations(need.slides)
        if operations or len(maps) > 1:
            self.done = state.done(self.place, maps[0], whole)
            outputs = (
                merged[0].kept(operations)
                if operations
                else not_done(common_part(merged, [e.outside != "nothing" for e in maps[0].edges]), self.done)
            )
            for number, (source, wide) in enumerate(zip(maps, merged, strict=True)):
                if not source.is_settled:
                    self._keep(state, number, operations, source, wide, outputs, whole)
            state.give(self.place, outputs)
        else:
            outputs = maps[0].box
        is_empty = any(a >= b for a, b in outputs)
        run_on = [_stand_in(wide, operations, outputs, whole) for wide in merged] if is_empty else merged
        if is_empty:
            self.done = None
        by_id = {id(source): wide for source, wide in zip(maps, run_on, strict=True)}
        args, kwargs = tree_map(lambda leaf: by_id.get(id(leaf), leaf), (args, kwargs))
        macs = self.macs
        result = rule(func, *args, **kwargs)
        self.done = None
        if is_empty:
            self.macs = macs
        of = {id(wide): source for source, wide in zip(maps, run_on, strict=True)}

        def of_map(leaf: Any) -> Any:
            window, box = leaf.window, leaf.box
            if box != outputs:
                window = _cut(window, leaf.axes, box, outputs)
            changed = of.get(id(leaf))
            if changed is not None:  # in place
                return changed.become(func, window, leaf.background, box=outputs, field=leaf.field).within(whole)
            if window is leaf.window:
                return leaf.within(whole)
            return leaf.derive(window, leaf.background, box=outputs).within(whole)

        # Not by a call of itself: such a cycle would hold all maps until Python collects it.
        def taken(leaf: Any) -> Any:
            if isinstance(leaf, Relabeled):
                return Relabeled.of(of_map(leaf.map), leaf.batch, leaf.tokens, leaf.flattened_by)
            return of_map(leaf) if isinstance(leaf, PartSignal) else leaf

        return tree_map(taken, result)

    def _merged(self, state: KeptCall, number: int, source: PartSignal) -> PartSignal:
        """`source` with the rims that the call has kept of earlier parts."""
        if source.is_settled:
            return source
        rims = state.rims_of(number, len(source.axes))
        starts = [
            rim.box[k][0] if rim.cells is not None and at and rim.cells.shape[source.axes[k]] else a
            for k, (rim, at, (a, _)) in enumerate(zip(rims, self.place.index, source.box, strict=True))
        ]
        box = tuple((start, b) for start, (_, b) in zip(starts, source.box, strict=True))
        if box == source.box:
            return source.derive(source.window, source.background, aliased=True)
        sizes = list(source.window.shape)
        for axis, (a, b) in zip(source.axes, box, strict=True):
            sizes[axis] = b - a
        window = source.window
        cells = torch.empty(sizes, dtype=window.dtype, device=window.device, memory_format=memory_format_of(window))
        cut(cells, source.axes, box, source.box).copy_(window)
        for k, rim in enumerate(rims):
            if starts[k] < source.box[k][0]:
                assert rim.cells is not None
                piece = tuple(
                    source.box[i] if i < k else (starts[k], source.box[k][0]) if i == k else box[i]
                    for i in range(len(box))
                )
                cut(cells, source.axes, box, piece).copy_(cut(rim.cells, source.axes, rim.box, piece))
        if self._is_only_copy(source):  # from here on its cells are in `merged`: memory for one of both
            source.window, source.aliased = cut(cells, source.axes, box, source.box), True
        return source.derive(cells, source.background, box=box)

    def _is_only_copy(self, source: PartSignal) -> bool:
        """Return whether no other map shares the memory of `source`, and its layout survives a cut."""
        if source.window.requires_grad or not source.window.is_contiguous():
            return False
        others = (signal for signal in self.alive.values() if signal is not source)
        return not any(have_one_storage(signal.window, source.window) for signal in others)

    def _keep(
        self,
        state: KeptCall,
        number: int,
        operations: Sequence[Operation],
        source: PartSignal,
        merged: PartSignal,
        outputs: Box,
        whole: Box,
    ) -> None:
        """Keep of `merged` what the outputs after `outputs` read."""
        rims = state.rims_of(number, len(source.axes))
        for k, (rim, (_, stop), (_, last)) in enumerate(zip(rims, outputs, whole, strict=True)):
            if self.place.is_last[k]:
                continue
            start, end = merged.box[k]
            if stop < last:
                first = operations[k].needed((stop, last))[0] if operations else stop
                assert first >= start or start <= source.whole_box[k][0], (state.function, first, merged.box, outputs)
                first = min(max(first, start), end)
            else:
                first = end
            rim.keep(source, merged, first, self.place)

    def _on_whole_maps(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Wait for all parts of the maps, and run the rule on whole maps: every part gets the same result."""
        wholes = {id(source): self.assembled(source) for source in parts_of(args, kwargs)}
        args, kwargs = tree_map(lambda leaf: wholes.get(id(leaf), leaf), (args, kwargs))
        if any(isinstance(leaf, PartSignal) for leaf in tree_leaves((args, kwargs))):
            raise self.unsupported(describe(func), "it joins a whole feature map and a part of one")
        result = func(*args, **kwargs)
        if any(leaf is whole for leaf in tree_leaves(result) for whole in wholes.values()):
            raise self.unsupported(describe(func), "it changes a whole feature map in place")
        for leaf in [result] if isinstance(result, Tensor) else tree_leaves(result):
            for whole in wholes.values():
                if type(leaf) is Tensor and not leaf.is_inference() and have_one_storage(leaf, whole.window):
                    self._lent.append((whole.window, version_of(whole.window), func))
        return result

    def check_lent(self) -> None:
        """Refuse a model that wrote into what a call returned of a whole map: the map's parts do not show it."""
        for cells, version, func in self._lent:
            if version_of(cells) != version:
                raise self.unsupported(describe(func), "the model changes in place what it returns of a feature map")

    def assembled(self, source: PartSignal) -> Signal:
        """Return the whole map of which `source` is a part."""
        whole, axes = source.whole_box, source.axes

        def merge(parts: list[tuple[Box, Tensor]]) -> Tensor:
            _, first = parts[0]
            sizes = list(first.shape)
            for axis, (a, b) in zip(axes, whole, strict=True):
                sizes[axis] = b - a
            cells = first.new_empty(sizes)
            for box, window in parts:
                cut(cells, axes, whole, box).copy_(window)
            return cells

        cells = self.gather((source.box, source.window), merge)
        return Signal(  # pyright: ignore[reportCallIssue]  Tensor.__init__ takes anything
            cells,
            tuple(a for a, _ in whole),
            source.frame,
            axes,
            source.background,
            source.lattice,
            self.whole_pass(),
            source.field,
            aliased=True,
        )


def _stand_in(source: PartSignal, operations: Sequence[Operation], outputs: Box, whole: Box) -> PartSignal:
    """Return a small map of zeros from which a call makes an output on each axis: to learn what its result is like."""
    if source.is_settled:
        return source
    sizes, box = list(source.window.shape), []
    for k, (axis, (first, stop), (low, high)) in enumerate(zip(source.axes, outputs, whole, strict=True)):
        one = min(max(first, low), high - 1)
        wanted: Interval = (first, stop) if first < stop else (one, one + 1)
        a, b = operations[k].needed(wanted) if operations else wanted
        a, b = max(a, source.whole_box[k][0]), min(b, source.whole_box[k][1])
        if a >= b:  # it reads only what lies outside
            a = min(max(a, source.whole_box[k][0]), source.whole_box[k][1] - 1)
            b = a + 1
        box.append((a, b))
        sizes[axis] = b - a
    return source.derive(source.window.new_zeros(sizes), source.background, box=tuple(box))


def _cut(window: Tensor, axes: tuple[int, ...], box: Box, outputs: Box) -> Tensor:
    """Return the cells of `outputs`, of which those along an axis without any are nowhere."""
    for axis, (a, b), (first, stop) in zip(axes, box, outputs, strict=True):
        if first >= stop:
            window = window.narrow(axis, 0, 0)
        else:
            assert a <= first and stop <= b, (box, outputs)
            window = window.narrow(axis, first - a, stop - first)
    return window
