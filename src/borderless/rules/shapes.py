"""Functions that move, select or join dimensions, and the questions a model asks about a map's shape and type.

Shapes are the frame's. A spatial crop and `F.pad` only renumber cells where maps may grow: on an endless plane nothing
is cut off and nothing is added. What merges spatial dimensions with channels reads absolute position.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless import geometry
from borderless.cells import periods, same_period, tile
from borderless.errors import SignalError
from borderless.geometry import Slide
from borderless.rules.plan import plan
from borderless.rules.pointwise import from_end, joint_box, widest_field, without_extent
from borderless.rules.registry import describe, named, rule
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
    *map(getter, ("requires_grad", "grad_fn", "is_leaf")),
    *named("is_contiguous", "is_inference", "is_pinned", "is_conj", "is_neg"),
    *(getattr(torch.Tensor, name) for name in ("new_zeros", "new_ones", "new_full", "new_empty", "new_tensor")),
)
def query_window(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    """Storage and autograd, as the window has them."""
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
        raise signal.scope.unsupported(describe(function), "it exchanges spatial axes")
    background = None if signal.background is None else function(signal.background, *args, **kwargs)
    return signal.derive(function(signal.window, *args, **kwargs), background, axes=axes)


@rule(*named("reshape", "view", "flatten", "unflatten", "unsqueeze", "squeeze", "view_as", "reshape_as"))
def reshape(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    if not isinstance(signal, Signal):
        found = first_signal(args, kwargs)
        assert found is not None
        with DisableTorchFunctionSubclass():
            return signal.reshape(found.shape)
    if function.__name__ == "view" and args and isinstance(args[0], torch.dtype):
        raise signal.scope.unsupported(describe(function), "it reinterprets the bits of a map")
    target = tuple(_shape_after(function, signal, args, kwargs))
    axes = geometry.preserved_axes(signal.shape, target, signal.axes)
    if axes is None:
        blocks = geometry.blocked_axes(signal.shape, target, signal.axes)
        if blocks is not None:
            return _into_blocks(function, signal, target, *blocks)
        return _flatten_space(function, signal, target)
    window, background = list(target), list(target)
    for axis, new in zip(signal.axes, axes, strict=True):
        window[new] = signal.window.shape[axis]
        background[new] = 1 if signal.background is None else signal.background.shape[axis]
    surroundings = signal.background
    if surroundings is not None:
        if target[0] == signal.shape[0]:
            background[0] = surroundings.shape[0]
        else:
            surroundings = surroundings.expand(signal.window.shape[0], *surroundings.shape[1:])
        surroundings = surroundings.reshape(background)
    if target[0] != signal.shape[0] and signal.border.is_adaptive:
        raise signal.scope.unsupported(
            describe(function),
            "it changes the batch dimension, and with phase='adaptive' each sample has its own phase",
        )
    return signal.derive(signal.window.reshape(window), surroundings, axes=axes, aliased=signal.aliased)


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
    return planned.result(run(planned.cells()), background, axes=axes)


def _shape_after(function: Any, signal: Signal, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[int]:
    if function.__name__ in ("view_as", "reshape_as"):
        return args[0].shape
    return function(torch.empty(signal.shape, device="meta"), *args, **kwargs).shape


def _flatten_space(function: Any, signal: Signal, target: tuple[int, ...]) -> Tensor:
    space = 1
    for n in signal.frame:
        space *= n
    if space in target and space > 1 and len(signal.frame) > 1:
        raise signal.scope.unsupported(
            describe(function),
            f"it turns the map of {signal.frame} cells into a sequence of {space} places (tokens), and attention or "
            "embeddings over places have no border to change",
        )
    signal.scope.reads_position(
        describe(function),
        f"it flattens the map of {signal.frame} cells to the shape {target}, a weight for each place",
    )
    return signal.crop().reshape(target)


@rule(*named("chunk", "split", "tensor_split", "unbind", "split_with_sizes"))
def split(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Any:
    default = 0
    if "dim" in kwargs:
        dim = kwargs["dim"]
    elif function.__name__ == "unbind":
        dim = args[0] if args else default
    else:
        dim = args[1] if len(args) > 1 else default
    dim %= signal.ndim
    if dim == 0 or dim in signal.axes:
        raise signal.scope.unsupported(describe(function), "it cuts a map along the batch or along space")
    windows = function(signal.window, *args, **kwargs)
    backgrounds = (None,) * len(windows) if signal.background is None else function(signal.background, *args, **kwargs)
    axes = tuple(axis - (function.__name__ == "unbind" and axis > dim) for axis in signal.axes)
    return tuple(signal.derive(w, b, axes=axes) for w, b in zip(windows, backgrounds, strict=True))


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
    return signal.derive(window, background, box=box, axes=axes, field=widest_field(signals))


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
        signal = strided_slice(signal, slices)
    if all(entry == slice(None) for entry in plain if not isinstance(entry, Tensor)) and not any(
        isinstance(entry, Tensor) for entry in plain
    ):
        return signal
    if signal.border.is_adaptive and plain[0] != slice(None):
        raise signal.scope.unsupported(
            "an index along the batch", "with phase='adaptive' each sample has its own phase"
        )
    background = signal.background
    if background is not None:
        around = list(plain)
        if background.shape[0] == 1 and isinstance(around[0], slice):
            around[0] = slice(None)
        elif background.shape[0] == 1:
            background = background.expand(signal.window.shape[0], *background.shape[1:])
        background = background[tuple(around)]
    return signal.derive(signal.window[tuple(plain)], background, axes=tuple(axes), aliased=signal.aliased)


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
    if signal.border.is_own:
        window = function(window, list(pad), mode, value)
        frame = tuple(window.shape[axis] for axis in signal.axes)
        return signal.derive(window, None, box=tuple((0, n) for n in frame), frame=frame)
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
    if window is signal.window:
        signal.aliased = True
    return signal.derive(window, background, box=tuple(shifted), frame=tuple(frame), aliased=window is signal.window)


@rule(*named("expand_as"))
def expand_as(function: Any, tensor: Any, other: Any) -> Any:
    """A tensor without spatial extent broadcasts by itself; it need not be spread over a map."""
    if isinstance(tensor, Signal):
        if isinstance(other, Signal) and tensor.frame == other.frame:
            return tensor
        raise tensor.scope.unsupported(describe(function), "it spreads a map over a larger one")
    if all(tensor.shape[axis - other.ndim] == 1 for axis in other.axes):
        return tensor
    with DisableTorchFunctionSubclass():
        return tensor.expand(other.shape)
