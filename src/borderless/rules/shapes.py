"""Functions that move, select or join dimensions, and the questions a model asks about a map's shape and type.

Shapes are the frame's. A spatial crop and `F.pad` only renumber cells where maps may grow: on an endless plane nothing
is cut off and nothing is added. What merges spatial dimensions with channels reads absolute position.
"""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless import geometry
from borderless.aliases import View
from borderless.cells import periods, same_period, tile
from borderless.errors import SignalError
from borderless.geometry import Slide
from borderless.receptive_field import renumbered
from borderless.rules.plan import plan
from borderless.rules.pointwise import from_end, joint_box, joint_field, without_extent
from borderless.rules.registry import describe, named, rule
from borderless.rules.signatures import arguments
from borderless.rules.sliding import strided_slice
from borderless.signal import Signal, first_signal
from borderless.torch_internals import DisableTorchFunctionSubclass, getter

_ATTRIBUTES = (
    "shape",
    "dtype",
    "device",
    "layout",
    "ndim",
    "is_cuda",
    "is_sparse",
    "is_quantized",
    "is_meta",
    "itemsize",
)


@rule(
    *map(getter, _ATTRIBUTES),
    *named("size", "dim", "numel", "nelement", "is_floating_point", "is_complex", "get_device", "element_size"),
    *named("ndimension", "is_same_size"),
    torch.Tensor.__len__,
)
def query(function: Any, signal: Any, *args: Any, **kwargs: Any) -> Any:
    """Shape and type, as the unmodified model would see them."""
    if function is torch.Tensor.__len__:
        return signal.shape[0]
    with DisableTorchFunctionSubclass():
        return function(signal, *args, **kwargs)


