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

from borderless.batching.apart import one_by_one, same_sizes
from borderless.batching.batch_signal import BatchEdge, BatchPass, BatchSignal, Boxes, Frames
from borderless.batching.sizes import has_sizes, of_image
from borderless.engine.border import Border
from borderless.engine.forward_pass import SilentPass
from borderless.engine.geometry import Slide, intersection, union
from borderless.engine.naming import describe
from borderless.engine.operations import Interpolation, Mirror
from borderless.engine.registry import Need, Traits, traits_of
from borderless.engine.torch_internals import tree_leaves, tree_map
from borderless.errors import ImageError

_AT_ONCE = ("cell", "channels", "neighborhood", "resampled", "gathered")


@dataclass
class UnevenPass(BatchPass):
    """A pass whose calls run on all samples at once, or apart."""

    @cached_property
    def cropped(self) -> "UnevenPass":
        """The pass of maps that were cropped to their frames: from there on the model's own padding lies around."""
        if self.alone.border.is_own:
            return self
        border = Border("zero")
        return UnevenPass(BatchEdge(border), self.root, alone=SilentPass(border, self.root))

    def call(self, source: BatchSignal, func: Any, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call of the model's."""
        maps = _maps_of(args, kwargs)
        if any(one.scope is not maps[0].scope for one in maps):  # some are cropped to their frames
            cropped = {id(one): one.cropped() for one in maps}
            args, kwargs = tree_map(lambda leaf: cropped.get(id(leaf), leaf), (args, kwargs))
            return func(*args, **kwargs)
        traits = traits_of(rule)
        needs = self._needs(traits, func, args, kwargs, maps)
        if needs is None or not _runs_at_once(needs[0], maps):
            result = one_by_one(self, func, maps, args, kwargs)
        else:
            result = self._at_once(needs, traits, maps, func, rule, args, kwargs)
        return self._checked(func, source, result)

    def _needs(
        self, traits: Traits, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], maps: list[BatchSignal]
    ) -> list[Need] | None:
        """What the call needs of each sample, one for all where no size was asked for; None where they differ."""
        is_sized = any(map(has_sizes, (args, tuple(kwargs.values()))))
        if not is_sized:
            self.asked_size = False
            need = traits.need(func, args, kwargs)
            if not self.asked_size:
                return [need]
        found: list[Need | None] = [None] * len(maps[0].frames)
        for rows, own_args, own_kwargs in same_sizes(maps, args, kwargs):
            need = traits.need(func, own_args, own_kwargs)
            for row in rows:
                found[row] = need
        needs = [need for need in found if need is not None]
        return needs if len({_comparable(need) for need in needs}) == 1 else None

    def _at_once(
        self,
        needs: list[Need],
        traits: Traits,
        maps: list[BatchSignal],
        func: Any,
        rule: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        first, need = maps[0], needs[0]
        args, kwargs = tree_map(lambda leaf: of_image(leaf, None), (args, kwargs))
        if need.slides:
            frames, boxes = _after(func, first, needs)
            around = _around(first, needs, boxes, traits.beyond)
            run_on = maps if around is None else [around, *maps[1:]]
        else:
            whole = max(maps, key=lambda one: len(one.axes))
            frames, boxes = whole.frames, _joint_boxes(maps, whole)
            run_on = [one if one.boxes == boxes or need.kind == "gathered" else _with_background(one) for one in maps]
        put = {id(one): other for one, other in zip(maps, run_on, strict=True) if other is not one}
        if put:
            args, kwargs = tree_map(lambda leaf: put.get(id(leaf), leaf), (args, kwargs))
        result = rule(func, *args, **kwargs)
        back = {id(other): one for one, other in zip(maps, run_on, strict=True) if other is not one}

        def noted(leaf: Any) -> Any:
            if not isinstance(leaf, BatchSignal):
                return leaf
            if (changed := back.get(id(leaf))) is not None:  # in place
                changed.become(func, leaf.window, leaf.background, box=leaf.box, field=leaf.field)
                leaf = changed
            return leaf.on(frames, boxes)

        return tree_map(noted, result)

    def _checked(self, func: Any, source: BatchSignal, result: Any) -> Any:
        """`result`, with a row for each image in every tensor of it."""
        for leaf in tree_leaves(result):
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


def _maps_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[BatchSignal]:
    return list({id(leaf): leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, BatchSignal)}.values())


