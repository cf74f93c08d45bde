"""Outputs of a sliding operation that are kept, and the cells read for them, under the border and the phase."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import gcd
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from borderless.engine.geometry import Box, Slide
from borderless.engine.lattice import Lattice
from borderless.engine.naming import describe
from borderless.engine.receptive_field import Field, slid
from borderless.engine.rules.lattice_choice import choose_lattice
from borderless.engine.rules.pointwise import map_as_parameter
from borderless.engine.shifting import Shift
from borderless.engine.signal import Signal
from borderless.engine.tiles import is_constant, periods, ranges_of, tile
from borderless.errors import ImageError

T = TypeVar("T")


class Layout(NamedTuple):
    """The integers of a sliding operation.

    frame: of its result. outputs: those that are kept. needed: the inputs that they read, none where nothing is kept.
    field: the receptive field of the result.
    """

    frame: tuple[int, ...]
    outputs: Box
    needed: Box
    field: tuple[Field, ...]


@lru_cache(8192)
def layout(slides: tuple[Slide, ...], outputs: Box, frame: tuple[int, ...], field: tuple[Field, ...]) -> Layout:
    """Return the sizes, lattice and field that `slides` give a map, of which `outputs` are kept.

    field: of the map's cells.
    """
    kept = all(first < stop for first, stop in outputs)
    needed = tuple(s.needed(interval) for s, interval in zip(slides, outputs, strict=True)) if kept else ()
    after = tuple(s.frame(n) for s, n in zip(slides, frame, strict=True))
    wider = tuple(slid(*pair) for pair in zip(field, slides, strict=True))
    return Layout(after, outputs, needed if min(after) > 0 else (), wider)


class Plan(NamedTuple):
    """A sliding operation on one Signal: what it keeps and what it reads.

    Under an adaptive phase the cells of the source are renumbered first: `box` is its window, `background` what is
    around it, in the new numbers. deviation: of the source from its background, in the old numbers, if it is known.
    """

    source: Signal
    slides: tuple[Slide, ...]
    shift: Shift | None
    deviation: Tensor | None
    box: Box
    background: Tensor | None
    lattice: Lattice
    layout: Layout

    @property
    def outputs(self) -> Box:
        """The outputs that are kept."""
        return self.layout.outputs

    @property
    def needed(self) -> Box:
        """The inputs that they read."""
        return self.layout.needed

    def window(self) -> Tensor:
        """Return the source's cells on `box`."""
        return self.source.window if self.shift is None else self.source.read_ranges(ranges_of(self.box), self.shift)

    def cells(self, padding: float = 0.0) -> Tensor:
        """Return the source's cells on `needed`, whatever lies outside included; padding: the original one's value."""
        return self.source.read_ranges(ranges_of(self.needed), self.shift, padding)

    def response(self, run: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the background of the result; `run` is the operation without padding, the background a tile."""
        assert self.background is not None
        counts = [
            p // gcd(p, s.stride) for p, s in zip(periods(self.background, self.source.axes), self.slides, strict=True)
        ]
        needed = tuple(s.needed((0, count)) for s, count in zip(self.slides, counts, strict=True))
        return run(tile(self.background, self.source.axes, ranges_of(needed), dense=True))

    @property
    def is_constant_around(self) -> bool:
        """Whether the background is the same everywhere."""
        return self.background is None or is_constant(self.background, self.source.axes)

    def result(
        self,
        stored: Tensor,
        background: Tensor | None,
        *,
        axes: tuple[int, ...] | None = None,
        is_deviation: bool = False,
    ) -> Signal:
        """Return the Signal of the outputs that are `stored`."""
        frame, outputs, _, field = self.layout
        return self.source.derive(
            stored,
            background,
            box=outputs,
            frame=frame,
            axes=axes,
            lattice=self.lattice,
            field=field,
            is_deviation=is_deviation,
        )


def plan(signal: Signal, slides: tuple[Slide, ...], function: Any) -> Plan:
    """Decide what `function`, which slides by `slides`, keeps of `signal` and reads for that."""
    slides = signal.directed(slides)
    lattice, shift, deviation = choose_lattice(signal, slides)
    box, background = signal.box, signal.background
    if shift is not None:
        box, background = signal.renumbered(shift)
    found = layout(slides, signal.kept(slides, box), signal.frame, signal.field)
    if not found.needed:
        kernel = " × ".join(str(s.kernel) for s in slides)
        raise nothing_left(signal, f"{describe(function)} with a kernel of {kernel}")
    return Plan(signal, slides, shift, deviation, box, background, lattice, found)


def nothing_left(signal: Signal, operation: str) -> ImageError:
    """Return the error for an operation of which the border keeps no output."""
    inside = any(edge.keeps == "inside" for edge in signal.edges)
    got = tuple(b - a for a, b in signal.box) if inside else signal.frame
    return ImageError(
        f"Expected an image large enough for an output but got a map of {' × '.join(map(str, got))} cells for "
        f"{operation} in {signal.scope.describe_module()} under {signal.border!r}; use a larger image"
        + (", or a border that pads (valid keeps only windows wholly inside)" if inside else "")
    )


def per_axis(value: Any, count: int) -> tuple[int, ...]:
    """PyTorch's "one number or one per axis" as one per axis."""
    if type(value) is tuple and len(value) == count:
        return value
    if isinstance(value, int):
        return (value,) * count
    values = tuple(int(v) for v in value)
    return values * count if len(values) == 1 else values


def has_other_dimensions(signal: Any, count: int) -> bool:
    """Return whether a map has `count` dimensions after its channels, of which some are not spatial."""
    if not isinstance(signal, Signal) or not signal.axes or len(signal.axes) == count:
        return False
    if not (signal.ndim == 2 + count and signal.axes[0] >= 2 and len(signal.axes) < count):
        return False
    return signal.shape[0] % max(1, signal.scope.rows) == 0  # not so where an image without a batch got one later


def along_space(signal: Signal, values: Sequence[T]) -> tuple[T, ...]:
    """Return, of `values`, one for each dimension after the channels, those of the spatial axes."""
    return tuple(values[axis - 2] for axis in signal.axes) if len(values) > len(signal.axes) else tuple(values)


def padding_beside_space(signal: Signal, slides: Sequence[Slide]) -> list[int]:
    """Return, as `torch.nn.functional.pad` takes it, the padding of `slides` in the dimensions that are not space."""
    sizes = [(0, 0) if 2 + i in signal.axes else (s.padding, s.padding_after) for i, s in enumerate(slides)]
    return [amount for pair in reversed(sizes) for amount in pair]


_AXIS_NAMES = {1: "T", 2: "H, W", 3: "T, H, W"}


def check_axes(signal: Any, count: int | None, function: Any, *parameters: Any) -> None:
    """Refuse a map that is not (batch, channels, `count` spatial axes), and one among the `parameters` (weights).

    count: None for as many spatial axes as the map has.
    """
    if not isinstance(signal, Signal):
        raise map_as_parameter(function, signal, *parameters)
    for value in parameters:
        if isinstance(value, Signal):
            raise map_as_parameter(function, signal)
    axes, ndim = signal.axes, signal.ndim
    count = len(axes) if count is None else count
    if ndim == 2 + count and len(axes) == count and axes[0] == 2:
        return
    spatial = "1 spatial axis" if count == 1 else f"{count} spatial axes"
    raise ImageError(
        f"Expected a feature map (batch, channels, {spatial}) for {describe(function)} in "
        f"{signal.scope.describe_module()}, but got the shape {tuple(signal.shape)} with the spatial axes {axes}. "
        f"borderless takes every input tensor for (batch, channels, *space). {_remedy(signal, count)}"
    )


def _remedy(signal: Signal, count: int) -> str:
    names = _AXIS_NAMES.get(max(count, signal.ndim - 2), "*space")
    if len(signal.axes) > count:
        names = _AXIS_NAMES.get(count, "*space")
        return (
            f"Name several images per sample as such, images={{'x': 'NBC{names.replace(', ', '')}'}} for the argument "
            "x, or convert only the part of the model that takes single images"
        )
    if signal.axes[0] < 2 and signal.ndim == 2 + count:
        layout = f"N{names.replace(', ', '')}C"
        return f"Give a channels-last input as (N, C, {names}), or name its layout: images={{'x': {layout!r}}}"
    if signal.axes[-1] != signal.ndim - 1:
        return f"Give (N, C, {names}), or convert only the part of the model after it has moved its channels"
    return (
        f"Give an image without a batch as (1, C, {names}); of a detector, which takes a list of images, convert "
        "model.backbone. A function that slides over channels as over space has no rule"
    )
