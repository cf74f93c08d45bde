"""Settings that check themselves: what a field allows is declared in its type.

seeds: Annotated[int, Range(1)] = 5
borders: Annotated[tuple[str, ...], Choice(BORDERS)] = BORDERS
"""

import math
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

from borderless.errors import ConfigError


@dataclass(frozen=True)
class Range:
    """Numbers from `least` to `most`, both included."""

    least: float
    most: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most and math.isfinite(value)

    def __str__(self) -> str:
        return f"at least {self.least}" if self.most == math.inf else f"from {self.least} to {self.most}"


@dataclass(frozen=True)
class Choice:
    """A choice of some names."""

    names: tuple[str, ...]

    def __contains__(self, value: str) -> bool:
        return value in self.names

    def __str__(self) -> str:
        return f"one of {', '.join(self.names)}"


@dataclass(frozen=True)
class Settings:
    """The settings of an experiment, checked by `Range`, `Choice` and `Literal` in the types of the fields.

    A tuple holds at least one value, and each value once. None is allowed where the type says so.

    Raises:
        ConfigError: A field has a value that it does not allow.
    """

    DEMO: ClassVar[dict[str, Any]] = {}

    def __post_init__(self) -> None:
        kinds = get_type_hints(type(self), include_extras=True)
        for one in fields(self):
            _check(one.name, kinds[one.name], getattr(self, one.name))

    @classmethod
    def small(cls) -> Self:
        """Return the demo's settings, those in `DEMO`."""
        return cls(**cls.DEMO)


def _check(name: str, kind: Any, value: Any) -> None:
    kind, allowed = (get_args(kind)[0], get_args(kind)[1:]) if get_origin(kind) is Annotated else (kind, ())
    is_tuple = get_origin(kind) is tuple
    item = get_args(kind)[0] if is_tuple else kind
    if get_origin(item) is Literal:
        allowed = (Choice(get_args(item)),)
    values = value if is_tuple else (value,)
    is_full = len(values) > 0 and len(set(values)) == len(values)
    if value is not None and not (is_full and all(v in check for v in values for check in allowed)):
        several = "".join(f", each {check}" for check in allowed)
        wanted = f"one or more values, each once{several}" if is_tuple else ", ".join(map(str, allowed))
        raise ConfigError(f"Expected {name} to be {wanted} but got {name}={value!r}.")
