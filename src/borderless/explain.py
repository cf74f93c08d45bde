"""What a border does to a model, layer by layer: sizes, receptive fields, multiply-adds, and what reads position."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from borderless.borders import Border, BorderName, Phase
from borderless.convert import arguments_named, bordered, make_border
from borderless.errors import ConversionError
from borderless.lattice import Stride
from borderless.modes import measured
from borderless.scope import Event


@dataclass(frozen=True)
class Layer:
    """One sliding operation. Sizes are cells (height, width); stride and receptive field are input pixels, fractions
    where a map is finer than the image.
    """

    module: str
    operation: str
    frame: tuple[int, ...]
    window: tuple[int, ...]
    stride: Stride
    receptive_field: Stride
    macs: int


@dataclass(frozen=True)
class PositionRead:
    """A place where the model reads absolute position."""

    module: str
    operation: str
    reason: str


@dataclass(frozen=True)
class Explanation:
    """What `explain` found; `str()` of it is a table.

    macs: multiply-adds of the whole pass on one image, all of the model counted; macs_own: with the model's own
    padding. total_stride: the shifts, in pixels, under which the border's guarantee holds with a fixed phase.
    """

    model: str
    border: Border
    size: tuple[int, ...]
    layers: tuple[Layer, ...]
    position_reads: tuple[PositionRead, ...]
    total_stride: Stride
    receptive_field: Stride
    macs: int
    macs_own: int

    @property
    def cost(self) -> float:
        """Multiply-adds relative to the model with its own padding."""
        return self.macs / self.macs_own if self.macs_own else 1.0

    def __str__(self) -> str:
        columns = ("module", "operation", "frame", "window", "stride", "field", "MACs")
        rows = [
            (
                layer.module,
                layer.operation.rpartition(".")[2],
                _sizes(layer.frame),
                _sizes(layer.window),
                _sizes(layer.stride),
                _sizes(layer.receptive_field),
                _count(layer.macs) if layer.macs else "",
            )
            for layer in self.layers
        ]
        widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
        lines = [f"{self.model} on {_sizes(self.size)} pixels under {self.border!r}", ""]
        for row in [columns, *rows]:
            cells = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
            lines.append("  ".join(cells).rstrip())
        lines += [
            "",
            f"multiply-adds   {_count(self.macs)}, {self.cost:.2f} × its own padding's {_count(self.macs_own)}",
            f"total stride    {_sizes(self.total_stride)} pixels",
            f"receptive field {_sizes(self.receptive_field)} pixels",
        ]
        if not self.position_reads:
            lines.append("position        nothing in the model reads absolute position")
        for read in self.position_reads:
            lines.append(f"position        {read.module or 'the model itself'}: {read.operation}: {read.reason}")
        return "\n".join(lines)


def explain(
    model: nn.Module,
    size: tuple[int, ...],
    border: BorderName | Border = "infinite",
    *,
    phase: Phase = "fixed",
    background: float = 0.0,
    reach: int | None = None,
    channels: int | None = None,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> Explanation:
    """Run `model` once on an empty image of `size` (height, width) and report each layer under `border`.

    channels: of the image; by default those of the model's first convolution. args, kwargs: what the model takes after
    the image. The model runs in eval mode, without gradients, and is left as it was. Raises ConversionError when the
    number of channels cannot be told, or the model takes other arguments.
    """
    from torch.utils.flop_counter import FlopCounterMode  # loads triton, where there is one

    made = make_border(border, phase, background, reach)
    if channels is None:
        channels = _input_channels(model)
    example = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    image = torch.zeros(1, channels, *size, dtype=example.dtype, device=example.device)
    events: list[Event] = []
    kwargs = kwargs or {}
    with measured(model), warnings.catch_warnings(), arguments_named(model, args, kwargs):
        warnings.simplefilter("ignore")  # what reads position is reported, not warned about
        with bordered(model, "zero"), FlopCounterMode(display=False) as own:
            model(image, *args, **kwargs)
        with bordered(model, made, observer=events.append), FlopCounterMode(display=False) as counted:
            model(image, *args, **kwargs)
    layers, reads = [], []
    for event in events:
        if event.kind == "position":
            reads.append(PositionRead(event.module, event.operation, event.reason))
        elif event.signal is not None:
            window = tuple(b - a for a, b in event.signal.box)
            layers.append(
                Layer(
                    event.module,
                    event.operation,
                    event.signal.frame,
                    window,
                    event.signal.lattice.stride,
                    event.signal.field,
                    event.macs,
                )
            )
    ones = (1,) * len(size)
    return Explanation(
        model=type(model).__name__,
        border=made,
        size=tuple(size),
        layers=tuple(layers),
        position_reads=tuple(reads),
        total_stride=tuple(max(s) for s in zip(ones, *(layer.stride for layer in layers), strict=True)),
        receptive_field=tuple(max(f) for f in zip(ones, *(layer.receptive_field for layer in layers), strict=True)),
        macs=counted.get_total_flops() // 2,
        macs_own=own.get_total_flops() // 2,
    )


def _input_channels(model: nn.Module) -> int:
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return module.in_channels
    raise ConversionError(
        f"got a {type(model).__name__} without a convolution, so its number of input channels is unknown; "
        "needed: explain(..., channels=C)"
    )


def _sizes(sizes: Sequence[int | Fraction]) -> str:
    return "×".join(map(str, sizes))


def _count(number: int) -> str:
    for unit, factor in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return str(number)
