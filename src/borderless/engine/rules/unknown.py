"""Functions without a rule."""

from typing import Any

from borderless.engine.naming import describe
from borderless.engine.registry import UNKNOWN, rule
from borderless.engine.rules.after_leaving import ATTENTION, RECURRENT, SCORES, SPECTRA
from borderless.engine.signal import first_signal

# Why there is none.
_REASONS = {
    RECURRENT: "it runs along the cells of a line with a state, which has no value beyond the frame",
    SPECTRA: "each of its values depends on all cells of a line and on their positions",
    ATTENTION | SCORES: "it is attention over cells, whose weights depend on all other cells",
}


@rule(UNKNOWN)
def refuse(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Refuse `function` by name."""
    signal = first_signal(args, kwargs)
    if signal is None:
        return NotImplemented
    for functions, reason in _REASONS.items():
        if function in functions:
            raise signal.scope.unsupported(describe(function), reason)
    raise signal.scope.unsupported(describe(function))
