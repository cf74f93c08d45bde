"""Adaptive pools: global ones, those over one spatial axis, and grids, which read absolute position."""

from collections.abc import Callable
from typing import Any

from torch.nn import functional as F

from borderless.engine.naming import describe
from borderless.engine.registry import Declared, Need, rule
from borderless.engine.rules.extremes import largest_over_space
from borderless.engine.rules.indices import Indices
from borderless.engine.rules.plan import check_axes
from borderless.engine.rules.reduced import line_of
from borderless.engine.rules.reductions import mean_over_space
from borderless.engine.signal import Signal

_MAX_WITH_INDICES = (
    F.adaptive_max_pool1d_with_indices,
    F.adaptive_max_pool2d_with_indices,
    F.adaptive_max_pool3d_with_indices,
)


def _need_of_adaptive_pool(function: Any, signal: Signal, output_size: Any, return_indices: bool = False) -> Declared:
    sizes = _sizes(signal, output_size)
    is_gathered = set(sizes) == {1} and not return_indices and function not in _MAX_WITH_INDICES
    if is_gathered:
        return "gathered"
    return Need(
        "everything", over=tuple(axis for axis, m, n in zip(signal.axes, sizes, signal.frame, strict=True) if m != n)
    )


@rule(
    *(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
    needs=_need_of_adaptive_pool,
    gathers="mean",
)
def adaptive_average_pool(function: Any, signal: Signal, output_size: Any) -> Any:
    """Average over all of space, or over some of its axes; other grids read absolute position."""
    return _adaptive(function, signal, output_size, lambda axes: mean_over_space(function, signal, axes))


@rule(
    *(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d, *_MAX_WITH_INDICES),
    needs=_need_of_adaptive_pool,
    gathers="max",
)
def adaptive_max_pool(function: Any, signal: Signal, output_size: Any, return_indices: bool = False) -> Any:
    """Take the maximum over all of space, or over some of its axes; other grids read absolute position."""
    if not return_indices and function not in _MAX_WITH_INDICES:
        return _adaptive(function, signal, output_size, lambda axes: largest_over_space(signal, axes))
    sizes = _sizes(signal, output_size)
    if signal.border.is_own and not signal.border.is_adaptive and set(sizes) == {1}:
        signal.check_gradients()
        return function(signal.window, sizes, return_indices=True)
    if set(sizes) != {1}:
        raise signal.scope.unsupported(
            describe(function), "indices of maxima are absolute positions: leave out return_indices"
        )
    values = largest_over_space(signal)
    return values, Indices.over_space(
        function, signal, values.shape, lambda cells: function(cells, sizes, return_indices=True)[1]
    )


def _sizes(signal: Signal, output_size: Any) -> tuple[int, ...]:
    count = len(signal.axes)
    sizes = (output_size,) * count if isinstance(output_size, int) else tuple(output_size)
    return tuple(n if size is None else size for size, n in zip(sizes, signal.frame, strict=True))


def _adaptive(function: Any, signal: Signal, output_size: Any, pooled: Callable[[tuple[int, ...]], Any]) -> Any:
    check_axes(signal, None, function)
    sizes = _sizes(signal, output_size)
    if sizes == signal.frame and set(sizes) != {1}:
        return signal
    axes = tuple(axis for axis, size, n in zip(signal.axes, sizes, signal.frame, strict=True) if size == 1 != n)
    axes = axes if set(sizes) != {1} else signal.axes
    if all(size == n for axis, size, n in zip(signal.axes, sizes, signal.frame, strict=True) if axis not in axes):
        if not signal.border.is_own:
            return pooled(axes)
        signal.check_gradients()
        reduced = function(signal.window, sizes)
        return reduced if axes == signal.axes else line_of(signal, reduced, None, axes)
    grid = " × ".join(map(str, sizes))
    reason = f"it pools a map of {signal.frame} cells to a grid of {grid}"
    signal.scope.reads_position(describe(function), reason, signal.frame)
    axes = zip(signal.edges, signal.box, signal.frame_box, strict=True)
    return function(signal.read(tuple(own if e.keeps == "inside" else whole for e, own, whole in axes)), sizes)
