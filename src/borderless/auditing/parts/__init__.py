"""Find the parts of an audit, one file each: what it measures, finds, shows and records.

A file in this folder is a part: it has everything that `Part` names, and nothing else has to know of it. It imports
what lies below (`subject`, `result`, `verdict`'s thresholds), and draws with `borderless.report`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Protocol, TypeVar, cast

from borderless.auditing.result import Finding, Measurements
from borderless.auditing.subject import Subject
from borderless.report.content import Section

T = TypeVar("T")

# The parts in the order in which they run and are recorded, by name; those with other names follow.
_ORDER = ("layout", "border_error", "sensitivity", "zones", "margin", "shifts", "decodability", "reach", "fixes")

# Row of a comparison: a title, a factor, and where in the part's record the number is.
Compared = tuple[str, float, tuple[str, ...]]


class Part(Protocol):
    """Say what a file in this folder has.

    Attributes:
        NAME: By which it is selected, and the key of its record.
        NEEDS: Parts whose results it needs, which run before it.
        STEPS: What `measure` passes to `Subject.step`, in that order, with about how long each takes, in seconds on
            one core for 16 images of 224 px and EfficientNet-Lite0.
        FROM_OUTSIDE: The steps that run the network whole, so that they measure a program too; a part without it has
            none.
        NEEDS_ANNOTATIONS: True of a part that reads annotations, and is left out where there are none.
        COMPARED: Rows of its record in a comparison of two audits.
    """

    NAME: str
    NEEDS: tuple[str, ...]
    STEPS: Mapping[str, float]
    COMPARED: tuple[Compared, ...]

    def measure(self, subject: Subject) -> dict[str, Any]:
        """Return results by name; what a step could not measure is None."""
        ...

    def findings(self, audit: Measurements) -> list[Finding]:
        """Return what the results mean; nothing without results."""
        ...

    def section(self, audit: Measurements, folder: Path, /) -> Section | None:
        """Return the part's section of the page, with its figures drawn into `folder`; None without results."""
        ...

    def record(self, audit: Measurements) -> Any:
        """Return the results as numbers, texts, lists and dicts; None without results."""
        ...


def discover() -> dict[str, Part]:
    """Return every part by name, in the order in which they run."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return {part.NAME: part for part in in_order(cast(list[Part], modules), lambda part: part.NAME, _ORDER)}


def in_order(items: Iterable[T], name: Callable[[T], str], order: Sequence[str]) -> list[T]:
    """Sort `items` as `order` has their names; those with other names follow, as they come.

    Example:
        >>> in_order(["d", "b", "c", "a"], str, ("a", "b"))
        ['a', 'b', 'd', 'c']
    """
    return sorted(items, key=lambda item: order.index(name(item)) if name(item) in order else len(order))
