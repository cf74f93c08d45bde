"""One forward pass under a border: the policy, the model's root (to name modules), and who listens.

Every Signal of a pass shares one `ForwardPass`, its `scope`. Module names are looked up only when there is something to
say, by walking the interpreter's stack for the innermost running module, so naming them needs no hooks.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

from torch import nn

from borderless.engine.edge import Edge
from borderless.engine.events import Event
from borderless.engine.geometry import Slide
from borderless.engine.naming import describe, describe_node
from borderless.engine.torch_internals import forward_of, running_code, running_modules
from borderless.errors import PositionDependentError, PositionDependentWarning, UnsupportedOperation


class CallSite(NamedTuple):
    """A call of a model: the function and the module, by its path and as an error text names it."""

    operation: str
    module: str
    where: str

    def __str__(self) -> str:
        return f"{self.operation} in {self.where}"


@dataclass
class ForwardPass:
    """The border of a pass (an `Edge`), its model, and who listens.

    strict: raise where absolute position is read. warned: the modules that were warned of. observer: called with every
    `Event`. shares_passes: whether samples that have nothing to do with each other run together. has_mixed_rows:
    whether the model has joined or selected rows of the batch, so that its samples may have to do with each other.
    rows: how many rows the batch of images had that came in last.
    """

    is_laid_out_as_unmodified = True  # whether windows share memory where the unmodified model's maps do
    border: Edge
    root: nn.Module
    strict: bool = False
    warned: set[str] = field(default_factory=set)
    observer: Callable[[Event], Any] | None = None
    shares_passes: bool = False  # whether samples that have nothing to do with each other run together
    has_mixed_rows: bool = False
    rows: int = 1
    callers: dict[Any, str] = field(default_factory=dict, repr=False)  # code that ran without gradients, and its module

    def module_path(self) -> str:
        """Name of the innermost module that is running now, as in `named_modules`; "" for the root itself."""
        return self._named(self.running())[0]

    def describe_module(self) -> str:
        """Name the module that is running, as an error text does."""
        return self.describe(*self.running())

    def describe(self, *running: nn.Module) -> str:
        """Return the first of the modules `running` that belongs to the model, as an error text names it."""
        path, module = self._named(running)
        return f"module {path!r} ({type(module).__name__})" if path else f"the model itself ({type(module).__name__})"

    def running(self) -> Iterator[nn.Module]:
        """Return the modules that are running now, the innermost first, whether they belong to the model or not."""
        return running_modules()

    def _named(self, running: Iterable[nn.Module]) -> tuple[str, nn.Module]:
        return next(((self._names[module], module) for module in running if module in self._names), ("", self.root))

    @cached_property
    def _names(self) -> dict[nn.Module, str]:
        """The path of every module of the model, looked up once per pass for the observer of sliding operations."""
        return {module: name for name, module in self.root.named_modules()}

    def observe(
        self,
        function: Any,
        signal: Any,
        macs: int = 0,
        slides: tuple[Slide, ...] = (),
        source: tuple[int, ...] = (),
    ) -> None:
        """Tell the observer of a sliding operation."""
        if self.observer is not None:
            module = self.module_path()
            self.observer(Event("slide", describe(function), module, signal, macs, slides=slides, source=source))

    def averages(self, kind: Literal["mean", "window"], function: Any, signal: Any) -> None:
        """Record a mean over space, or that a value depends on how many cells the window holds."""
        if self.observer is not None and self.border.has_background:
            operation, module = describe(function), self.module_path()
            self.observer(Event(kind, operation, module, None, source=signal.frame, window=signal.box))

    def mixes_rows(self, function: Any) -> None:  # noqa: ARG002  a tape tells which function it was
        """Note that `function` joins or selects rows of the batch, or puts them in another order."""
        self.has_mixed_rows = True

    def call_of(self, function: Any) -> CallSite:
        """Return the call of `function` that is running."""
        return CallSite(describe(function), self.module_path(), self.describe_module())

    def leaves(self, call: CallSite, frame: tuple[int, ...], shape: tuple[int, ...]) -> None:
        """Record that a map of this `frame` becomes an ordinary tensor of `shape`, which a `call` has flattened."""
        if self.observer is not None:
            self.observer(Event("leaves", call.operation, call.module, None, source=frame, shape=shape))

    def reads_position(self, operation: str, reason: str, frame: tuple[int, ...] = ()) -> None:
        """Record that absolute position is read here; warn once per module, or refuse in strict mode.

        frame: of the map that is read. Under the original padding one cell has no position: nothing is to be said.
        """
        if self.border.is_own and frame and set(frame) == {1}:
            return
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
                f"{text}. From here on the feature map is cropped to its frame and the model runs with its original "
                "padding; its output depends on the position of objects.",
                PositionDependentWarning,
                stacklevel=2,
            )

    def remember_callers(self) -> None:
        """Note in which module the code is running that uses a map without recording gradients."""
        module = self.describe_module()
        self.callers.update(dict.fromkeys(running_code(), module))

    def past_autograd(self, node: Any) -> UnsupportedOperation:
        """Return the error for a map that left its mark on `node` of autograd's graph: gradients would be lost."""
        module = self.callers.get(forward_of(node))
        return self.unsupported(
            describe_node(node),
            "PyTorch runs it without recording what happens to the map, so gradients would be lost (for checkpointing, "
            "use_reentrant=False works; without gradients, under torch.no_grad(), it may work). Write its forward out "
            "in the module's, with functions that PyTorch differentiates by itself",
            relation="in or before" if module is None else "in",
            module=module,
        )

    def unsupported(
        self,
        operation: str,
        reason: str = "there is no rule for it",
        relation: str = "in",
        module: str | None = None,
    ) -> UnsupportedOperation:
        """Return the error for `operation`, met in `module` (None: the running one, or, by `relation`, before it)."""
        return UnsupportedOperation(
            f"Expected a function that borderless can run on a feature map and its surroundings but got {operation} "
            f"{relation} {module or self.describe_module()} under the border {self.border.name!r}: {reason}. Register "
            "a rule for it with @borderless.rules.rule(function), convert only the part of the model before it, or let "
            f"it run on the feature map cropped to its frame: bl.Border({self.border.name!r}, at='boundary')."
        )


@dataclass
class SilentPass(ForwardPass):
    """A pass that has nothing to say about absolute position: what the unmodified model does, or parts of a map do."""

    def reads_position(self, operation: str, reason: str, frame: tuple[int, ...] = ()) -> None:
        """Say nothing."""
