"""`torch.nn.functional.pad` of a map: what lies outside, and how cells are renumbered."""

from collections.abc import Sequence
from typing import Any

from torch.nn import functional as F

from borderless.engine import geometry
from borderless.engine.geometry import Slide
from borderless.engine.operations import Mirror
from borderless.engine.receptive_field import Field, renumbered
from borderless.engine.registry import Need, rule
from borderless.engine.signal import Signal
from borderless.engine.tiles import periods, tile


def _need_of_padding(
    function: Any, signal: Signal, pad: Sequence[int], mode: str = "constant", value: Any = None
) -> Need:
    amounts = [pad[2 * i : 2 * i + 2] for i in range(len(pad) // 2)]
    added = [amounts[d] if (d := signal.ndim - 1 - axis) < len(amounts) else (0, 0) for axis in signal.axes]
    if mode == "constant":
        slides = tuple(Slide(1, 1, int(before), int(after)) for before, after in added)
        is_local = len(pad) <= 2 * (signal.ndim - signal.axes[0])
        return Need("neighborhood" if is_local else "everything", slides)
    mirrored = zip(added, signal.frame, strict=True)
    return Need("everything", tuple(Mirror(int(before), int(after), n, mode) for (before, after), n in mirrored))  # pyright: ignore[reportArgumentType]


@rule(F.pad, needs=_need_of_padding)
def padding(function: Any, signal: Signal, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Signal:
    """Renumber cells on an unlimited plane; under other borders extend the map by what lies outside of it."""
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
    if signal.border.keeps == "known" or signal.border.has_own_padding:
        return _pad_part(function, signal, pad, mode, value, field)
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


def _pad_part(
    function: Any, signal: Signal, pad: Sequence[int], mode: str, value: Any, field: tuple[Field, ...]
) -> Signal:
    """Pad a part of a map, or a batch: what the model pads is known where the cells that it is made of are stored."""
    operations = _need_of_padding(function, signal, pad, mode, value).slides
    outputs = signal.kept(operations)
    frame = tuple(operation.frame(n) for operation, n in zip(operations, signal.frame, strict=True))
    wanted = tuple((a - s.padding, b - s.padding) for (a, b), s in zip(outputs, operations, strict=True))
    is_own = signal.border.has_own_padding
    window = signal.read_padded(wanted, mode, value) if is_own else signal.read(wanted)
    channels = [0 if signal.ndim - 1 - i // 2 in signal.axes else int(p) for i, p in enumerate(pad)]
    background = signal.background
    if any(channels):
        window = F.pad(window, channels, mode, value)
        background = None if background is None else F.pad(background, channels, mode, value)
    if background is not None:
        rolled = zip(operations, periods(background, signal.axes), strict=True)
        background = tile(background, signal.axes, tuple(range(-s.padding, p - s.padding) for s, p in rolled))
    return signal.derive(window, background, box=outputs, frame=frame, field=field, aliased=window is signal.window)
