"""Functions without a rule."""

from typing import Any

from borderless.engine.naming import describe
from borderless.engine.registry import UNKNOWN, rule
from borderless.engine.signal import first_signal


@rule(UNKNOWN)
def refuse(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Refuse `function` by name."""
    signal = first_signal(args, kwargs)
    if signal is None:
        return NotImplemented
    raise signal.scope.unsupported(describe(function))
