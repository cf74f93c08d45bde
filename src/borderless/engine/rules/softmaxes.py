"""Softmax: over channels each cell by itself; over space with weights that add up to 1 as sums over space do.

An unlimited background would have all the weight. It counts as in every sum over space (`reductions`): its weight is
that of a frame full of it, and the window adds how much its cells deviate from that. So attentive pooling, a softmax
over space and a weighted sum, gives a small object in a large frame the unmodified model's value, wherever it is.
"""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from borderless.engine.naming import describe, named
from borderless.engine.registry import Declared, Need, rule
from borderless.engine.relabeled import Relabeled, on_maps
from borderless.engine.rules.joining import LINES_REACH_OUT
from borderless.engine.rules.pointwise import along_channels, check_parameters
from borderless.engine.rules.spread_maps import has_values
from borderless.engine.signal import Signal
from borderless.engine.signatures import arguments
from borderless.errors import ImageError


def _dim(function: Any, signal: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    dim = arguments(function, (signal, *args), kwargs).get("dim")
    return None if dim is None else dim % signal.ndim


def _need_of_softmax(function: Any, signal: Any, *args: Any, **kwargs: Any) -> Declared:
    dim = _dim(function, signal, args, kwargs)
    return Need("everything", over=(dim,)) if dim is not None and dim in signal.axes else "channels"


def _softmax_seen(function: Any, source: Relabeled, *args: Any, **kwargs: Any) -> Any:
    """Run a softmax of tokens: over all of them it runs over all of space."""
    check_parameters(function, *args, *kwargs.values())
    if source.batch or source.tokens is None or _dim(function, source, args[1:], kwargs) != source.tokens:
        return on_maps(function, source, args, kwargs, ("dim",))
    signal = source.map
    if signal.background is not None or signal.untaped() is not signal or not signal.border.is_own:
        weights = _over_space(function, signal, signal.axes, kwargs.get("dtype"))
        return Relabeled.of(weights, 0, source.tokens, source.flattened_by)
    source.check_gradients()
    window = function(source.window, *args[1:], **kwargs).unflatten(source.tokens, signal.frame)
    return Relabeled.of(signal.derive(window, None), 0, source.tokens, source.flattened_by)


@rule(*named("softmax", "log_softmax"), needs=_need_of_softmax, dims=_softmax_seen)
def softmax(function: Any, signal: Any, *args: Any, **kwargs: Any) -> Any:
    """Turn values into weights that add up to 1, or into their logarithms."""
    check_parameters(function, signal, *args, *kwargs.values())
    dim = _dim(function, signal, args, kwargs)
    if dim not in signal.axes:
        return along_channels(function, signal, *args, **kwargs)
    if signal.background is not None and len(signal.axes) > 1:
        signal.scope.reads_position(describe(function), LINES_REACH_OUT)
        return function(signal.crop(), *args, **kwargs)
    if signal.background is None:
        return signal.derive(function(signal.window, *args, **kwargs), None)
    assert dim is not None  # it is one of the axes
    return _over_space(function, signal, (dim,), kwargs.get("dtype"))


def _over_space(function: Any, signal: Signal, dims: tuple[int, ...], dtype: Any) -> Any:
    cells: Any = signal if dtype is None else signal.to(dtype)
    shifted = cells - cells.amax(dims, keepdim=True)
    weights = shifted.exp()
    total = weights.sum(dims, keepdim=True)
    _check_total(function, signal, total.window if isinstance(total, Signal) else total)
    return shifted - total.log() if "log" in function.__name__ else weights / total


def _check_total(function: Any, signal: Signal, total: Tensor) -> None:
    """Refuse weights whose sum is not positive: a window larger than its frame may lack more than a frame has."""
    if has_values(total) and not bool((total > 0).all()):
        raise ImageError(
            f"Expected weights with a positive sum in {describe(function)} over space in "
            f"{signal.scope.describe_module()} but got {float(total.detach().min()):.3g}: the content fills a window "
            f"of {tuple(b - a for a, b in signal.box)} cells with lower values than the background of the frame's "
            f"{signal.frame}. Use a larger canvas around the object, a reach, or the border 'zero'"
        )


@rule(F.gumbel_softmax)
def gumbel_softmax(function: Any, logits: Signal, *args: Any, **kwargs: Any) -> Signal:
    """Draw noise as the unmodified model does; other borders would draw it where no model has cells."""
    dim = kwargs.get("dim", args[3] if len(args) > 3 else -1) % logits.ndim
    if not logits.border.is_own or dim in (0, *logits.axes) or logits.scope.shares_passes:
        raise logits.scope.unsupported(
            describe(function),
            "it draws noise for every cell, and cells around a map would get their own. Write softmax over the "
            "channels (dim=1), without noise, or add torch.randn_like",
        )
    return logits.derive(function(logits.window, *args, **kwargs), None)
