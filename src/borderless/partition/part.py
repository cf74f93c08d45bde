"""Maps of which a part is stored: `PartSignal`, with the edge that its rules see, and the pass that it belongs to.

At the edge of a part there are two cases. Outside of the whole map lies what the border of the whole says; inside of
it and outside of the part, nothing is known. So a rule keeps just the outputs whose inputs are known.

Shapes: boxes are in frame indices, one interval [start, stop) an axis.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import Any, cast, get_args
from weakref import WeakValueDictionary

from torch import Tensor

from borderless.engine.edge import Around, AxisEdge, EdgeWithin, along
from borderless.engine.forward_pass import ForwardPass, SilentPass
from borderless.engine.geometry import Box, Mirroring
from borderless.engine.operations import Mirror, OnMirrored, Operation, decided
from borderless.engine.registry import Need, find_rule, traits_of
from borderless.engine.relabeled import maps_in
from borderless.engine.rules.frame_pools import FramePool
from borderless.engine.signal import Signal, as_rules_take_it
from borderless.engine.torch_internals import tree_leaves, tree_map
from borderless.errors import ImageError


@dataclass(frozen=True, repr=False)
class PartEdge(EdgeWithin):
    """The edge of a part of a map: outside of the whole map lies what `whole` says, inside of it nothing is known."""

    @property
    def axes(self) -> tuple[AxisEdge, ...]:
        """Whatever follows from what is known is kept."""
        return _of_part(self.whole.axes)


@lru_cache
def _of_part(axes: tuple[AxisEdge, ...]) -> tuple[AxisEdge, ...]:
    return tuple(axis._replace(keeps="known") for axis in axes)


@dataclass
class PartPass(SilentPass):
    """A pass over a part of an image.

    calls: how many calls of rules are under way; what a rule calls itself is no call of the model's. done: of the call
    that is under way, the first output along each axis that no earlier part has given; None: no part came before.
    pools_locally: whether a pool over the whole frame is known to be a local one.
    alive: the maps of the pass that something still refers to.
    """

    is_laid_out_as_unmodified = False
    calls: int = 0
    pools_locally: bool = False
    done: tuple[int | None, ...] | None = None
    macs: int = field(default=0, init=False)
    alive: WeakValueDictionary[int, "PartSignal"] = field(default_factory=WeakValueDictionary, init=False)
    _numbers: Iterator[int] = field(default_factory=count, init=False)

    def __post_init__(self) -> None:
        if self.observer is None:  # rules tell nobody what they cost
            self.observer = lambda event: None

    @property
    def edge(self) -> PartEdge:
        """The edge of the part."""
        assert isinstance(self.border, PartEdge)
        return self.border

    def observe(
        self, function: Any, signal: Any, macs: int = 0, slides: Any = (), source: tuple[int, ...] = ()
    ) -> None:
        """Count multiply-adds."""
        self.macs += macs

    def call(self, source: "PartSignal", func: Any, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call of the model's whose first map is `source`."""
        raise NotImplementedError

    def gather(self, part: Any, merge: Callable[[list[Any]], Any]) -> Any:
        """Return merge(parts), given what this part contributes."""
        raise NotImplementedError

    def whole_pass(self) -> ForwardPass:
        """Return a pass over whole maps under the border of the whole."""
        return _PassOverCopies(self.edge.whole, self.root, warned=self.warned)


class _PassOverCopies(SilentPass):
    """A pass over whole maps that were put together of their parts, and share no memory with what the model holds."""

    is_laid_out_as_unmodified = False