def _comparable(need: Need) -> Need:
    """The need without the sizes that some operations carry."""
    return need._replace(slides=tuple(s._replace(n=0) if isinstance(s, Mirror) else s for s in need.slides))


def _runs_at_once(need: Need, maps: Sequence[BatchSignal]) -> bool:
    """Whether the rule of a call that needs this can run on all samples of `maps` together."""
    if need.kind not in _AT_ONCE and not need.slides:
        return False
    if need.kind in ("neighborhood", "resampled") and not need.slides:
        return False
    first = maps[0]
    if any(len(one.axes) != len(first.axes) for one in maps):  # lines: the same at every cell of the other axes
        return first.border.keeps == "frame"
    return all(one.frames == first.frames for one in maps)


def _after(func: Any, source: BatchSignal, needs: Sequence[Need]) -> tuple[Frames, Boxes]:
    """The frames and boxes of what operations leave of each sample."""
    edge, frames, boxes = source.border, [], []
    each = needs if len(needs) > 1 else [needs[0]] * len(source.frames)
    for image, (need, frame, box) in enumerate(zip(each, source.frames, source.boxes, strict=True)):
        slides = need.slides
        if not edge.has_own_padding:  # padding that mirrors then only numbers the cells anew
            slides = [Slide(1, 1, o.padding, o.padding_after) if isinstance(o, Mirror) else o for o in slides]
        frames.append(tuple(o.frame(n) for o, n in zip(slides, frame, strict=True)))
        axes = zip(slides, box, frame, strict=True)
        boxes.append(tuple(o.kept(window, n, edge.keeps, edge.reach) for o, window, n in axes))
        if min(frames[-1]) < 1 or any(a >= b for a, b in boxes[-1]):
            raise ImageError(
                f"Expected larger images but got image {image}, of whose feature map of {frame} cells "
                f"{describe(func)} in {source.batch.describe_module()} leaves none."
            )
    return tuple(frames), tuple(boxes)


def _around(source: BatchSignal, needs: Sequence[Need], outputs: Boxes, beyond: float) -> BatchSignal | None:
    """`source` with what a call reads around each sample; None where the call, or `Signal.read`, sees to it itself."""
    edge = source.border
    if edge.keeps == "inside" or any(isinstance(o, Mirror) for o in needs[0].slides):
        return None
    each = needs if len(needs) > 1 else [needs[0]] * len(outputs)
    is_read = any(
        stop < last
        for need, box, wanted in zip(each, source.boxes, outputs, strict=True)
        for o, (_, stop), interval in zip(need.slides, box, wanted, strict=True)
        for _, last in (o.needed(interval),)
    )
    if not is_read:
        return None
    if edge.has_own_padding and any(isinstance(o, Interpolation) for o in needs[0].slides):
        return source.repeated()
    if edge.keeps == "frame" and beyond:
        return source.surrounded(beyond)
    return None if edge.outside in ("reflect", "replicate", "circular") else _with_background(source)


def _with_background(source: BatchSignal) -> BatchSignal:
    return source.surrounded(0.0 if source.background is None else source.around_window())


def _joint_boxes(maps: Sequence[BatchSignal], whole: BatchSignal) -> Boxes:
    """The boxes of the samples of maps that are joined."""
    joined = [one for one in maps if len(one.axes) == len(whole.axes)]
    if len(joined) == 1:
        return whole.boxes
    pick = intersection if whole.border.keeps == "inside" else union
    return tuple(pick(boxes) for boxes in zip(*(one.boxes for one in joined), strict=True))
