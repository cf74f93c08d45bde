"""Feature maps that share memory in the unmodified model: what is written to one of them in place, all of them show.

PyTorch's views share their windows' memory, but backgrounds are tensors of their own, and a window that grows is a new
tensor. So maps that are views of one another know the `Memory` that they show, and an in-place operation on one of them
is written through to the memory and from there to the others. Where nobody can know whether the unmodified model has a
view or a copy (`contiguous`, a reshape that merges dimensions: both depend on how a tensor is laid out), and where a
view has other cells than its source (a crop), the other maps forget their cells: whoever asks for them later gets an
error that names both functions.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from borderless.engine.geometry import Box
from borderless.engine.naming import describe, is_torch_own
from borderless.engine.reading import read
from borderless.engine.receptive_field import Field, united
from borderless.engine.tiles import same_period
from borderless.engine.torch_internals import OpOverloadPacket, have_one_storage, schema_of
from borderless.errors import UnsupportedOperation


class View(NamedTuple):
    """A map as a view of another one.

    apply: takes the view of a tensor, whatever the tensor's size along `axes`, the spatial axes of the source. samples:
    the batch size of the source, where the view depends on it; None: `apply` takes tensors of any batch size.
    """

    apply: Callable[[Tensor], Tensor]
    axes: tuple[int, ...]
    samples: int | None = None

    def of_background(self, background: Tensor) -> Tensor:
        """Return the background (1 or N, C, *period) of the view."""
        if self.samples is not None:
            background = background.expand(self.samples, *background.shape[1:])
        return self.apply(background)

    def written(self, source: Tensor, part: Tensor, is_recorded: bool) -> Tensor:
        """Return a copy of `source` whose view is `part`. is_recorded: whether gradients go to `part`."""
        source = source.clone(memory_format=torch.contiguous_format)  # of which every reshape is a view
        with torch.set_grad_enabled(is_recorded):
            self.apply(source).copy_(part)
        return source

    def written_background(self, source: Tensor, part: Tensor, axes: tuple[int, ...], is_recorded: bool) -> Tensor:
        """Return the same for backgrounds: that of the view, `part`, has the spatial `axes`."""
        source, part = same_period([source, part], [self.axes, axes], dense=True)
        samples = self.samples if self.samples is not None else max(len(source), len(part))
        return self.written(source.expand(samples, *source.shape[1:]), part, is_recorded)


@dataclass(eq=False, slots=True)
class Memory:
    """The cells that maps show, as one tensor of the unmodified model holds them; it lives as long as one of them.

    maps: all maps that show this memory, or one that may be the same. origin: the function because of which nobody
    knows whether this memory and another one are the same.
    """

    window: Tensor
    background: Tensor | None
    box: Box
    axes: tuple[int, ...]
    maps: "list[weakref.ref[Aliased]]"
    origin: Any = None

    def is_shown_by(self, signal: "Aliased") -> bool:
        """Return whether the window of `signal` is a view of this memory's window, as PyTorch has views."""
        shown = signal.shown
        return shown is not None and shown[0] is self.window and shown[1] is signal.window

    def write(self, signal: "Aliased", is_recorded: bool) -> None:
        """Take over what `signal`, one of the maps that show this memory, holds now."""
        views = signal.views
        if signal.box != self.box or torch.compiler.is_compiling() or not self.is_shown_by(signal):
            sources, part = [read(self.window, self.axes, self.box, signal.box, self.background)], signal.window
            for view in views[:-1]:
                sources.append(view.apply(sources[-1]))
            for view, source in zip(reversed(views), reversed(sources), strict=False):
                part = view.written(source, part, is_recorded)
            self.window, self.box = part, signal.box
        if signal.background is not None:
            assert self.background is not None
            sources, part, axes = [self.background], signal.background, signal.axes
            for view in views[:-1]:
                sources.append(view.of_background(sources[-1]))
            for view, source in zip(reversed(views), reversed(sources), strict=False):
                part, axes = view.written_background(source, part, axes, is_recorded), view.axes
            self.background = part

    def show(self, signal: "Aliased", changed: "Aliased") -> None:
        """Let `signal` show this memory after `changed` was written to it."""
        window, background = self.window, self.background
        for view in signal.views:
            background = None if background is None else view.of_background(background)
        if not self.is_shown_by(signal):
            for view in signal.views:
                window = view.apply(window)
            signal.shown, signal.aliased = (self.window, window), False
            signal.window = window
        signal.background, signal.start = background, tuple([a for a, _ in self.box])
        signal._sizes, signal._deviation = signal.window.shape, None
        signal.field = tuple([united(fields) for fields in zip(signal.field, changed.field, strict=True)])


