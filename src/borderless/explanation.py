"""Report of a border's effect on a model, layer by layer: sizes, receptive fields, multiply-adds, position reads."""

import warnings
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm, prod
from typing import Any

import torch
from torch import Tensor, nn

from borderless.conversion import Conversion, attached, check_convertible, conversion_of, make_border
from borderless.engine.border import Border, Borders, Phase
from borderless.engine.events import Event
from borderless.engine.geometry import filled_box
from borderless.engine.image_arguments import ImageArguments, Images, in_layout, input_channels, with_image
from borderless.engine.inputs import arguments_named, names_of
from borderless.engine.lattice import Lattice, Stride
from borderless.engine.receptive_field import Field
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import tree_leaves
from borderless.partition.card import Tiling, tiling
from borderless.report.numbers import count, sizes
from borderless.runtime.evaluation import evaluating

# Means that are larger than the unmodified model's by more than this can make steps of a usual size diverge.
_LARGE_GROWTH = 2.0

Reach = tuple[tuple[int | Fraction, int | Fraction], ...]


@dataclass(frozen=True)
class Layer:
    """One sliding operation, and the feature map that it returns.

    Sizes are cells (height, width); stride and receptive field are input pixels, fractions where a map is finer than
    the image.

    Attributes:
        receptive_field: Pixels from the first to the last that a cell reads, of the cell that reads furthest.
        reach: For each axis, the number of pixels before and after its own position, index · stride, that a cell reads
            at most. Both are those of cells far from the edge; an operation that reads all of space (a global pool,
            GroupNorm) counts as if it read its own cell alone.
    """

    module: str
    operation: str
    frame: tuple[int, ...]
    window: tuple[int, ...]
    stride: Stride
    receptive_field: tuple[int, ...]
    reach: Reach
    macs: int


@dataclass(frozen=True)
class PositionRead:
    """A call in which the model reads absolute position."""

    module: str
    operation: str
    reason: str


@dataclass(frozen=True)
class Departure:
    """A call in which a feature map of `frame` cells, cropped to its frame, becomes an ordinary tensor of `shape`."""

    module: str
    operation: str
    frame: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Mean:
    """A mean over space.

    growth: the number of cells over which the content of a full frame spreads, relative to the frame, and so about the
    factor by which features exceed the unmodified model's; 1 where that is divided out.
    """

    module: str
    frame: tuple[int, ...]
    window: tuple[int, ...]
    growth: float


