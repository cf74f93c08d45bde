"""The empty canvas: a `Tape` of every function that a model calls on a map of it, and of what came out.

`replay` reads along when the model runs on objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from torch import Tensor

from borderless.engine.events import Event
from borderless.engine.forward_pass import ForwardPass
from borderless.engine.geometry import Box, Mirroring, intersection
from borderless.engine.naming import describe
from borderless.engine.padding import pasted
from borderless.engine.reading import cut
from borderless.engine.registry import Need, find_rule, traits_of
from borderless.engine.relabeled import Relabeled
from borderless.engine.signal import Signal, as_rules_take_it, first_signal
from borderless.engine.torch_internals import tree_leaves, tree_map
from borderless.placement.margins import edge_margin, mirrored, read_for
from borderless.placement.rows import RowsMixed


@dataclass
class Step:
    """One function called on maps.

    index: of the step on its tape. source: the first of its maps; sources: all of them. operands: the ordinary tensors
    among its arguments. macs: its multiply-adds on the whole canvas. divisors: of an average.
    """

    function: Any
    index: int
    source: "StoredMap"
    sources: list["StoredMap"]
    operands: list[Tensor]
    result: Any
    need: Need
    macs: int = 0
    divisors: Tensor | None = None

    @property
    def mirrored(self) -> int:
        """The number of cells that it repeats beyond each edge of the source, at most."""
        if self.need.kind != "everything":
            return 0
        return max((amount for s in self.need.slides for amount in (0, s.padding, s.padding_after)), default=0)

    @property
    def maps(self) -> list["StoredMap"]:
        """The maps in its result."""
        return [leaf for leaf in tree_leaves(self.result) if isinstance(leaf, StoredMap)]


@dataclass
class Tape(ForwardPass):
    """The pass over the empty canvas, under the border `border`, and what happened in it.

    region: for each axis, the pixels that objects will cover, first and stop; its maps are `StoredMap`s, which keep
    their cells only where windows of objects there will read them. None: all maps keep all cells. kinds: of the events
    of the pass. macs: the multiply-adds so far. calls: that are under way; what a rule calls itself is no step.
    """

    region: Box | None = None
    steps: list[Step] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    macs: int = 0
    calls: int = 0

    def __post_init__(self) -> None:
        self.parameters = {id(tensor) for tensor in (*self.root.parameters(), *self.root.buffers())}
        self.observer = self._note

    def _note(self, event: Event) -> None:  # and not the event, which would keep its map
        self.kinds.add(event.kind)
        self.macs += event.macs

    def mixes_rows(self, function: Any) -> None:
        """Raise RowsMixed: a tape holds one image, whose rows it repeats for every object."""
        raise RowsMixed(describe(function))

    @property
    def margin(self) -> tuple[int, ...]:
        """The number of pixels from the edge, along each axis, at which an object runs as if there were no edge.

        No cell reads both what lies beyond the edge and the object, and cells of every phase lie between them that read
        neither.
        """
        source, maps = self.steps[0].source, self._maps()
        return tuple(
            edge_margin(n, [(m.frame[i], m.field[i]) for m in maps])
            + max(
                mirrored(n, s.source.frame[i], s.source.field[i], s.mirrored) if s.mirrored else 0 for s in self.steps
            )
            for i, n in enumerate(source.frame)
        )

    @property
    def stride(self) -> tuple[int, ...]:
        """The total stride for each axis: objects that far apart meet the same sublattices."""
        return self.steps[0].source.lattice.total_stride

    def within_reach(self, signal: Signal, results: "list[StoredMap]") -> Box:
        """Return the cells of `signal` that `results` may depend on, where an object changes them."""
        if self.region is None or len(self.region) != len(signal.box):  # a line needs all of its map
            return signal.box
        kept = tuple(
            read_for(pixels, window, field, [result.field[i] for result in results if len(result.field) > i])
            for i, (pixels, window, field) in enumerate(zip(self.region, signal.box, signal.field, strict=True))
        )
        return kept if all(a < b for a, b in kept) else signal.box

    def _maps(self) -> list["StoredMap"]:
        maps = [signal for step in self.steps for signal in (step.source, *step.maps)]
        return [signal for signal in maps if len(signal.frame) == len(maps[0].frame)]


class NotKept(Exception):
    """Cells were asked for that the tape did not expect anyone to read."""


class StoredMap(Signal):
    """A map on a tape: its size, and its cells in the box `kept` (None: none)."""

    kept: Box | None = None
    cells: Tensor

    @classmethod
    def of(cls, signal: Signal) -> "StoredMap":
        """Return a record of `signal` that keeps none of its cells yet."""
        sizes = signal.window.shape
        made: Any = like(signal, signal.window.new_empty((0, *sizes[1:])), cls)  # no view, which would keep all cells
        made._sizes = sizes
        return made

    def keep(self, window: Tensor, kept: Box) -> None:
        """Keep the cells of `kept`, within the window; all of them if something else was kept already."""
        if self.kept is not None and intersection([self.kept, kept]) == kept:
            return
        is_small = prod(b - a for a, b in kept) <= 0.7 * prod(b - a for a, b in self.box)
        if is_small and self.kept is None:
            self.cells, self.kept = cut(window, self.axes, self.box, kept).clone(), kept
        else:
            self.cells, self.kept = window, self.box

    @property
    def whole_bytes(self) -> int:
        """The number of bytes of all its cells."""
        return self._sizes.numel() * self.window.element_size()

    @property
    def whole(self) -> Signal:
        """Return the map as a plain Signal."""
        if self.kept != self.box:
            raise NotKept
        return like(self, self.cells)

    def read(self, box: Box, padding: float | Mirroring = 0.0) -> Tensor:
        """Return cells; padding: the value outside of maps that do not grow out of their frame."""
        known = intersection([self.box, box])
        if any(a >= b for a, b in known):
            return self._outside(box, padding)
        if self.kept is None or intersection([self.kept, known]) != known:
            raise NotKept
        cells = cut(self.cells, self.axes, self.kept, known)
        if known == box:
            return cells
        missing = [(a - first, stop - b) for (a, b), (first, stop) in zip(known, box, strict=True)]
        return pasted(self._outside(box, padding), cells, self.axes, missing)

    def _outside(self, box: Box, padding: float | Mirroring) -> Tensor:
        sizes = list(self._sizes)
        for axis, (a, b) in zip(self.axes, box, strict=True):
            sizes[axis] = b - a
        if self.background is not None:
            return self.background.expand(sizes)
        assert not isinstance(padding, str), padding  # what mirrors runs on whole maps
        return self.window.new_full((), padding if self.border.is_own else 0.0).expand(sizes)


class TapedSignal(Signal):
    """A map whose pass writes a tape or reads along one: of its calls only the model's own are steps.

    A step declares what it leaves around its own results, and not around maps that share memory with them.
    """

    is_written_through = False

    @property
    def _is_laid_out_as_unmodified(self) -> bool:
        return False

    @property
    def tape(self) -> Tape:
        """The tape of its pass."""
        raise NotImplementedError

    def called(self, func: Any, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the model's call of `func` on this map, the first of its arguments."""
        raise NotImplementedError

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = as_rules_take_it(func, types, args, kwargs)
        source = first_signal(args, kwargs)
        if not isinstance(source, TapedSignal):
            assert source is not None
            raise source.scope.unsupported(describe(func), "a placement cannot join a pool over a whole frame to a map")
        tape, rule = source.tape, find_rule(func)
        if tape.calls or traits_of(rule).needs == "nothing":  # hooks may ask more than the model does
            return rule(func, *args, **kwargs)
        tape.calls += 1
        try:
            return source.called(func, rule, args, kwargs)
        finally:
            tape.calls -= 1


