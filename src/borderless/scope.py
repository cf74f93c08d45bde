"""One forward pass under a border: the policy, the model's root (to name modules), and who listens.

Every Signal of a pass shares one `Scope`. Module names are looked up only when there is something to say.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import nn

from borderless.borders import Border
from borderless.errors import PositionDependentError, PositionDependentWarning, UnsupportedOperation
from borderless.geometry import Slide
from borderless.rules.registry import describe
from borderless.torch_internals import running_modules

if TYPE_CHECKING:
    from borderless.signal import Signal


@dataclass(frozen=True)
class Event:
    """Something that happened in a pass, for `explain` and the measures.

    kind: "slide" (a sliding operation), "position" (absolute position was read). macs: multiply-adds, bias not counted.
    slides: a sliding operation's numbers along each axis, where it has them; source: the frame that it slides over.
    """

    kind: str
    operation: str
    module: str
    signal: "Signal | None"
    macs: int = 0
    reason: str = ""
    slides: tuple[Slide, ...] = ()
    source: tuple[int, ...] = ()


@dataclass
class Scope:
    border: Border
    root: nn.Module
    strict: bool = False
    warned: set[str] = field(default_factory=set)
    observer: Callable[[Event], Any] | None = None
    watched: bool = False  # whether ordinary tensors are looked after too: see `rules.uniform`

    def module_path(self) -> str:
        """Name of the innermost module that is running now, as in `named_modules`; "" for the root itself."""
        return self._running()[0]

    def describe_module(self) -> str:
        path, module = self._running()
        return f"module {path!r} ({type(module).__name__})" if path else f"the model itself ({type(module).__name__})"

    def _running(self) -> tuple[str, nn.Module]:
        names = self._names
        return next(((names[module], module) for module in running_modules() if module in names), ("", self.root))

    @cached_property
    def _names(self) -> dict[nn.Module, str]:
        """Of every module of the model: looked up once a pass, because an observer asks at each sliding operation."""
        return {module: name for name, module in self.root.named_modules()}

    def observe(
        self,
        function: Any,
        signal: "Signal",
        macs: int = 0,
        slides: tuple[Slide, ...] = (),
        source: tuple[int, ...] = (),
    ) -> None:
        if self.observer is not None:
            module = self.module_path()
            self.observer(Event("slide", describe(function), module, signal, macs, slides=slides, source=source))

    def reads_position(self, operation: str, reason: str) -> None:
        """Record that absolute position is read here; warn once per module, or refuse in strict mode."""
        where = self.describe_module()
        text = f"{operation} in {where} reads absolute position: {reason}"
        if self.observer is not None:
            self.observer(Event("position", operation, self.module_path(), None, reason=reason))
        if self.strict:
            raise PositionDependentError(
                f"{text}. strict=True refuses this; replace the module (by global pooling, for example) or convert "
                "only the part of the model before it"
            )
        if where not in self.warned:
            self.warned.add(where)
            warnings.warn(
                f"{text}. From here on the map is cropped to its frame and the model runs with its own borders; "
                "its output depends on where things are",
                PositionDependentWarning,
                stacklevel=2,
            )

    def unsupported(self, operation: str, reason: str = "there is no rule for it") -> UnsupportedOperation:
        return UnsupportedOperation(
            f"got {operation} in {self.describe_module()} under the border {self.border.name!r}: {reason}. "
            "Needed: a function that borderless knows how to run on a map and on what surrounds it. "
            "Register one with @borderless.rules.rule(function), or convert only the part of the model before it"
        )