@rule(
    *named("is_contiguous", "is_inference", "is_pinned", "is_conj", "is_neg"),
    *(getattr(torch.Tensor, name) for name in ("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor")),
)
def query_window(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    """Storage, as the window has it."""
    return function(signal.window, *args, **kwargs)


@rule(
    *named("numpy", "tolist", "item", "is_nonzero"),
    torch.Tensor.__array__,
    torch.Tensor.__bool__,
    torch.Tensor.__float__,
    torch.Tensor.__int__,
    torch.Tensor.__index__,
)
def values(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    raise SignalError(
        f"got a Signal ({signal!r}) in {describe(function)}; needed: an ordinary tensor. "
        "Call .crop() for the map on its frame or .window for all that is stored, or convert with output='frame'"
    )


@rule(*named("permute", "transpose", "movedim", "swapaxes", "swapdims", "moveaxis"))
def move(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Signal:
    # PyTorch itself says where each dimension goes: give every dimension its number as its size.
    numbered = function(torch.empty(tuple(range(1, signal.ndim + 1)), device="meta"), *args, **kwargs)
    places = [size - 1 for size in numbered.shape]
    axes = tuple(places.index(axis) for axis in signal.axes)
    if places[0] != 0:
        raise signal.scope.unsupported(describe(function), "it moves the batch dimension")
    if axes != tuple(sorted(axes)):
        raise signal.scope.unsupported(
            describe(function),
            "it exchanges spatial axes (those from the third on: borderless takes every input tensor for "
            "(batch, channels, *space), so give a channels-last input as (N, C, H, W))",
        )
    return signal.alias(View(lambda cells: function(cells, *args, **kwargs), signal.axes), axes=axes)


@rule(*named("reshape", "view", "flatten", "unflatten", "unsqueeze", "squeeze", "view_as", "reshape_as"))
def reshape(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    if not isinstance(signal, Signal):
        found = first_signal(args, kwargs)
        assert found is not None
        with DisableTorchFunctionSubclass():
            return signal.reshape(found.shape)
    if any(isinstance(value, torch.dtype) for value in (*args, *kwargs.values())):
        raise signal.scope.unsupported(describe(function), "it reinterprets the bits of a map")
    target = tuple(_shape_after(function, signal, args, kwargs))
    axes = geometry.preserved_axes(signal.shape, target, signal.axes)
    if axes is None:
        blocks = geometry.blocked_axes(signal.shape, target, signal.axes)
        if blocks is not None:
            return _into_blocks(function, signal, target, *blocks)
        return _flatten_space(function, signal, target)
    keeps_batch = target[0] == signal.shape[0]
    if not keeps_batch and signal.border.is_adaptive:
        raise signal.scope.unsupported(
            describe(function),
            "it changes the batch dimension, and with phase='adaptive' each sample has its own phase",
        )

    def sizes(cells: Tensor) -> list[int]:
        found = list(target)
        for axis, new in zip(signal.axes, axes):  # noqa: B905  one each
            found[new] = cells.shape[axis]
        if keeps_batch:
            found[0] = cells.shape[0]
        return found

    view = View(lambda cells: cells.reshape(sizes(cells)), signal.axes, None if keeps_batch else len(signal.window))
    background = None if signal.background is None else view.of_background(signal.background)
    try:
        window, is_copy = signal.window.view(sizes(signal.window)), False
    except RuntimeError:  # no view, as this window is laid out
        window, is_copy = view.apply(signal.window), True
    if function.__name__ in ("reshape", "flatten", "reshape_as") and not geometry.only_splits(signal.shape, target):
        return signal.possible_alias(signal.derive(window, background, axes=axes), function)
    return signal.alias(view, (window, background), axes=axes, is_copy=is_copy)


def _into_blocks(
    function: Any, signal: Signal, target: tuple[int, ...], axes: tuple[int, ...], sizes: tuple[int, ...]
) -> Signal:
    """Space to depth: a stride of blocks, whose cells become dimensions of their own."""
    planned = plan(signal, tuple(Slide(size, size) for size in sizes), function)

    def run(cells: Tensor) -> Tensor:
        shape = [cells.shape[0], *target[1:]]
        for axis, place, size in zip(signal.axes, axes, sizes, strict=True):
            shape[place] = cells.shape[axis] // size
        return cells.reshape(shape)

    background = None if planned.background is None else planned.response(run)
    return signal.possible_alias(planned.result(run(planned.cells()), background, axes=axes), function)


def _shape_after(function: Any, signal: Signal, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[int]:
    if function.__name__ in ("view_as", "reshape_as"):
        return (args[0] if args else kwargs["other"]).shape
    return function(torch.empty(signal.shape, device="meta"), *args, **kwargs).shape


def _flatten_space(function: Any, signal: Signal, target: tuple[int, ...]) -> Tensor:
    space = 1
    for n in signal.frame:
        space *= n
    if space in target and space > 1 and len(signal.frame) > 1:
        size = " × ".join(map(str, signal.frame))
        raise signal.scope.unsupported(
            describe(function),
            f"it flattens the feature map of {size} cells into a sequence of {space}, which has no border to change",
        )
    if space == 1 and signal.border.is_own:  # every cell there is is read, as in the unmodified model
        return signal.crop().reshape(target)
    signal.scope.reads_position(
        describe(function),
        f"it flattens the map of {signal.frame} cells to the shape {target}, a weight for each place",
    )
    return signal.crop().reshape(target)


@rule(*named("chunk", "split", "tensor_split", "unbind", "split_with_sizes"))
def split(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    dim = arguments(function, (signal, *args), kwargs).get("dim", 0) % signal.ndim
    if dim == 0 or dim in signal.axes:
        raise signal.scope.unsupported(describe(function), "it cuts a map along the batch or along space")
    windows = function(signal.window, *args, **kwargs)
    backgrounds = (None,) * len(windows) if signal.background is None else function(signal.background, *args, **kwargs)
    if function.__name__ == "unbind":
        axes = tuple(axis - (axis > dim) for axis in signal.axes)
        views = [partial(torch.select, dim=dim, index=i) for i in range(len(windows))]
    else:
        axes, sizes = signal.axes, [window.shape[dim] for window in windows]
        starts = accumulate(sizes[:-1], initial=0)
        views = [partial(torch.narrow, dim=dim, start=start, length=n) for start, n in zip(starts, sizes, strict=True)]
    return tuple(
        signal.alias(View(view, signal.axes), stored, axes=axes)
        for view, *stored in zip(views, windows, backgrounds, strict=True)
    )


@rule(*named("channel_shuffle", "native_channel_shuffle"))
def channel_shuffle(function: Any, signal: Signal, groups: int) -> Signal:
    if signal.axes[0] < 2:
        raise signal.scope.unsupported(describe(function), "its channels are not the second dimension")
    background = None if signal.background is None else function(signal.background, groups)
    return signal.derive(function(signal.window, groups), background)


@rule(*named("cat", "concat", "concatenate", "stack"))
def join(function: Any, tensors: Sequence[Any], dim: int = 0, **kwargs: Any) -> Any:
    signal = first_signal(tensors)
    assert signal is not None
    dim = kwargs.pop("axis", dim)
    is_stack = function.__name__ == "stack"
    dim %= signal.ndim + is_stack
    signals = [t for t in tensors if isinstance(t, Signal)]
    uniform = [None if isinstance(t, Signal) else without_extent(t, from_end(signal)) for t in tensors]
    if any(u is None and not isinstance(t, Signal) for t, u in zip(tensors, uniform, strict=True)):
        signal.scope.reads_position(describe(function), "an ordinary tensor with a value for each place enters")
        return function([t.crop() if isinstance(t, Signal) else t for t in tensors], dim, **kwargs)
    if dim == 0 or (dim in signal.axes and not is_stack):
        raise signal.scope.unsupported(describe(function), "it joins maps along the batch or along space")
    box = joint_box(signals, function)
    space = {axis: b - a for axis, (a, b) in zip(signal.axes, box, strict=True)}
    parts = [
        t.read(box) if u is None else u.expand([space.get(i, n) for i, n in enumerate(u.shape)])
        for t, u in zip(tensors, uniform, strict=True)
    ]
    window = function(parts, dim, **kwargs)
    background = None
    if signal.background is not None:
        surroundings = [t.background if u is None else u for t, u in zip(tensors, uniform, strict=True)]
        surroundings = same_period(surroundings, [signal.axes] * len(surroundings), dense=True)
        batch = max(s.shape[0] for s in surroundings)
        background = function([s.expand(batch, *s.shape[1:]) for s in surroundings], dim, **kwargs)
    axes = tuple(axis + (is_stack and axis >= dim) for axis in signal.axes)
    return signal.derive(window, background, box=box, axes=axes, field=joint_field(signals))


@rule(torch.Tensor.__getitem__)
def getitem(function: Any, signal: Any, index: Any) -> Any:
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


@rule(F.pad)
def padding(function: Any, signal: Signal, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Signal:
    """On an endless plane padding renumbers cells; elsewhere it extends the map by what the border says lies there."""
    amounts = [(0, 0)] * signal.ndim
    for i in range(len(pad) // 2):
        amounts[signal.ndim - 1 - i] = (int(pad[2 * i]), int(pad[2 * i + 1]))
    channels = [0 if i // 2 in [signal.ndim - 1 - axis for axis in signal.axes] else int(p) for i, p in enumerate(pad)]
    window, background = signal.window, signal.background
    field = tuple(renumbered(f, amounts[axis][0]) for axis, f in zip(signal.axes, signal.field, strict=True))
    if signal.border.is_own:
        window = function(window, list(pad), mode, value)
        frame = tuple(window.shape[axis] for axis in signal.axes)
        return signal.derive(window, None, box=tuple((0, n) for n in frame), frame=frame, field=field)
    if any(channels):
        window = F.pad(window, channels, mode, value)
        background = None if background is None else F.pad(background, channels, mode, value)
    shifted, frame, wanted = [], [], []
    for axis, (a, b), n in zip(signal.axes, signal.box, signal.frame, strict=True):
        before, after = amounts[axis]
        frame.append(n + before + after)
        wanted.append((-before, n + after))
        shifted.append((a + before, b + before))
    unpadded = background
    if background is not None:  # what stood around cell i now stands around cell i + before
        rolled = [
            range(-amounts[axis][0], period - amounts[axis][0])
            for axis, period in zip(signal.axes, periods(background, signal.axes), strict=True)
        ]
        background = tile(background, signal.axes, tuple(rolled))
    if signal.border.keeps == "frame":
        window = signal.derive(window, background).read(tuple(wanted))
        shifted = [(0, n) for n in frame]
    elif signal.border.keeps == "inside":
        inside = geometry.intersection([tuple(shifted), tuple((0, n) for n in frame)])
        window = signal.derive(window, background, box=tuple(shifted)).read(inside)
        shifted = list(inside)
    elif signal.border.reach is not None:
        shifted = [geometry.clip(w, n, signal.border.reach) for w, n in zip(shifted, frame, strict=True)]
        back = tuple(
            (a - amounts[axis][0], b - amounts[axis][0]) for axis, (a, b) in zip(signal.axes, shifted, strict=True)
        )
        window = signal.derive(window, unpadded).read(back)
    grows = any(window.shape[axis] > signal.window.shape[axis] for axis in signal.axes)
    is_shared = not any(channels) and not grows  # it was only renumbered, or cut
    if is_shared:
        signal.share_window()
    return signal.derive(window, background, box=tuple(shifted), frame=tuple(frame), field=field, aliased=is_shared)


@rule(*named("expand_as"))
def expand_as(function: Any, tensor: Any, other: Any) -> Any:
    """A map spreads over channels and batch; an ordinary tensor without spatial extent broadcasts by itself."""
    if isinstance(tensor, Signal):
        return expand(function, tensor, *other.shape)
    if all(tensor.shape[axis - other.ndim] == 1 for axis in other.axes):
        return tensor
    with DisableTorchFunctionSubclass():
        return tensor.expand(other.shape)


@rule(*named("expand"))
def expand(function: Any, signal: Signal, *given: Any, size: Any = None) -> Signal:
    """Channels of size 1 may be repeated, and samples where they have one phase."""
    sizes = size or (tuple(given[0]) if len(given) == 1 and not isinstance(given[0], int) else given)
    if len(sizes) != signal.ndim:
        raise signal.scope.unsupported(describe(function), "it spreads a feature map along new dimensions")
    if any(sizes[axis] not in (-1, n) for axis, n in zip(signal.axes, signal.frame, strict=True)):
        raise signal.scope.unsupported(
            describe(function), f"it spreads a feature map of {signal.frame} cells over a larger one"
        )
    keeps_batch = sizes[0] in (-1, signal.shape[0])
    if not keeps_batch and signal.border.is_adaptive:
        raise signal.scope.unsupported(
            describe(function), "it repeats samples, and with phase='adaptive' each sample has its own phase"
        )
    sizes = [-1 if i in signal.axes or (i == 0 and keeps_batch) else n for i, n in enumerate(sizes)]
    view = View(lambda cells: cells.expand(sizes), signal.axes, None if keeps_batch else len(signal.window))
    return signal.alias(view)