class RecordedSignal(TapedSignal):
    """A map of the empty canvas, whose scope is a `Tape`. record: its entry on the tape."""

    _record: StoredMap | None = None

    @property
    def record(self) -> StoredMap:
        """Its entry on the tape."""
        if self._record is None:
            self._record = StoredMap.of(self)
        return self._record

    def crop(self) -> Tensor:
        """Return the map on its frame; an object may want to read all of it."""
        self.record.keep(self.window, self.box)
        return super().crop()

    def untaped(self) -> Signal:
        """Return the same map as a plain Signal."""
        return like(self, self.window)

    @property
    def tape(self) -> Tape:
        """The tape that its pass writes."""
        assert isinstance(self.scope, Tape)
        return self.scope

    def called(self, func: Any, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the rule and write the step."""
        leaves = tree_leaves((args, kwargs))
        maps = [leaf for leaf in leaves if isinstance(leaf, RecordedSignal)]
        operands, record = operands_of(leaves), self.record
        is_fixed = all(id(t) in self.tape.parameters for t in operands)
        need = traits_of(rule).need(func, args, kwargs)
        is_local = is_fixed and need.is_local
        is_read = self.tape.region is None or not is_local or len(maps) > 1 or need.kind == "neighborhood"
        read = maps if is_read else []
        windows = [(leaf.record, leaf.window) for leaf in read]
        before, sources = self.tape.macs, [leaf.record for leaf in maps]
        for leaf in read:
            leaf.share_window()  # so that a function in place leaves these cells alone
        result = rule(func, *args, **kwargs)
        made = tree_map(_new_record, result)
        need = need if is_fixed else Need("everything")
        step = Step(func, len(self.tape.steps), record, sources, operands, made, need, self.tape.macs - before)
        if need.kind == "channels" and not step.macs:  # a matrix for the channels of each cell
            matrix = max((operand.numel() for operand in operands if operand.ndim > 1), default=0)
            step.macs = matrix * sum(prod(b - a for a, b in m.box) for m in step.maps)
        self.tape.steps.append(step)
        for kept, window in windows:
            kept.keep(window, self.tape.within_reach(kept, step.maps) if is_local and step.maps else kept.box)
        return result


def _new_record(leaf: Any) -> Any:
    if isinstance(leaf, Relabeled):
        leaf = leaf.map
    if not isinstance(leaf, RecordedSignal):
        return leaf
    leaf._record = None  # it was of what there was before a function in place
    return leaf.record


def like(signal: Signal, window: Tensor, kind: type[Signal] = Signal) -> Signal:
    """Return a Signal like `signal`, of another kind and with other cells."""
    return kind(  # pyright: ignore[reportCallIssue]
        window,
        signal.start,
        signal.frame,
        signal.axes,
        signal.background,
        signal.lattice,
        signal.scope,
        signal.field,
    )


def operands_of(leaves: Sequence[Any]) -> list[Tensor]:
    """Return the ordinary tensors among the leaves of a call's arguments."""
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and not isinstance(leaf, Signal)]
