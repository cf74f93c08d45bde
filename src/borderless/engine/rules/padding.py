"""`torch.nn.functional.pad` of a map: what lies outside, and how cells are renumbered."""

from collections.abc import Sequence
from typing import Any

from torch.nn import functional as F

from borderless.engine.geometry import Slide
from borderless.engine.operations import Mirror
from borderless.engine.receptive_field import renumbered
from borderless.engine.registry import Need, rule
from borderless.engine.signal import Signal
from borderless.engine.tiles import periods, tile


def _need_of_padding(
    function: Any, signal: Signal, pad: Sequence[int], mode: str = "constant", value: Any = None
) -> Need:
    operations = _operations_of(signal, pad, mode)
    if mode != "constant":
        return Need("everything", operations)
    is_local = len(pad) <= 2 * (signal.ndim - signal.axes[0])
    return Need("neighborhood" if is_local else "everything", operations)


def _operations_of(signal: Signal, pad: Sequence[int], mode: str) -> tuple[Any, ...]:
    """Return the padding as one operation an axis; it mirrors where the original padding lies outside."""
    amounts = [pad[2 * i : 2 * i + 2] for i in range(len(pad) // 2)]
    added = [amounts[d] if (d := signal.ndim - 1 - axis) < len(amounts) else (0, 0) for axis in signal.axes]
    axes = zip(signal.edges, added, signal.frame, strict=True)
    return tuple(
        Slide(1, 1, int(before), int(after))
        if mode == "constant" or edge.outside != "original"
        else Mirror(int(before), int(after), n, mode)  # pyright: ignore[reportArgumentType]
        for edge, (before, after), n in axes
    )


@rule(F.pad, needs=_need_of_padding)
def padding(function: Any, signal: Signal, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Signal:
    """Renumber cells on an unlimited plane; under other borders extend the map by what lies outside of it."""
    operations = signal.directed(_operations_of(signal, pad, mode))
    frame = tuple([o.frame(n) for o, n in zip(operations, signal.frame, strict=True)])
    field = tuple([renumbered(f, o.padding) for o, f in zip(operations, signal.field, strict=True)])
    if signal.border.is_own:
        window = function(signal.window, list(pad), mode, value)
        return signal.derive(window, None, box=tuple((0, n) for n in frame), frame=frame, field=field)
    source = signal
    channels = [0 if signal.ndim - 1 - i // 2 in signal.axes else int(p) for i, p in enumerate(pad)]
    if any(channels):
        window, background = F.pad(signal.window, channels, mode, value), signal.background
        source = signal.derive(window, None if background is None else F.pad(background, channels, mode, value))
    box = signal.kept(operations)
    wanted = tuple([(a - o.padding, b - o.padding) for (a, b), o in zip(box, operations, strict=True)])
    window = source.read(wanted, (value or 0.0) if mode == "constant" else mode)  # pyright: ignore[reportArgumentType]
    background = source.background
    if background is not None:  # what stood around cell i now stands around cell i + before
        rolled = zip(operations, periods(background, signal.axes), strict=True)
        background = tile(background, signal.axes, tuple(range(-o.padding, p - o.padding) for o, p in rolled))
    is_shared = source is signal and all(window.shape[axis] <= signal.window.shape[axis] for axis in signal.axes)
    if is_shared:  # it was only renumbered, or cut
        signal.share_window()
    return signal.derive(window, background, box=box, frame=frame, field=field, aliased=is_shared)
