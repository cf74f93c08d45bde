"""Several maps in one function: the cells on which they meet, their receptive field, what ordinary tensors mean."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from borderless.engine.geometry import Box, Interval
from borderless.engine.naming import describe
from borderless.engine.operations import common_part
from borderless.engine.receptive_field import Field, united
from borderless.engine.rules.rows import are_alike
from borderless.engine.rules.spread_maps import has_values, is_constant_along
from borderless.engine.signal import Signal
from borderless.engine.tiles import ranges_of, same_period, tile
from borderless.errors import ImageError

LINES_REACH_OUT = (
    "the mean (or maximum) of a whole row or column enters, and on an unlimited plane it would reach past the window "
    "along all of that row or column. A mean over all of space, y.mean((2, 3), keepdim=True), has no position"
)


def widest(signals: Sequence[Signal]) -> Signal:
    """Return the first of the Signals that have the most spatial axes: a map, where maps and lines are joined."""
    return max(signals, key=lambda signal: len(signal.axes))


def axes_in(signal: Signal, whole: Signal) -> list[int]:
    """Return which of the spatial axes of `whole` those of `signal` are, where PyTorch aligns the two."""
    axes = from_end(whole)
    return [axes.index(axis) for axis in from_end(signal) if axis in axes]


def joint_box(signals: Sequence[Signal], function: Any, *, has_own_rows: bool = False) -> Box:
    """Return the box, of the widest, on which Signals of one pass are joined; they must share frame and lattice.

    A line, what is left of a map after a reduction over some of its spatial axes, is the same at every cell of the
    others. has_own_rows: each keeps the rows of its own batch, and the phases of these.
    """
    if len(signals) == 1:
        return signals[0].box
    box = _equal_box(signals)
    if box is not None:
        return box
    whole = widest(signals)
    boxes: list[list[Interval]] = [[] for _ in whole.axes]
    for signal in signals:
        axes = axes_in(signal, whole)
        _check_alignment(signal, whole, axes, function, has_own_rows)
        for axis, interval in zip(axes, signal.box, strict=True):
            boxes[axis].append(interval)
    if whole.keeps("known"):
        has_all_axes = [signal for signal in signals if len(signal.axes) == len(whole.axes)]
        return common_part(has_all_axes, [edge.outside != "nothing" for edge in whole.edges])
    joint = []
    for edge, along in zip(whole.edges, boxes, strict=True):
        starts, stops = zip(*along, strict=True)
        joint.append((max(starts), min(stops)) if edge.keeps == "inside" else (min(starts), max(stops)))
    if any(a >= b for a, b in joint):
        raise ImageError(
            f"Expected maps with a common cell but got maps stored on {[s.box for s in signals]} in "
            f"{describe(function)}, under the border {whole.border.name!r} in {whole.scope.describe_module()}; use a "
            "larger image, or another border than 'valid'."
        )
    return tuple(joint)


def _equal_box(signals: Sequence[Signal]) -> Box | None:
    """Return the box of Signals that are alike, as most that a network joins are; else None."""
    first = signals[0]
    if first.keeps("known"):
        return None
    for other in signals[1:]:
        is_alike = other.start == first.start and other.frame == first.frame and other.axes == first.axes
        if not (is_alike and other.lattice is first.lattice and len(other._sizes) == len(first._sizes)):
            return None
    box = first.box
    return box if all(other.box == box for other in signals[1:]) else None


def _check_alignment(signal: Signal, whole: Signal, axes: list[int], function: Any, has_own_rows: bool) -> None:
    """Refuse to join `signal` with `whole` unless it has the same cells along the axes that both have."""
    if signal is whole:
        return
    frames = f"{whole.frame} and {signal.frame}"
    is_aligned = len(axes) == len(signal.axes) and signal.frame == tuple(whole.frame[i] for i in axes)
    if not is_aligned and len(signal.axes) == len(whole.axes) == 1 and not axes:
        raise whole.scope.unsupported(
            describe(function),
            f"it joins a mean over the rows with one over the columns, of {frames} cells. Join the feature map "
            "with one after the other: y * rows * columns",
        )
    if not is_aligned and len(signal.frame) == len(whole.frame):
        raise ImageError(
            f"Expected equal frames, as the unmodified model needs equal shapes, but got {frames} in "
            f"{describe(function)} in {whole.scope.describe_module()}; use a size of image that the unmodified model "
            "takes, too."
        )
    if not is_aligned:
        raise whole.scope.unsupported(
            describe(function),
            f"it joins a feature map of {whole.frame} cells with one of {signal.frame} (every floating-point input of "
            "three or more dimensions is taken for an image, (batch, channels, *space); after a reduction over one "
            "spatial axis keepdim=True keeps the other one where it was)",
        )
    if len(axes) < len(whole.axes):
        is_alike = signal.lattice.is_same(whole.lattice.along(axes))
    elif has_own_rows:
        is_alike = signal.lattice.stride == whole.lattice.stride and signal.lattice.axes == whole.lattice.axes
    else:
        is_alike = are_alike(whole, signal)
    # A part knows where it lies, and the unmodified model joins whatever is of one size.
    is_free = whole.keeps("known") or (whole.is_gathered and whole.has_original_padding)
    if not is_alike and not is_free:
        raise whole.scope.unsupported(
            describe(function), f"it joins maps on different lattices, {whole.lattice} and {signal.lattice}"
        )


def joint_field(signals: Sequence[Signal]) -> tuple[Field, ...]:
    """Return the receptive field of Signals that are joined: that of their cells, not of what was reduced to a line."""
    whole = widest(signals)
    fields = [signal.field for signal in signals if len(signal.axes) == len(whole.axes)]
    if all(other == fields[0] for other in fields[1:]):
        return fields[0]
    return tuple(united(along) for along in zip(*fields, strict=True))


def is_as_unmodified(signal: Signal, box: Box) -> bool:
    """Return whether the unmodified model stores `box`: ordinary tensors then enter as they are, to the last bit."""
    return signal.border.is_own and box == signal.frame_box


def read_in(signal: Signal, whole: Signal, box: Box) -> Tensor:
    """Return the cells of a `box` of the map `whole`: of a line, of size 1 along the axes that it lacks."""
    if len(signal.axes) == len(whole.axes):
        return signal.read(box)
    cells = signal.read(tuple(box[i] for i in axes_in(signal, whole)))
    return _of_size_one(cells, signal, whole)


def _background_in(background: Tensor, signal: Signal, whole: Signal) -> Tensor:
    """Return the background of `signal`, with all the spatial axes of the map `whole`."""
    return background if len(signal.axes) == len(whole.axes) else _of_size_one(background, signal, whole)


def surroundings_of(values: Sequence[Any], whole: Signal, *, dense: bool = False) -> list[Any]:
    """Return the background of each Signal, with tiles of one period, joined to the map `whole`; others as they are.

    dense: also repeat those that are constant along an axis.
    """
    indices = [i for i, value in enumerate(values) if isinstance(value, Signal) and value.background is not None]
    backgrounds = [_background_in(values[i].background, values[i], whole) for i in indices]
    tiles = same_period(backgrounds, [from_end(whole)] * len(indices), dense=dense)
    result = list(values)
    for i, background in zip(indices, tiles, strict=True):
        result[i] = background
    return result


def reaches_out(whole: Signal, beside: Tensor, background: Tensor, box: Box) -> bool:
    """Return whether lines make a map differ from its background beyond its window, along whole rows or columns.

    beside: what the map is on `box` where all but the lines is background. background: of the map.
    """
    around = tile(background, from_end(whole), ranges_of(box))
    return not has_values(beside) or not bool((beside == around).all())


def beside_window(value: Any, whole: Signal, box: Box) -> Any:
    """Return the cells of a line, or the background of any other map, as far as the `box` of the map `whole` goes."""
    if not isinstance(value, Signal):
        return value
    if len(value.axes) < len(whole.axes) or value.background is None:
        return read_in(value, whole, box)
    return tile(value.background, from_end(whole), ranges_of(box))


def _of_size_one(cells: Tensor, line: Signal, whole: Signal) -> Tensor:
    """`cells` of a line, of size 1 along the spatial axes of the map `whole` that it lacks (or was expanded along)."""
    for axis in set(from_end(whole)) - set(from_end(line)):
        if cells.ndim < -axis or cells.shape[axis] == 1:
            continue
        if not is_constant_along(cells, [axis]):
            raise line.scope.unsupported(
                "a function of several maps",
                f"it joins a map of shape {tuple(whole.shape)} with a line of "
                f"{tuple(line.shape)} that differs along its axis {line.ndim + axis}",
            )
        cells = cells.narrow(axis, 0, 1)
    return cells


def from_end(signal: Signal) -> tuple[int, ...]:
    """Return the spatial axes counted from the end, where PyTorch aligns shapes."""
    ndim = signal.ndim
    return tuple([axis - ndim for axis in signal.axes])


def without_extent(tensor: Tensor, signal: Signal) -> Tensor | None:
    """Return an ordinary tensor that joins `signal` with size 1 along space.

    None if it may differ along space, or is of another size: PyTorch then broadcasts, or says what is wrong.
    """
    axes = [(axis, n) for axis, n in zip(from_end(signal), signal.frame, strict=True) if tensor.ndim >= -axis]
    spread = [axis for axis, _ in axes if tensor.shape[axis] != 1]
    if any(tensor.shape[axis] not in (1, n) for axis, n in axes):
        return None
    if spread and not is_constant_along(tensor, spread):
        return None
    for axis in spread:
        tensor = tensor.narrow(axis, 0, 1)
    return tensor
