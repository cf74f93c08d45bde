"""Dropout: it acts on the window and leaves the background alone."""

from typing import Any

from borderless.engine.naming import named
from borderless.engine.registry import rule
from borderless.engine.relabelled import Relabelled, on_batches, on_maps
from borderless.engine.rules.pointwise import is_in_place, own_window
from borderless.engine.signal import Signal


def _dropout_seen(function: Any, source: Relabelled, *args: Any, **kwargs: Any) -> Any:
    """Of tokens: of single values; what drops whole channels would count the dimensions."""
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
    if trains and (is_in_place(function) or kwargs.get("inplace")):
        return signal.become(function, window, signal.background)
    return signal