class CellsForgotten(UnsupportedOperation):
    """The cells of a map are unknown since another map was changed in place."""


class Change(NamedTuple):
    """An in-place operation: its function, the modules that ran it, and the function that made the maps' relation."""

    function: Any
    modules: tuple[nn.Module, ...]
    origin: Any

    def error(self, signal: "Aliased") -> CellsForgotten:
        """Return the error for `signal`, whose cells this change made unknown."""
        relation = "shares memory" if self.origin is None else f"may share memory, through {describe(self.origin)},"
        return CellsForgotten(
            f"Expected a feature map with known values but got one that {relation} with a map which "
            f"{describe(self.function)} in {signal.scope.describe(*self.modules)} changed in place under the border "
            f"{signal.border.name!r}; its values are unknown since then. Write .clone() before the change, or use the "
            "function that is not in place."
        )


class Aliased:
    """A Signal's record of the maps that share memory with it.

    memory: what this map shows, through which `views`. shown: the memory's window, and the view of it that this map
    stores. change: what made this map forget its cells. aliased: whether another map stores the very same window
    although the unmodified model would hold two.
    """

    memory: Memory | None = None
    views: tuple[View, ...] = ()
    shown: tuple[Tensor, Tensor] | None = None
    change: Change | None = None
    is_written_through = True  # whether the maps that share memory with this one can show what was written to it
    aliased: bool
    # Of the Signal that this is a part of.
    window: Tensor
    background: Tensor | None
    box: Box
    axes: tuple[int, ...]
    start: tuple[int, ...]
    field: tuple[Field, ...]
    scope: Any
    border: Any
    derive: Callable[..., Any]
    check_gradients: Callable[[], None]
    _sizes: torch.Size
    _deviation: Tensor | None

    def become(
        self,
        function: Any,
        window: Tensor,
        background: Tensor | None,
        *,
        box: Box | None = None,
        field: tuple[Field, ...] | None = None,
    ) -> Self:
        """Take over what the in-place `function` left, so that whoever holds this map, or a view of it, sees it."""
        self.check_gradients()
        self.window, self.background, self.aliased = window, background, False
        self._sizes, self._deviation = window.shape, None
        if box is not None:
            self.start = tuple(a for a, _ in box)
        if field is not None:
            self.field = field
        if self.memory is not None:
            write_through(self, function)
        return self

    def alias(
        self,
        view: View,
        stored: Sequence[Any] | None = None,
        *,
        axes: tuple[int, ...] | None = None,
        lattice: Any = None,
        is_copy: bool = False,
    ) -> Self:
        """Return a Signal of what the unmodified model has as a view of this map.

        stored: the window and the background of the view, where they are known already. is_copy: whether that window
        shares no memory with this one.
        """
        memory = self.memory or memory_of(self)
        if stored is None:
            window = view.apply(self.window)
            background = None if self.background is None else view.of_background(self.background)
        else:
            window, background = stored
        made = self.derive(window, background, axes=axes, lattice=lattice, aliased=self.aliased)
        shown = (memory.window, window) if not is_copy and memory.is_shown_by(self) else None
        join(made, memory, (*self.views, view), shown)
        return made

    def possible_alias(self, made: Self, function: Any) -> Self:
        """`made`, which `function` made of this map: a view or a copy in the unmodified model, nobody knows which."""
        if made is not self and not self._is_laid_out_as_unmodified:
            made.aliased = self.aliased
            self._join_as_stranger(made, function)
        return made

    def relate(self, made: "Aliased", function: Any, args: Sequence[Any]) -> None:
        """Note how `made`, which a call made of this map or of a copy, may share memory with this map.

        Where the function returns views in the unmodified model, a change in place of one makes the cells of the other
        unknown; where it returns copies, it leaves the other as it is, although both store the same memory here.
        """
        is_known = made.memory is not None and self.memory is not None and made.memory.maps is self.memory.maps
        if made is self or is_known or not self.window.numel() or not made.window.numel():
            return
        if _may_return_views(function, args):
            self._join_as_stranger(made, function)
        if have_one_storage(self.window, made.window):
            made.aliased = True
            self.share_window()

    def _join_as_stranger(self, made: "Aliased", function: Any) -> None:
        window, maps = made.window, memory_of(self).maps
        join(made, Memory(window, made.background, made.box, made.axes, maps, function), (), (window, window))

    @property
    def _is_laid_out_as_unmodified(self) -> bool:
        """Whether PyTorch gives views of windows just where it does in the unmodified model, with nothing around."""
        scope = self.scope
        return scope.border.is_own and not scope.border.is_adaptive and scope.is_laid_out_as_unmodified

    def share_window(self) -> None:
        """Note that a map to be made stores this window too, although the unmodified model would hold two."""
        self.aliased = True
        if self.memory is not None:
            for ref in self.memory.maps:
                if (other := ref()) is not None:
                    other.aliased = True

    def forget(self, change: Change) -> None:
        """Forget the cells, which `change` may have changed in the unmodified model."""
        self.change, self.memory, self._deviation = change, None, None
        if "window" in self.__dict__:
            del self.window


