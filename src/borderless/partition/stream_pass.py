"""A pass over one chunk of a stream: a carried part along one axis, which waits for nothing that is still to come."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from torch import Tensor

from borderless.engine.geometry import Box
from borderless.engine.naming import describe, named
from borderless.engine.operations import Mirror, OnMirrored
from borderless.engine.registry import UNKNOWN, Need, find_rule, traits_of
from borderless.engine.relabeled import maps_in
from borderless.engine.resizing import Resize
from borderless.engine.rules.pointwise import elementwise
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import tree_leaves, tree_map
from borderless.errors import NotCausal, StreamError, UnsupportedOperation
from borderless.partition.carry import CarryPass
from borderless.partition.part import PartSignal, parts_of
from borderless.partition.rims import KeptCall, Place
from borderless.partition.timing import OpenEnded, TimedCall, away_from_the_end, rate_of, reads_up_to

_MAKING = frozenset(named("new_zeros", "new_ones", "new_full", "new_empty"))


class Chunk(PartSignal):
    """The part of a map that a chunk of the input decides.

    along: which of its axes is the one of the stream. step: the call that made it, where calls are recorded.
    """

    along = 0
    step: TimedCall | None = None

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _MAKING:
            args[0].parts.check_made(func, args[0], args[1:], kwargs or {})
        return super().__torch_function__(func, types, args, kwargs)


@dataclass
class StreamPass(CarryPass):
    """A pass over the chunk of a number.

    chunk: its number. is_last: whether no other comes. starts: where the length of the stream is not known before its
    end, the operations along its axis, in the order of the calls, as far as they decide outputs away from the end; all
    passes share it. steps: the calls, if they are to be recorded.
    """

    chunk: int = field(kw_only=True)
    is_last: bool = field(kw_only=True)
    starts: list[Any] | None = None
    steps: list[TimedCall] | None = None
    _operations: int = 0
    _function: Any = None
    _along: int = 0

    def call(self, source: Any, func: Any, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call of the model's on this chunk."""
        maps: list[Any] = parts_of(args, kwargs)
        source = max(maps, key=lambda one: len(one.axes))  # the others are lines, which join it
        along = source.along
        self.place = place_of(along, len(source.axes), self.chunk, self.is_last)
        self._function, self._along = func, along
        need = traits_of(rule).need(func, args, kwargs)
        sources: tuple[TimedCall, ...] = ()
        if self.steps is not None:
            sources = tuple(m.step for m in maps if isinstance(m, Chunk) and m.step is not None)
        operation = source.operations(need.slides)[along] if need.slides else None
        if self.starts is not None and (operation is not None or rule is elementwise):
            self._check_start(func, operation, args, kwargs)
        across = set(source.axes).intersection(need.over)
        if across and source.axes[along] not in across:
            result = self._across(source, need, func, args, kwargs)
        else:
            result = super().call(source, func, rule, args, kwargs)
        for leaf in maps_in(result):
            if not isinstance(leaf, Chunk):
                continue
            if not across:
                assert not self.is_last or leaf.box[along][1] >= leaf.whole_box[along][1], (
                    func,
                    leaf.box,
                    leaf.whole_box,
                )
                leaf.along = along
            if self.steps is not None:
                leaf.step = self._record(leaf, func, operation, sources)
        return result

    def check_made(self, func: Any, like: Chunk, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuse to make a tensor as long as a stream whose length is open."""
        if self.starts is not None and like.frame[like.along] in tree_leaves((args, kwargs)):
            raise self._depends_on_length(func, "makes a tensor as long as the stream")

    def finish(self) -> None:
        """Raise where the model took a shorter path than on the chunk before."""
        if self._next < len(self.kept):
            missing = self.kept[self._next].function
            raise self._other_path(missing if isinstance(missing, str) else describe(missing), "was not called again")

    def _other_path(self, function: str, difference: str) -> UnsupportedOperation:
        return UnsupportedOperation(
            f"Expected the same calls on every chunk but got another path through {type(self.root).__name__}: "
            f"{function} {difference}. If the path depends on the length, say it with Stream(model, length=…)"
        )

    def _state(self, func: Any) -> KeptCall:
        if self.chunk and self._next == len(self.kept):
            raise self._other_path(f"{describe(func)} in {self.describe_module()}", "was not called on chunks before")
        if self._next < len(self.kept) and isinstance(self.kept[self._next].function, str):  # of a saved stream
            if self.kept[self._next].function != describe(func):
                saved = f"{self.kept[self._next].function} came there, and {describe(func)} does now"
                raise StreamError(f"Expected the state of a stream of this model but got one of another: {saved}")
            self.kept[self._next].function = func
        return super()._state(func)

    def _record(self, made: Chunk, func: Any, operation: Any, sources: tuple[TimedCall, ...]) -> TimedCall:
        assert self.steps is not None
        rate, frame = max((source.rate for source in sources), default=Fraction(1)), made.frame[made.along]
        if isinstance(operation, Resize) and operation.scale is None:  # to the size of a map that there is already
            rate = next((one.rate for one in self.steps if one.frame == frame), rate * rate_of(operation))
        elif operation is not None:
            rate *= rate_of(operation)
        step = TimedCall(
            number=len(self.steps),
            name=f"{describe(func)} in {self.describe_module()}",
            operation=operation,
            sources=sources,
            whole=made.whole_box[made.along],
            frame=frame,
            rate=rate,
        )
        self.steps.append(step)
        return step

    def _check_start(self, func: Any, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise where a call does something else than on a stream of another length, away from its end."""
        assert self.starts is not None
        if isinstance(operation, Mirror | OnMirrored) and operation.mode == "circular" and operation.reads_outside:
            raise self._depends_on_length(func, "reads the end of the stream at its beginning")
        start = _numbers_in(args, kwargs) if operation is None else away_from_the_end(operation)
        if self._operations == len(self.starts):
            self.starts.append(start)
        if self.starts[self._operations] != start:
            raise self._depends_on_length(func, "pads, cuts off, weighs or computes by the length of the stream")
        self._operations += 1

    def _depends_on_length(self, func: Any, reason: str) -> UnsupportedOperation:
        return UnsupportedOperation(
            f"Expected functions that do not depend on the length of the stream, which is open, but got "
            f"{describe(func)} in {self.describe_module()}, which {reason}. Say the length with Stream(model, "
            "length=…), or, if it is always a multiple of a number, that number with Stream(model, multiple=…)"
        )

    def _on_parts(self, state: KeptCall, need: Need, maps: list[PartSignal], *args: Any) -> Any:
        if len({len(one.axes) for one in maps}) > 1:
            return self._beside_lines(maps, *args)
        settled = [one.window.shape[one.axes[self._along]] for one in maps if one.is_settled]
        if self.starts is not None and any(cells > 1 for cells in settled):
            raise self._depends_on_length(state.function, "joins a map with a tensor as long as the stream")
        if self.starts is not None and need.slides and not self.is_last:
            self._check_reads(state.function, maps[0], need)
        if self.starts is not None and self.is_last and need.slides and state.starts:
            given = state.starts[self._along].get(self.chunk, 0)
            slide = maps[0].directed(need.slides)[self._along]
            if given > 0 and reads_up_to(slide, given) > maps[0].whole_box[self._along][1]:
                raise self._depends_on_length(state.function, "read samples that the model cuts off at the end")
        return super()._on_parts(state, need, maps, *args)

    def _check_reads(self, func: Any, source: PartSignal, need: Need) -> None:
        """Refuse a call of which one output reads a large part of the stream."""
        first, stop = source.directed(need.slides)[self._along].needed((0, 1))
        if stop - first > source.frame[self._along] // 2:
            raise self._depends_on_length(func, "reads as many samples as the stream has")

    def _beside_lines(
        self, maps: list[Any], func: Any, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Join a map with lines along the stream, which have a value for each of its cells there."""
        if len({one.box[one.along] for one in maps}) > 1:
            raise self.unsupported(
                describe(func), "it joins a map with lines along the stream that are decided earlier or later"
            )
        return rule(func, *args, **kwargs)

    def _keep(
        self,
        state: KeptCall,
        number: int,
        operations: Any,
        source: PartSignal,
        merged: PartSignal,
        outputs: Box,
        whole: Box,
    ) -> None:
        if self.starts is not None and operations:
            open_ended = OpenEnded(operations[self._along], merged.box[self._along][1])
            operations = (*operations[: self._along], open_ended, *operations[self._along + 1 :])
        super()._keep(state, number, operations, source, merged, outputs, whole)

    def _on_whole_maps(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if find_rule(func) is find_rule(UNKNOWN):
            return find_rule(func)(func, *args, **kwargs)
        raise self._not_causal(func)

    def gather(self, part: Any, merge: Any) -> Any:
        """Refuse: other parts are still to come."""
        raise self._not_causal(self._function)

    def _not_causal(self, func: Any) -> NotCausal:
        advice = "run the model on the whole input"
        if next(iter(self.running()), self.root).training:
            advice = f"the module is in training mode: call model.eval(), or {advice}"
        return NotCausal(
            f"Expected functions that read a bounded part of the stream's axis but got {describe(func)} in "
            f"{self.describe_module()}, which reads all of it, so that nothing is decided before the end; {advice}"
        )

    def _across(self, source: Chunk, need: Need, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a function that reads other axes than the stream's whole: as on an image that is no longer than this."""
        along, axis = source.along, source.axes[source.along]
        window, size = source.window, source.window.shape[axis]
        if not size:
            window = window.new_zeros([1 if i == axis else n for i, n in enumerate(window.shape)])
        count = window.shape[axis]
        box = tuple((0, count) if i == along else interval for i, interval in enumerate(source.box))
        whole = Signal(  # pyright: ignore[reportCallIssue]  Tensor.__init__ takes anything
            window,
            tuple(a for a, _ in box),
            tuple(count if i == along else n for i, n in enumerate(source.frame)),
            source.axes,
            source.background,
            source.lattice,
            self.whole_pass(),
            source.field,
            aliased=True,
        )
        args, kwargs = tree_map(lambda leaf: whole if leaf is source else leaf, (args, kwargs))
        here, before = source.box[along], sum(dropped < axis for dropped in need.over)

        def taken(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            if isinstance(leaf, Signal):
                axes, lattice, reads, around = leaf.axes, leaf.lattice, leaf.field, leaf.background
                frame, boxes, cells = leaf.frame, leaf.box, leaf.window
            elif leaf.ndim == source.ndim and leaf.shape[axis] == count:
                axes, lattice, reads, around = source.axes, source.lattice, source.field, None
                frame = tuple(leaf.shape[a] for a in axes)
                boxes, cells = tuple((0, n) for n in frame), leaf
            else:
                raise self._not_causal(func)
            at = along if len(axes) == len(source.axes) else along - before
            cells = cells.narrow(axes[at], 0, size)
            made = source.derive(
                cells,
                around,
                box=(*boxes[:at], here, *boxes[at + 1 :]),
                frame=(*frame[:at], source.frame[along], *frame[at + 1 :]),
                axes=axes,
                lattice=lattice,
                field=reads,
            )
            assert isinstance(made, Chunk)
            made.along = at
            return made.within((*boxes[:at], source.whole_box[along], *boxes[at + 1 :]))

        return tree_map(taken, find_rule(func)(func, *args, **kwargs))


def _numbers_in(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return a text of the numbers among the arguments of a call, tensors of one number too."""
    leaves = tree_leaves((args, kwargs))
    numbers = [leaf.item() if type(leaf) is Tensor and leaf.ndim == 0 else leaf for leaf in leaves]
    return repr([number for number in numbers if isinstance(number, int | float | complex)])


def place_of(along: int, count: int, chunk: int, is_last: bool) -> Place:
    """Return the place of a chunk in the grid of maps with `count` axes, which is cut along one of them."""
    return Place(
        tuple(chunk if i == along else 0 for i in range(count)), tuple(is_last or i != along for i in range(count))
    )


def decided_cells(part: Chunk) -> Tensor:
    """Return the cells of the frame that a chunk decides; none along the stream's axis where there are none."""
    cells = part.window
    for axis, (start, stop), n in zip(part.axes, part.box, part.frame, strict=True):
        first, last = max(start, 0), min(stop, n)
        cells = cells.narrow(axis, first - start, last - first) if first < last else cells.narrow(axis, 0, 0)
    return cells
