"""Functions along the channels: they act on every cell alike, on the window and, the same way, on the background."""

from typing import Any

from torch import Tensor

from borderless.engine.naming import describe, named
from borderless.engine.registry import rule
from borderless.engine.relabeled import Relabeled, on_channels, on_maps
from borderless.engine.rules.pointwise import check_parameters
from borderless.engine.signal import Signal
from borderless.engine.signatures import arguments


def _along_channels_seen(function: Any, source: Relabeled, *args: Any, **kwargs: Any) -> Any:
    """Run, on tokens and stacks, the functions of the last dimensions, those of dimension 1, and those told which."""
    check_parameters(function, *args, *kwargs.values())
    if function.__name__ in ("prelu", "local_response_norm"):
        return on_channels(function, source, args, kwargs)
    if function.__name__ not in ("layer_norm", "rms_norm", "linear"):
        return on_maps(function, source, args, kwargs, ("dim",))
    touched = _dimensions_touched(function, source, args[1:], kwargs)
    if source.batch in touched:
        raise source.scope.unsupported(describe(function), "it runs over the batch")
    if source.tokens in touched:
        raise source.refusal(function, "it has a weight for each token")
    is_plain = source.batch == 0 and source.tokens is not None and source.map.untaped() is source.map
    if is_plain and source.border.is_own:  # on the very tensor that the unmodified model has: equal to the last bit
        source.check_gradients()
        window = function(source.window, *args[1:], **kwargs).unflatten(source.tokens, source.map.frame)
        return Relabeled.of(source.map.derive(window, None), 0, source.tokens, source.flattened_by)
    return on_maps(function, source, args, kwargs)


@rule(
    *named("softmin", "normalize", "glu", "cumsum", "layer_norm", "rms_norm", "linear"),
    *named("prelu", "local_response_norm", "logsumexp", "argmax", "argmin", "sort", "topk", "argsort"),
    *named("kthvalue", "median", "nanmedian", "mode", "logcumsumexp", "cumprod", "cummax", "cummin"),
    needs="channels",
    dims=_along_channels_seen,
)
def along_channels(function: Any, signal: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a function along the channels: each cell by itself, so window and background alike.

    With several results (values and indices) each is a Signal; without its dimension, where it drops that one.
    """
    check_parameters(function, signal, *args, *kwargs.values())
    touched = _dimensions_touched(function, signal, args, kwargs)
    if touched & set(signal.axes):
        if function.__name__ in ("layer_norm", "rms_norm", "linear"):
            signal.scope.reads_position(describe(function), "it has a weight for each position", signal.frame)
            return function(signal.crop(), *args, **kwargs)
        raise signal.scope.unsupported(describe(function), "it runs over space")
    if 0 in touched:
        raise signal.scope.unsupported(describe(function), "it runs over the batch")
    windows = function(signal.window, *args, **kwargs)
    backgrounds = None if signal.background is None else function(signal.background, *args, **kwargs)
    if isinstance(windows, tuple):
        parts = backgrounds or (None,) * len(windows)
        made = [_without(touched, signal, window, around) for window, around in zip(windows, parts, strict=True)]
        return type(windows)(made)  # pyright: ignore[reportCallIssue]  a named tuple of torch.return_types
    return _without(touched, signal, windows, backgrounds)


def _without(dropped: set[int], signal: Signal, window: Tensor, background: Tensor | None) -> Signal:
    """Return the Signal of `window`, which has all dimensions of `signal`, or those that are not `dropped`."""
    if window.ndim == signal.ndim:
        return signal.derive(window, background)
    return signal.derive(window, background, axes=tuple(axis - sum(d < axis for d in dropped) for axis in signal.axes))


def _dimensions_touched(function: Any, signal: Signal, args: tuple[Any, ...], kwargs: dict[str, Any]) -> set[int]:
    name = function.__name__
    if name in ("layer_norm", "rms_norm"):
        shape = args[0] if args else kwargs["normalized_shape"]
        return set(range(signal.ndim - (1 if isinstance(shape, int) else len(shape)), signal.ndim))
    if name == "linear":
        return {signal.ndim - 1}
    if name == "prelu":
        weight = args[0] if args else kwargs["weight"]
        return {1} if weight.numel() > 1 else set()
    if name == "local_response_norm":
        return {1}
    dim = arguments(function, (signal, *args), kwargs).get("dim")
    if dim is None:
        raise signal.scope.unsupported(describe(function), "it was called without a dimension, so it runs over space")
    return {d % signal.ndim for d in ((dim,) if isinstance(dim, int) else dim)}
