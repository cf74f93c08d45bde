"""A call of a model on samples of unequal sizes, one size after the other, and what comes out put together again."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.batching.batch_signal import BatchPass, BatchSignal
from borderless.batching.sizes import of_image, per_image
from borderless.engine.geometry import union
from borderless.engine.leaving import unwatched
from borderless.engine.naming import describe, named
from borderless.engine.relabeled import Relabeled
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import tree_flatten, tree_map, tree_unflatten

Call = tuple[list[int], tuple[Any, ...], dict[str, Any]]


def same_sizes(maps: Sequence[BatchSignal], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[Call]:
    """Return the call for the samples of each size: their rows, and the arguments with ordinary maps and sizes."""
    groups: dict[Any, list[int]] = {}
    leaves = [leaf for leaf in tree_flatten((args, kwargs))[0] if not isinstance(leaf, Tensor)]
    for row in range(len(maps[0].frames)):
        sizes = repr([of_image(leaf, row) for leaf in leaves])
        groups.setdefault((tuple((one.frames[row], one.boxes[row]) for one in maps), sizes), []).append(row)
    for rows in groups.values():

        def taken(leaf: Any, rows: list[int] = rows) -> Any:
            return leaf.rows(rows) if isinstance(leaf, BatchSignal) else of_image(leaf, rows[0])

        yield rows, *tree_map(taken, (args, kwargs))


def one_by_one(
    scope: BatchPass,
    func: Any,
    maps: Sequence[BatchSignal],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    has_weights: bool = False,
) -> Any:
    """Run a call on the samples of each size, and return the results as one.

    has_weights: whether the ordinary tensors among its arguments have nothing to do with samples.
    """
    count = len(maps[0].frames)
    for leaf in [] if has_weights else tree_flatten((args, kwargs))[0]:
        if isinstance(leaf, Tensor) and not isinstance(leaf, Signal) and leaf.ndim > 2 and len(leaf) == count:
            raise scope.unsupported(describe(func), f"an ordinary tensor of shape {tuple(leaf.shape)} enters beside it")
    if func.__name__.endswith("_") and not func.__name__.endswith("__"):
        raise scope.unsupported(describe(func), "it changes a feature map in place")
    all_rows, made = [], []
    for rows, own_args, own_kwargs in same_sizes(maps, args, kwargs):
        all_rows.append(rows)
        if func in _TO_SIZES:
            own_args = _to_fewer_rows(own_args, count, len(rows))
        made.append(tree_flatten(func(*own_args, **own_kwargs)))
    structures = [structure for _, structure in made]
    if any(structure != structures[0] for structure in structures):
        raise scope.unsupported(describe(func), "it returns something else for each size of image")
    parts = zip(*(leaves for leaves, _ in made), strict=True)
    return tree_unflatten([_joined(scope, func, maps[0], all_rows, some) for some in parts], structures[0])


_TO_SIZES = frozenset(named("reshape", "view", "expand"))


def _to_fewer_rows(args: tuple[Any, ...], count: int, rows: int) -> tuple[Any, ...]:
    """Return the arguments of a call that gives a map of `count` images other sizes, for a map of `rows` of them."""
    source, *sizes = args
    sizes = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else tuple(sizes)
    return (source, rows, *sizes[1:]) if sizes and sizes[0] == count else args


def _joined(scope: BatchPass, func: Any, like: BatchSignal, rows: list[list[int]], parts: Sequence[Any]) -> Any:
    if all(isinstance(part, Relabeled) for part in parts):
        first = parts[0]
        made = _packed(scope, func, rows, [part.map for part in parts])
        return Relabeled.of(made, first.batch, first.tokens, first.flattened_by)
    if all(isinstance(part, Signal) for part in parts):
        return _packed(scope, func, rows, parts)
    if all(isinstance(part, Tensor) for part in parts):
        if any(isinstance(part, Signal) for part in parts) and scope.cropped is not scope:
            raise scope.unsupported(
                describe(func), "it crops the feature maps of some images to their frames, and of others it does not"
            )
        parts = [part.crop() if isinstance(part, Signal) else unwatched(part) for part in parts]
        is_map = all(part.ndim == like.ndim and _has_space(part, like) for part in parts)
        return _cropped(scope, func, like, rows, parts) if is_map else _in_rows(scope, func, rows, parts)
    numbers = [(row, part) for some, part in zip(rows, parts, strict=True) for row in some]
    values = [part for _, part in sorted(numbers, key=lambda one: one[0])]
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return per_image(max(values), values, scope.size_error, scope.is_in_model)
    if any(value != values[0] for value in values):
        raise scope.unsupported(describe(func), f"it returns another value for each size of image: {values}")
    return values[0]


def _has_space(part: Tensor, like: BatchSignal) -> bool:
    return any(part.shape[axis] > 1 for axis in like.axes)


def _in_rows(scope: BatchPass, func: Any, rows: list[list[int]], parts: Sequence[Any]) -> Tensor:
    """Ordinary tensors of one shape, in the order of the images."""
    shapes = {tuple(part.shape[1:]) for part in parts}
    if len(shapes) > 1 or any(not part.ndim or len(part) != len(some) for part, some in zip(parts, rows, strict=True)):
        raise scope.unsupported(
            describe(func),
            f"it makes ordinary tensors of unequal shapes of the images, {[tuple(part.shape) for part in parts]}: a "
            "flattened feature map has as many values as the image has positions",
        )
    index = torch.tensor([row for some in rows for row in some], device=parts[0].device).argsort()
    return torch.cat(list(parts)).index_select(0, index)


def _cropped(
    scope: BatchPass, func: Any, like: BatchSignal, rows: list[list[int]], parts: Sequence[Tensor]
) -> BatchSignal:
    """Ordinary tensors that are maps cropped to their frames: the model's original padding lies around them."""
    others = [d for d in range(1, like.ndim) if d not in like.axes]
    if len({tuple(part.shape[d] for d in others) for part in parts}) > 1:
        return _in_rows(scope, func, rows, parts)  # pyright: ignore[reportReturnType]  which says what is wrong
    maps = []
    for part in parts:
        frame = tuple(part.shape[axis] for axis in like.axes)
        given = (part, (0,) * len(frame), frame, like.axes, None, like.lattice, scope.cropped.alone, like.field)
        maps.append(Signal(*given))  # pyright: ignore[reportCallIssue]
    return _packed(scope.cropped, func, rows, maps)


