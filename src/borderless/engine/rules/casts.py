"""Maps of the same shape: copies, other types and devices, constants, dropout, and noise.

Noise is drawn on the window. What lies around it, of which there is no end, takes the mean of the noise, as it does
under dropout; under the original padding the noise is the unmodified model's, number by number.
"""

from typing import Any

import torch
from torch import Tensor

from borderless.engine.aliases import View
from borderless.engine.naming import describe, named
from borderless.engine.registry import rule
from borderless.engine.relabeled import Relabeled, on_batches, on_maps
from borderless.engine.rules.pointwise import acts_in_place, own_window
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import getter

_FRESH = {"clone", "zeros_like", "ones_like", "full_like", "empty_like"}  # new memory, whatever the memory format
_MEANS = {"randn_like": 0.0, "rand_like": 0.5}


@rule(
    *named("clone", "detach", "contiguous", "float", "half", "double", "bfloat16", "to", "type", "type_as", "cpu"),
    *named("bool", "byte", "char", "short", "int", "long", "cuda", "requires_grad_"),
    *named("zeros_like", "ones_like", "full_like", "empty_like"),
    getter("data"),
    needs="cell",
    dims=(),
)
def alike(function: Any, signal: Any, *args: Any, **kwargs: Any) -> Any:
    """Apply `function`, which keeps the shape, to the window and to the background."""
    others = tuple(a.window if isinstance(a, Signal) else a for a in args)
    kwargs = {name: value.window if isinstance(value, Signal) else value for name, value in kwargs.items()}
    if not isinstance(signal, Signal):  # an ordinary tensor takes the type of a Signal
        return function(signal, *others, **kwargs)
    if function.__name__ in ("detach", "__get__"):  # .data
        return signal.alias(View(torch.Tensor.detach, signal.axes))
    window = function(signal.window, *others, **kwargs)
    depends_on_layout = function.__name__ == "contiguous" or "memory_format" in kwargs
    if not isinstance(window, Tensor) or (window is signal.window and not depends_on_layout):
        return signal if window is signal.window else window  # nothing changes, or `type()`, which asks
    options = kwargs
    if "channels_last" in str(kwargs.get("memory_format")):
        options = {k: v for k, v in kwargs.items() if k != "memory_format"}
    background = None if signal.background is None else function(signal.background, *others, **options)
    made = signal.derive(window, background)
    is_fresh = function.__name__ in _FRESH or window.dtype != signal.window.dtype or kwargs.get("copy")
    return signal.possible_alias(made, function) if depends_on_layout and not is_fresh else made


def _dropout_seen(function: Any, source: Relabeled, *args: Any, **kwargs: Any) -> Any:
    """Apply dropout to tokens: of single values; what drops whole channels would count the dimensions."""
    if not function.__name__.startswith(("dropout", "alpha")) or function.__name__[7:8].isdigit():
        return on_batches(function, args, kwargs)
    return on_maps(function, source, args, kwargs)


@rule(
    *named("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", inplace=True),
    needs="cell",
    dims=_dropout_seen,
)
def dropout(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Signal:
    """Dropout acts on the window and leaves the background alone."""
    window = own_window(signal)
    dropped = function(window, *args, **kwargs)
    if dropped is not window:
        return signal.derive(dropped, signal.background)
    trains = kwargs.get("training", kwargs.get("train", args[1] if len(args) > 1 else True))
    if trains and (acts_in_place(function) or kwargs.get("inplace")):
        return signal.become(function, window, signal.background)
    return signal


@rule(*named("randn_like", "rand_like"), dims=())
def noise_like(function: Any, signal: Signal, **kwargs: Any) -> Signal:
    """Noise in the shape of a map: on the window; around it the mean of the noise."""
    _check_passes(function, signal)
    window = function(signal.window, **kwargs)
    background = None
    if signal.background is not None:
        options = {name: value for name, value in kwargs.items() if name != "memory_format"}
        background = torch.full_like(signal.background, _MEANS[function.__name__], **options)
    return signal.derive(window, background)


@rule(*named("normal_", "uniform_"), dims=())
def fill_with_noise(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Signal:
    """Noise in the place of a map, the same way."""
    _check_passes(function, signal)
    first, second = ("mean", "std") if function.__name__ == "normal_" else ("from", "to")
    given = dict(zip((first, second), args, strict=False)) | kwargs
    mean = given.get(first, 0.0)
    if function.__name__ == "uniform_":
        mean = (mean + given.get(second, 1.0)) / 2
    window = function(own_window(signal), *args, **kwargs)
    return signal.become(
        function, window, None if signal.background is None else torch.full_like(signal.background, mean)
    )


@rule(*named("randint_like", "bernoulli", "normal", "poisson", "multinomial"), torch.Tensor.random_)
@rule(*named("bernoulli_", "exponential_", "geometric_", "cauchy_", "log_normal_"))
def refuse_noise(function: Any, *args: Any, **kwargs: Any) -> Signal:
    """Refuse other noise by name."""
    signal = next(value for value in (*args, *kwargs.values()) if isinstance(value, Signal))
    raise signal.scope.unsupported(
        describe(function),
        "it draws noise for a feature map, for which there are rules for randn_like, rand_like, normal_ and uniform_. "
        "Write it with one of these, or give the noise as an input of the model",
    )


def _check_passes(function: Any, signal: Signal) -> None:
    if signal.scope.shares_passes:
        raise signal.scope.unsupported(
            describe(function),
            "it draws noise, which bl.place would draw anew for every position. Give the noise as an input, or place "
            "the model without it (the mean of a distribution, for example)",
        )