@dataclass(frozen=True)
class Explanation:
    """The result of `explain`; `str()` of it is a table.

    Attributes:
        images: Names of the arguments that are images, or that hold some.
        macs: Multiply-adds of the whole pass on one image, all of the model counted.
        macs_own: The same with the model's original padding.
        total_stride: The smallest shifts, in pixels, whose multiples the border's guarantee holds for with a fixed
            phase: the least common multiple of all strides.
        receptive_field: As in `Layer`, of the maps that the model returns; the largest of all layers where it returns
            something else.
        reach: As in `Layer`, of the same maps.
    """

    model: str
    border: Border
    images: tuple[str, ...]
    size: tuple[int, ...]
    layers: tuple[Layer, ...]
    position_reads: tuple[PositionRead, ...]
    means: tuple[Mean, ...]
    departures: tuple[Departure, ...]
    total_stride: tuple[int, ...]
    receptive_field: tuple[int, ...]
    reach: Reach
    macs: int
    macs_own: int
    tiling: Tiling | None = None

    @property
    def cost(self) -> float:
        """Multiply-adds relative to the model with its original padding."""
        return self.macs / self.macs_own if self.macs_own else 1.0

    def __str__(self) -> str:
        columns = ("module", "operation", "frame", "window", "stride", "field", "MACs")
        rows = [
            (
                layer.module,
                layer.operation.rpartition(".")[2],
                sizes(layer.frame),
                sizes(layer.window),
                sizes(layer.stride),
                sizes(layer.receptive_field),
                count(layer.macs) if layer.macs else "",
            )
            for layer in self.layers
        ]
        widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
        lines = [f"{self.model} on {sizes(self.size)} pixels under {self.border!r}", ""]
        for row in [columns, *rows]:
            cells = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
            lines.append("  ".join(cells).rstrip())
        lines += [
            "",
            f"multiply-adds   {count(self.macs)}, {self.cost:.2f} × original padding's {count(self.macs_own)}",
            f"total stride    {sizes(self.total_stride)} pixels",
            f"receptive field {sizes(self.receptive_field)} pixels: "
            f"{sizes([before for before, _ in self.reach])} before and {sizes([after for _, after in self.reach])} "
            "after a cell's position",
        ]
        if self.images not in ((), ("input",)):
            lines.append(f"images          {', '.join(self.images)}")
        if not self.position_reads:
            lines.append("position        nothing in the model reads absolute position")
        for mean in self.means:
            lines.append(
                f"mean over space {mean.module or 'the model itself'}: {sizes(mean.frame)} cells in a window of "
                f"{sizes(mean.window)}; on images that fill the frame about {mean.growth:.1f} × the original features"
            )
        if any(mean.growth > _LARGE_GROWTH for mean in self.means):
            lines.append(
                "                to train from random weights on such images, take Border(..., count='window')"
            )
        for left in self.departures:
            lines.append(
                f"leaves          {left.module or 'the model itself'}: {left.operation}: the map of "
                f"{sizes(left.frame)} cells, cropped to its frame, becomes a tensor of shape {left.shape}"
            )
        for read in self.position_reads:
            lines.append(f"position        {read.module or 'the model itself'}: {read.operation}: {read.reason}")
        if self.tiling is not None:
            lines.append(f"tiles           {self.tiling.summary}")
        return "\n".join(lines)


