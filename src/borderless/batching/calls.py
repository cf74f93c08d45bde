"""The calls of a model on a batch of unequal maps: on all samples at once where the rule's traits say how, else apart.

At once: the cells around each sample that the call reads are put there, the rule runs on the window that holds all
samples, and the frames and boxes of its result follow from what the call reads, sample by sample. Apart: the rule runs
on ordinary maps, one for each size, and what comes out is put together again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from borderless.batching.apart import one_by_one
from borderless.batching.batch_signal import BatchEdge, BatchPass, BatchSignal, maps_of
from borderless.batching.extents import After, after, is_alike, joint
from borderless.batching.sizes import has_sizes, of_image
from borderless.engine.border import Border
from borderless.engine.forward_pass import SilentPass
from borderless.engine.naming import describe
from borderless.engine.operations import Interpolation, Mirror
from borderless.engine.registry import Need, Traits, traits_of
from borderless.engine.relabeled import maps_in
from borderless.engine.rules.pointwise import elementwise
from borderless.engine.torch_internals import tree_leaves, tree_map
from borderless.errors import ImageError

_AT_ONCE = ("cell", "channels", "neighborhood", "resampled", "gathered")


@dataclass
class UnevenPass(BatchPass):
    """A pass whose calls run on all samples at once, or apart."""

    @cached_property
    def cropped(self) -> "UnevenPass":
        """The pass of maps that were cropped to their frames: the model's original padding lies around them."""
        if self.alone.border.is_own:
            return self
        border = Border("zero")
        return UnevenPass(BatchEdge(border), self.root, alone=SilentPass(border, self.root))

    def call(self, source: BatchSignal, func: Any, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call of the model's."""
        maps = maps_of((args, kwargs))
        if any(one.scope is not maps[0].scope for one in maps):  # some are cropped to their frames
            args, kwargs = _with(maps, [one.cropped() for one in maps], args, kwargs)
            return func(*args, **kwargs)
        traits = traits_of(rule)
        needs = self._needs(traits, func, args, kwargs, maps)
        is_by_size = rule is elementwise and (has_sizes(args) or has_sizes(tuple(kwargs.values())))
        if is_by_size or needs is None or not _runs_at_once(needs[0], maps):
            result = one_by_one(self, func, maps, args, kwargs, has_weights=bool(needs and needs[0].slides))
        elif needs[0].slides:
            result = self._sliding(needs, traits, maps[0], func, rule, args, kwargs)
        else:
            return self._checked(func, source, self._on_cells(maps, func, rule, args, kwargs))
        for made in maps_in(result):  # of copies of the maps
            source.relate(made, func, args)
        return self._checked(func, source, result)

    def _needs(
        self, traits: Traits, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], maps: list[BatchSignal]
    ) -> list[Need] | None:
        """Return the needs of each sample, one for all where no size was asked for; None where they differ."""
        is_sized = has_sizes(args) or (bool(kwargs) and has_sizes(tuple(kwargs.values())))
        if not is_sized:
            self.asked_size = False
            need = traits.need(func, args, kwargs)
            if not self.asked_size:
                return [need]
        needs = []
        try:
            for self.asking in range(len(maps[0].boxes)):
                own_args, own_kwargs = args, kwargs
                if is_sized:
                    own_args, own_kwargs = tree_map(lambda leaf: of_image(leaf, self.asking), (args, kwargs))
                needs.append(traits.need(func, own_args, own_kwargs))
        finally:
            self.asking = None
        same_kind = all(need.kind == needs[0].kind and need.over == needs[0].over for need in needs)
        return needs if same_kind and is_alike([need.slides for need in needs]) else None

    def _sliding(
        self,
        needs: list[Need],
        traits: Traits,
        source: BatchSignal,
        func: Any,
        rule: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run a call that reads intervals of its first map."""
        operations = tuple(need.slides for need in needs) if any_mirrors(needs[0]) else (needs[0].slides,)
        left = after(operations, source.frames, source.boxes, source.edges[0].keeps, source.border.reach)
        if left.empty is not None:
            raise ImageError(
                f"Expected larger images but got image {left.empty}, of whose feature map of "
                f"{source.frames[left.empty]} cells {describe(func)} in {self.describe_module()} leaves none."
            )
        args, kwargs = _plain(args, kwargs)
        args, kwargs = _with([source], [_surrounded(source, needs[0], left, traits.beyond)], args, kwargs)
        result = rule(func, *args, **kwargs)
        return _each_map(result, lambda one: one.on(left.frames, left.boxes))

    def _on_cells(
        self, maps: list[BatchSignal], func: Any, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run a call that treats each cell by itself, or gathers them."""
        args, kwargs = _plain(args, kwargs)
        if len(maps) == 1:
            return rule(func, *args, **kwargs)
        whole = max(maps, key=lambda one: len(one.axes))
        frames = whole.frames
        keeps = tuple(edge.keeps for edge in whole.edges)
        boxes = joint(tuple(one.boxes for one in maps if len(one.axes) == len(whole.axes)), keeps)
        is_there = [one.boxes == boxes or len(one.axes) < len(whole.axes) for one in maps]
        run_on = [one if there else _on_background(one) for one, there in zip(maps, is_there, strict=True)]
        args, kwargs = _with(maps, run_on, args, kwargs)
        result = rule(func, *args, **kwargs)
        back = {id(other): one for one, other in zip(maps, run_on, strict=True) if other is not one}

        def noted(leaf: BatchSignal) -> BatchSignal:
            changed = back.get(id(leaf))
            if changed is not None:  # in place
                leaf = changed.become(func, leaf.window, leaf.background, box=leaf.box, field=leaf.field)
            return leaf.on(frames, boxes)

        return _each_map(result, noted)

    def _checked(self, func: Any, source: BatchSignal, result: Any) -> Any:
        """Return `result`, with a row for each image in every tensor of it."""
        for leaf in [result] if isinstance(result, Tensor) else tree_leaves(result):
            if isinstance(leaf, BatchSignal):
                count = len(leaf.window)
            elif type(leaf) is Tensor:
                count = leaf.shape[0] if leaf.ndim else 0
            else:
                continue
            if count != len(source.window):
                raise self.unsupported(
                    describe(func), f"it makes {count} rows of the {len(source.window)} images of the batch"
                )
        return result


def any_mirrors(need: Need) -> bool:
    """Return whether the operations carry the size of a frame."""
    return any(isinstance(operation, Mirror) for operation in need.slides)


def _plain(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Return the arguments with the sizes of the map that holds all samples."""
    if has_sizes(args) or (kwargs and has_sizes(tuple(kwargs.values()))):
        return tree_map(lambda leaf: of_image(leaf, None), (args, kwargs))
    return args, kwargs


def _with(
    maps: Sequence[BatchSignal], others: Sequence[BatchSignal], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, Any]:
    """Return the arguments with `others` instead of `maps`."""
    put = {id(one): other for one, other in zip(maps, others, strict=True) if other is not one}
    return tree_map(lambda leaf: put.get(id(leaf), leaf), (args, kwargs)) if put else (args, kwargs)


def _each_map(result: Any, note: Any) -> Any:
    if isinstance(result, BatchSignal):
        return note(result)
    return tree_map(lambda leaf: note(leaf) if isinstance(leaf, BatchSignal) else leaf, result)


def _runs_at_once(need: Need, maps: Sequence[BatchSignal]) -> bool:
    """Return whether the rule of a call that needs this can run on all samples of `maps` together."""
    if need.kind not in _AT_ONCE and not need.slides:
        return False
    if need.kind in ("neighborhood", "resampled") and not need.slides:
        return False
    first = maps[0]
    if need.slides and (len(set(first.edges)) > 1 or first.edges[0].is_causal):
        return False
    if any(len(one.axes) != len(first.axes) for one in maps):  # lines: the same at every cell of the other axes
        return first.keeps("frame")
    return all(one.frames == first.frames for one in maps)


def _surrounded(source: BatchSignal, need: Need, left: After, beyond: float) -> BatchSignal:
    """`source` with what a call reads around each sample, but for what `Signal.read` sees to."""
    edge = source.edges[0]
    if any_mirrors(need):
        return source.to_read(left.reads)
    if edge.keeps == "inside" or not left.is_beyond:
        return source
    if edge.is_original and any(isinstance(operation, Interpolation) for operation in need.slides):
        return source.repeated(left.reads)
    if beyond and edge.around(beyond) == beyond:
        return source.surrounded(beyond)
    return source.to_read(left.reads) if edge.is_mirrored else _on_background(source, left)


def _on_background(source: BatchSignal, left: After | None = None) -> BatchSignal:
    around = 0.0 if source.background is None else source.around_window()
    return source.surrounded(around, None if left is None else left.reads)