def _packed(scope: BatchPass, func: Any, rows: list[list[int]], parts: Sequence[Any]) -> BatchSignal:
    """Ordinary maps of unequal sizes as one map of the batch."""
    first = parts[0]
    if any(type(part) is not Signal for part in parts):
        raise scope.unsupported(describe(func), f"it returns a {type(first).__name__}")
    if any(len(part.window) != len(some) for part, some in zip(parts, rows, strict=True)):
        raise scope.unsupported(describe(func), "it changes the number of images in the batch")
    box = union([part.box for part in parts])
    frame = tuple(max(along) for along in zip(*(part.frame for part in parts), strict=True))
    count = sum(map(len, rows))
    frames, boxes, windows, around = [frame] * count, [box] * count, [first.window] * count, [first.background] * count
    for some, part in zip(rows, parts, strict=True):
        amounts = [0] * (2 * part.ndim)
        for axis, (a, b), (low, high) in zip(part.axes, part.box, box, strict=True):
            amounts[2 * (part.ndim - 1 - axis) : 2 * (part.ndim - axis)] = [a - low, high - b]
        grown = F.pad(part.window, amounts) if any(amounts) else part.window
        for at, row in enumerate(some):
            frames[row], boxes[row], windows[row] = part.frame, part.box, grown[at : at + 1]
            if part.background is not None:
                around[row] = part.background[min(at, len(part.background) - 1)].unsqueeze(0)
    background = None if first.background is None else torch.cat(around)  # pyright: ignore[reportArgumentType]
    made: Any = BatchSignal(  # pyright: ignore[reportCallIssue]
        torch.cat(windows), tuple(a for a, _ in box), frame, first.axes, background, first.lattice, scope, first.field
    )
    return made.on(tuple(frames), tuple(boxes))