class PartSignal(Signal):
    """A map of which a part is stored.

    is_settled: whether all of it is stored in every part, as what was made of a whole map is.
    """

    _whole: Box
    is_settled = False
    is_gathered = True

    def __init__(self, *_: Any, **__: Any) -> None:
        scope = self.parts
        scope.alive[next(scope._numbers)] = self

    @classmethod
    def from_part(cls, cells: Tensor, start: Sequence[int], size: Sequence[int], scope: PartPass) -> "PartSignal":
        """Return the part of an image (N, C, *size) whose first cell is at `start`."""
        image = Signal.from_image(cells, scope)
        made = cls(  # pyright: ignore[reportCallIssue]  Tensor.__init__ takes anything
            cells, tuple(start), tuple(size), image.axes, image.background, image.lattice, scope, image.field, True
        )
        return made.within(made.frame_box)

    def within(self, whole: Box) -> "PartSignal":
        """Note where the whole map is stored."""
        self._whole = whole
        return self

    @property
    def whole_box(self) -> Box:
        """The box on which the whole map is stored."""
        return self._whole

    def check_frame(self) -> None:
        """Refuse an output of which the whole map does not hold its frame, as the crop of a whole map refuses it.

        Raises:
            ImageError: Some of its cells are known nowhere.
        """
        if any(a > first or b < stop for (a, b), (first, stop) in zip(self.whole_box, self.frame_box, strict=True)):
            raise ImageError(
                f"Expected an output that is known on its whole frame {self.frame_box} but got one known on "
                f"{self.whole_box}, as the border {self.border.name!r} keeps it; use another border"
            )

    @property
    def parts(self) -> PartPass:
        """The pass over a part."""
        assert isinstance(self.scope, PartPass)
        return self.scope

    @property
    def is_written_through(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether a change in place reaches the views of this part: where it left the part its cells."""
        return self.memory is not None and self.memory.box == self.box

    @property
    def may_pool_frame(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether a pool over the whole frame may turn out to be a global one."""
        return not self.parts.pools_locally

    def pool_locally(self, pool: Callable[[Any], Any]) -> Any:
        """Return pool(this part), a call of the model's, where no pool turns out to be a global one."""
        self.parts.pools_locally = True
        try:
            return pool(self)
        finally:
            self.parts.pools_locally = False

    def derive(self, *args: Any, **kwargs: Any) -> "PartSignal":  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a map of the same pass; where the whole of it is stored is noted by whoever makes it."""
        made = super().derive(*args, **kwargs)
        assert isinstance(made, PartSignal)
        return made.within(self.whole_box)

    def gather_parts(self, part: Any, merge: Callable[[list[Any]], Any]) -> Any:
        """Return merge(parts), of all parts of the map."""
        return self.parts.gather(part, merge)

    @property
    def whole_edges(self) -> tuple[AxisEdge, ...]:
        """The edge of the whole map along each axis."""
        return along(self.parts.edge.whole.axes, self.lattice.axes, len(self.axes))

    def kept(self, operations: Sequence[Operation], box: Box | None = None) -> Box:
        """Return the outputs that follow from this part and that no earlier part has given."""
        operations = self._on_mirrored(operations)
        outputs = self.kept_of_whole(operations)
        given = zip(operations, self.box if box is None else box, self.whole_box, outputs, strict=True)
        return not_done([decided(*one) for one in given], self.parts.done)

    def operations(self, operations: Sequence[Any]) -> tuple[Any, ...]:
        """Return `operations` as they are on the whole map, where what lies outside may be cells of the frame."""
        return self._on_mirrored(self.directed(operations))

    def _on_mirrored(self, operations: Sequence[Any]) -> tuple[Any, ...]:
        axes = zip(operations, self.whole_edges, self.frame, strict=False)
        return tuple(
            OnMirrored(o, n, cast(Mirroring, edge.outside))
            if edge.is_mirrored and not isinstance(o, Mirror | OnMirrored)
            else o
            for o, edge, n in axes
        )

    def kept_of_whole(self, operations: Sequence[Operation]) -> Box:
        """Return the outputs that are kept of the whole map."""
        axes = zip(operations, self.whole_edges, self.whole_box, self.frame, strict=True)
        reach = self.border.reach
        return tuple(operation.kept(window, n, edge.keeps, reach) for operation, edge, window, n in axes)

    def read(self, box: Box, padding: float | Mirroring = 0.0) -> Tensor:
        """Return the cells of `box`: stored ones, and outside of the whole map what lies there."""
        if box == self.box:
            return self.window
        around: tuple[Around, ...] = tuple([edge.around(padding) for edge in self.edges])
        for kind, (a, b), (first, stop), (low, high) in zip(around, self.box, box, self.whole_box, strict=True):
            is_known = (a <= max(first, low) or first >= high) and (min(stop, high) <= b or stop <= low)
            assert is_known or kind in get_args(Mirroring), (self.box, box, self.whole_box)
        return self._read_around(box, around)

    def crop(self) -> Tensor:
        """Return the map on its frame, where all of it is stored."""
        if all(a <= 0 and b >= n for (a, b), n in zip(self.box, self.frame, strict=True)):
            return self.read(self.frame_box)
        raise self.scope.unsupported("a function that reads the whole frame", "a part of a feature map is stored")

    def untaped(self) -> Signal:
        """Return this map itself."""
        return self

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if FramePool in types:  # it knows which of its values goes in
            return FramePool.__torch_function__(func, types, args, kwargs)
        args, kwargs = as_rules_take_it(func, types, args, kwargs)
        source = _first_part(args, kwargs)
        scope, rule = source.parts, find_rule(func)
        if scope.calls or traits_of(rule).needs == "nothing":
            return rule(func, *args, **kwargs)
        scope.calls += 1
        try:
            result = scope.call(source, func, rule, args, kwargs)
            for made in maps_in(result):
                source.relate(made, func, args)
            return result
        finally:
            scope.calls -= 1


def _first_part(args: tuple[Any, ...], kwargs: dict[str, Any]) -> PartSignal:
    return next(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, PartSignal))


def not_done(outputs: Sequence[tuple[int, int]], done: Sequence[int | None] | None) -> Box:
    """Return the part of `outputs` that begins where earlier parts have stopped; empty if it does not reach there.

    done: None, of all axes or of one, where no part came before.
    """
    if done is None:
        return tuple(outputs)
    done = [first if at is None else at for (first, _), at in zip(outputs, done, strict=True)]
    return tuple(
        (at, max(at, stop)) if first <= at else (at, at) for (first, stop), at in zip(outputs, done, strict=True)
    )


def parts_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[PartSignal]:
    """Return the parts of maps among the arguments of a call, each once."""
    return list({id(leaf): leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, PartSignal)}.values())


def with_maps_placed(source: PartSignal, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Return the arguments of a call with everything that has a value for each position as a settled `PartSignal`.

    That is, whole maps, and (under the original padding) ordinary tensors of the size of the frame.
    """

    def placed(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or isinstance(leaf, PartSignal):
            return leaf
        if isinstance(leaf, Signal):
            if leaf.frame != source.frame:
                return leaf
            cells, box, background = leaf.window, leaf.box, leaf.background
        else:
            from_end = [axis - source.ndim for axis in source.axes]
            sizes = tuple(leaf.shape[axis] if leaf.ndim >= -axis else 1 for axis in from_end)
            has_position = sizes == source.frame and sizes != (1,) * len(sizes)
            if not has_position or not source.has_original_padding:
                return leaf
            cells, background = leaf.reshape(*[1] * (source.ndim - leaf.ndim), *leaf.shape), None
            box = source.frame_box
        made = source.derive(cells, background, box=box, aliased=True).within(box)
        made.is_settled = True
        return made

    return tree_map(placed, (args, kwargs))


def whole_of_result(need: Need, sources: Sequence[PartSignal]) -> Box:
    """Return where the whole of a call's result is stored."""
    first = sources[0]
    if need.slides:
        return first.kept_of_whole(need.slides)
    wholes = []
    for edge, *intervals in zip(first.whole_edges, *[source.whole_box for source in sources], strict=True):
        starts, stops = zip(*intervals, strict=True)
        wholes.append((max(starts), min(stops)) if edge.keeps == "inside" else (min(starts), max(stops)))
    return tuple(wholes)