def memory_of(signal: "Aliased") -> Memory:
    """Return the memory that `signal` shows; a new one if it is the only map so far."""
    if signal.memory is None:
        signal.memory = Memory(signal.window, signal.background, signal.box, signal.axes, [weakref.ref(signal)])
        signal.views, signal.shown = (), (signal.window, signal.window)
    return signal.memory


def join(signal: "Aliased", memory: Memory, views: tuple[View, ...], shown: tuple[Tensor, Tensor] | None) -> None:
    """Let `signal` be one of the maps that show `memory`, through `views`."""
    maps = memory.maps
    if len(maps) & (len(maps) - 1) == 0:  # now and then
        maps[:] = [ref for ref in maps if ref() is not None]
    maps.append(weakref.ref(signal))
    signal.memory, signal.views, signal.shown = memory, views, shown


def write_through(signal: "Aliased", function: Any) -> None:
    """Propagate an in-place change of `signal` by `function`: maps that share its memory show it, or forget theirs."""
    memory = signal.memory
    assert memory is not None
    others = [other for ref in memory.maps if (other := ref()) is not None and other is not signal]
    others = [other for other in others if other.change is None]
    is_passed_on = signal.is_written_through
    kin = [other for other in others if is_passed_on and other.memory is memory]
    strangers = [other for other in others if not is_passed_on or other.memory is not memory]
    if strangers:
        modules = tuple(signal.scope.running())
        for other in strangers:
            assert other.memory is not None
            origin = None if other.memory is memory else memory.origin or other.memory.origin
            other.forget(Change(function, modules, origin))
    if not kin:
        signal.memory, signal.views, signal.shown = None, (), None
        return
    is_recorded = torch.is_grad_enabled()
    with torch.enable_grad():  # what is only passed on keeps its gradients, also where the change itself has none
        memory.write(signal, is_recorded)
        for shows in (signal, *kin):
            memory.show(shows, signal)


def _may_return_views(function: Any, args: Sequence[Any]) -> bool:
    """Return whether a call of PyTorch's `function` may return a view of its first argument."""
    if function is Tensor.__getitem__:
        index = args[1] if isinstance(args[1], tuple) else (args[1],)
        return not any(isinstance(entry, list | Tensor) for entry in index)
    name = getattr(function, "__name__", "")
    return name == "__get__" or (is_torch_own(function) and _has_views(name))


@cache
def _has_views(name: str) -> bool:
    packet = getattr(torch.ops.aten, name, None)
    if not isinstance(packet, OpOverloadPacket):
        return False
    returned = (value for overload in packet.overloads() for value in schema_of(getattr(packet, overload)).returns)
    return any(value.alias_info is not None and not value.alias_info.is_write for value in returned)
