"""Several maps in one function: the cells on which they meet, their receptive field, what ordinary tensors mean."""

from typing import Any

from torch import Tensor

from borderless.engine import geometry
from borderless.engine.geometry import Box
from borderless.engine.naming import describe
from borderless.engine.operations import common_part
from borderless.engine.receptive_field import Field, united
from borderless.engine.rules.spread_maps import is_constant_along
from borderless.engine.signal import Signal
from borderless.errors import ImageError


def joint_box(signals: list[Signal], function: Any) -> Box:
    """The box on which Signals of one pass are joined; they must share frame and lattice."""
    first = signals[0]
    if len(signals) == 1:
        return first.box
    for other in signals[1:]:
        if len(other.frame) != len(first.frame):
            raise first.scope.unsupported(
                describe(function),
                f"it joins a feature map of {first.frame} cells with one of {other.frame} (every floating-point input "
                "of three or more dimensions is taken for an image, (batch, channels, *space))",
            )
        if other.frame != first.frame or from_end(other) != from_end(first):
            raise ImageError(
                f"{describe(function)} got maps with the frames {first.frame} and {other.frame} in "
                f"{first.scope.describe_module()}; needed: equal frames, as the unmodified model needs equal shapes"
            )
        if first.border.keeps != "known" and not other.lattice.is_same(first.lattice):
            raise first.scope.unsupported(
                describe(function), f"it joins maps on different lattices, {first.lattice} and {other.lattice}"
            )
    boxes = [s.box for s in signals]
    if all(box == boxes[0] for box in boxes[1:]) and first.border.keeps != "known":
        return boxes[0]
    if first.border.keeps not in ("inside", "known"):
        return geometry.union(boxes)
    if first.border.keeps == "known":
        return common_part(signals, has_outside=first.border.outside != "nothing")
    common = geometry.intersection(boxes)
    if any(a >= b for a, b in common):
        raise ImageError(
            f"{describe(function)} got maps stored on {boxes} that have no cell in common, under the border 'valid' in "
            f"{first.scope.describe_module()}; use a larger image, or another border"
        )
    return common


def joint_field(signals: list[Signal]) -> tuple[Field, ...]:
    """The receptive field of Signals that are joined."""
    first = signals[0].field
    if all(other.field == first for other in signals[1:]):
        return first
    return tuple(united(fields) for fields in zip(*(s.field for s in signals), strict=True))


def from_end(signal: Signal) -> tuple[int, ...]:
    """The spatial axes counted from the end, where PyTorch aligns shapes."""
    return tuple(axis - signal.ndim for axis in signal.axes)


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