def explain(
    model: nn.Module,
    size: tuple[int, ...],
    border: Borders | Border = "infinite",
    *,
    phase: Phase = "fixed",
    background: float = 0.0,
    reach: int | None = None,
    channels: int | None = None,
    images: Images | None = None,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    tiles: bool = True,
) -> Explanation:
    """Run `model` on an empty image of `size` (height, width) and report each layer under `border`.

    It runs twice, with its original padding and under the border, in eval mode and without gradients, and is left as it
    was. Which border fits which task and data: the documentation's page "Which border should I use?".

    Args:
        model: Any model that `convert` takes.
        size: Height and width of the image in pixels (one number for each spatial axis).
        border: A name, one for each axis, or a `Border`; with names, phase, background and reach are options beside it.
        phase: "fixed" or "adaptive".
        background: Value around the image under "infinite", in input units.
        reach: Number of cells that a feature map may grow beyond its frame; None: unlimited.
        channels: Channels of the image; by default those of the model's first convolution.
        images: Arguments that are images, as for `convert`; the image of zeros is the first of them. By default as the
            model was converted.
        args: Further positional arguments of the model, after the image.
        kwargs: Keyword arguments of the model.
        tiles: Whether to report on tiles too, which takes another run of each call.

    Returns:
        The report; print it for a table.

    Raises:
        ConversionError: The number of channels is unknown, or the model takes other arguments.

    Example:
        >>> import torch, borderless as bl
        >>> found = bl.explain(torch.nn.Conv2d(1, 4, 3, padding=1), (8, 8), "full")
        >>> found.layers[0].window, round(found.cost, 2)
        ((10, 10), 1.56)
    """
    from torch.utils.flop_counter import FlopCounterMode  # loads triton, where there is one

    made = make_border(border, phase, background, reach)
    if channels is None:
        channels = input_channels(model)
    example = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    with evaluating(model):  # another thread may be inside a block of it, which comes first
        check_convertible(model)
    before = conversion_of(model)
    named = ImageArguments.of(images, model) or (None if before is None else before.images)
    layout = None if named is None else named.layouts[0][1]
    image = in_layout(torch.zeros(1, channels, *size, dtype=example.dtype, device=example.device), layout)
    events: list[Event] = []
    kwargs = kwargs or {}
    watched = _Watched(made, observer=events.append, images=named)
    given, others = with_image(model, named, image, args, kwargs)
    with evaluating(model), warnings.catch_warnings(), arguments_named(model, args, kwargs, named):
        warnings.simplefilter("ignore")  # what reads position is reported, not warned about
        original = Conversion(Border("zero", at=made.at), images=named)
        with attached(model, watched), FlopCounterMode(display=False) as counted:
            model(*given, **others)
        with attached(model, original), FlopCounterMode(display=False) as own:
            model(*given, **others)
        card = None
        if tiles and named is None:
            with attached(model, Conversion(made)):
                card = tiling(model, size, channels=channels, args=args, kwargs=kwargs, tiles=())
    layers, reads, means, departures, fields = [], [], [], [], watched.entered
    for event in events:
        if event.kind == "position":
            reads.append(PositionRead(event.module, event.operation, event.reason))
        elif event.kind == "leaves":
            departures.append(Departure(event.module, event.operation, event.source, event.shape))
        elif event.kind == "mean":
            means.append(_mean(event, made))
        elif event.signal is not None:
            window = tuple(b - a for a, b in event.signal.box)
            fields.append(event.signal.field)
            layers.append(
                Layer(
                    event.module,
                    event.operation,
                    event.signal.frame,
                    window,
                    event.signal.lattice.stride,
                    tuple(along.width for along in event.signal.field),
                    tuple(along.reach for along in event.signal.field),
                    event.macs,
                )
            )
    strides = [lattice.total_stride for lattice in watched.lattices if len(lattice.stride) == len(size)]
    returned = [f for f in watched.returned if len(f) == len(size)]
    along_axes = list(zip(*(returned or [f for f in fields if len(f) == len(size)]), strict=True))
    return Explanation(
        model=type(model).__name__,
        border=made,
        images=tuple(watched.images_seen),
        size=tuple(size),
        layers=tuple(layers),
        position_reads=tuple(reads),
        means=tuple(means),
        departures=tuple(departures),
        total_stride=tuple(lcm(*axis) for axis in zip(*strides, strict=True)),
        receptive_field=tuple(max(along.width for along in axis) for axis in along_axes),
        reach=tuple(
            (max(along.reach[0] for along in axis), max(along.reach[1] for along in axis)) for axis in along_axes
        ),
        macs=counted.get_total_flops() // 2,
        macs_own=own.get_total_flops() // 2,
        tiling=card,
    )


def _mean(event: Event, border: Border) -> Mean:
    spread = filled_box(event.window, event.source) / prod(event.source)
    return Mean(
        event.module,
        event.source,
        tuple(b - a for a, b in event.window),
        spread if border.count == "frame" else 1.0,
    )


@dataclass
class _Watched(Conversion):
    """A conversion that remembers the images' lattices, and the fields of what enters and of what the model returns.

    returned: empty where the model returns anything but maps. images_seen: the arguments that hold images.
    """

    lattices: list[Lattice] = field(default_factory=list)
    entered: list[tuple[Field, ...]] = field(default_factory=list)
    returned: list[tuple[Field, ...]] = field(default_factory=list)
    images_seen: list[str] = field(default_factory=list)

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        entered = super().enter(module, args, kwargs)
        images = [leaf for leaf in tree_leaves(entered) if isinstance(leaf, Signal)]
        self.lattices += [image.lattice for image in images]
        self.entered += [image.field for image in images]
        self.images_seen = names_of(module, *entered)
        return entered

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        self.returned = [leaf.field for leaf in tensors if isinstance(leaf, Signal)]
        if len(self.returned) < len(tensors):
            self.returned = []
        return super().leave(module, args, kwargs, output)
