"""Report on running a model on parts of an image, before anything is computed: exactness, margins, cost."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from borderless.conversion import border_of
from borderless.engine.geometry import Interval, ceil_div
from borderless.engine.image_arguments import input_channels
from borderless.engine.naming import fields_of
from borderless.engine.operations import Mirror, OnMirrored
from borderless.engine.resizing import Resize
from borderless.errors import SignalError, UnsupportedOperation
from borderless.partition.cost import Cost, whole_cost
from borderless.partition.plan import margins, total_stride
from borderless.partition.record import Recording, record
from borderless.partition.tile_size import parts_cost, tile_cost
from borderless.report.numbers import count, sizes

_TILES = (128, 256, 512, 1024, 2048)


@dataclass(frozen=True)
class Gathered:
    """An operation over all of space: every tile contributes, and waits for the others."""

    module: str
    operation: str


@dataclass(frozen=True)
class TileCost:
    """The cost of tiles of one size, in pixels per axis.

    carried: by `tile`, one after the other. macs_alone: multiply-adds of tiles that each run by itself, as in `parts`;
    None where they cannot.
    """

    tile: tuple[int, ...]
    carried: Cost
    macs_alone: int | None


@dataclass(frozen=True)
class Tiling:
    """The result of `tiling` for an image of `size` pixels; `str()` of it is a card.

    Attributes:
        problem: Why tiles are not equal to the whole, with the module; None: they are.
        by_hand: Why nobody can cut an image into overlapping tiles for the model as it is; None: one can.
        total_stride: Tiles that are cut by hand must begin on multiples of it.
        margins: Number of pixels before and after its own that a tile reads, far from the edge of the image; no pixel
            can be left out.
        gathers: Operations over all of space.
        whole: The cost of the whole image at once.
        tiles: The costs of tiles and strips.
    """

    model: str
    border: str
    size: tuple[int, ...]
    problem: str | None = None
    by_hand: str | None = None
    total_stride: tuple[int, ...] = ()
    margins: tuple[Interval, ...] = ()
    gathers: tuple[Gathered, ...] = ()
    whole: Cost | None = None
    tiles: tuple[TileCost, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether tiles are equal to the whole."""
        return self.problem is None

    @property
    def summary(self) -> str:
        """The card in one line."""
        if self.problem is not None:
            return f"not equal to the whole: {self.problem}"
        waits = f", where tiles wait for one another {len(self.gathers)} times" if self.gathers else ""
        return f"equal to the whole by bl.tile{waits}; total stride {sizes(self.total_stride)} pixels"

    @property
    def context(self) -> tuple[Interval, ...]:
        """The number of pixels to cut before and after a tile by hand: the margins rounded up to the total stride."""
        pairs = zip(self.margins, self.total_stride, strict=True) if self.margins else ()
        return tuple((ceil_div(before, step) * step, ceil_div(after, step) * step) for (before, after), step in pairs)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as numbers, texts, lists and dicts, as JSON takes it."""
        costs = [{"tile": one.tile, **_numbers_of(one.carried), "macs_alone": one.macs_alone} for one in self.tiles]
        return {
            **{key: value for key, value in asdict(self).items() if key not in ("whole", "tiles")},
            "exact": self.exact,
            "context": self.context,
            "whole": None if self.whole is None else _numbers_of(self.whole),
            "tiles": costs,
        }

    def __str__(self) -> str:
        lines = [f"{self.model} on tiles of an image of {sizes(self.size)} pixels under its {self.border} border", ""]
        if self.problem is not None:
            return "\n".join([*lines, f"exact           no: {self.problem}"])
        lines.append("exact           yes: bl.tile gives what the model gives for the whole image")
        if self.gathers:
            names = [one.module or "the model itself" for one in self.gathers]
            listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            lines.append(f"waits           tiles wait for one another where the model reads all of space: {listed}")
        if self.by_hand is not None:
            lines.append(f"by hand         no: {self.by_hand}")
        else:
            before, after = ([pair[i] for pair in self.margins] for i in (0, 1))
            cut = [sizes([pair[i] for pair in self.context]) for i in (0, 1)]
            lines += [
                f"by hand         tiles begin on multiples of {sizes(self.total_stride)} pixels",
                f"margins         {sizes(before)} pixels before and {sizes(after)} after a tile; "
                f"to cut: {cut[0]} and {cut[1]}",
            ]
        if self.whole is not None:
            lines += ["", *_table(self.whole, self.tiles)]
        return "\n".join(lines)


def tiling(
    model: nn.Module,
    size: Sequence[int],
    *,
    tiles: Sequence[int | Sequence[int]] | None = None,
    batch: int = 1,
    channels: int | None = None,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> Tiling:
    """Report whether and how `model` runs on tiles of an image, and their cost, before anything is computed.

    The model is called once with an image that has a size and no values, which takes about a second and no memory,
    whatever the size.

    Args:
        model: Any model, converted or not, in eval mode.
        size: Size of the image in pixels: (height, width), or one number for each spatial axis.
        tiles: Sizes to list, in pixels, one number or one for each axis. By default squares and strips of 128 to 2,048
            that are smaller than the image.
        batch: Number of images per batch.
        channels: Channels of the image; by default those of the model's first convolution.
        args: Further positional arguments of the model, after the image.
        kwargs: Keyword arguments of the model.

    Returns:
        The report; print it for a card.

    Raises:
        ConversionError: The number of channels is unknown, or the model takes other arguments.

    Example:
        >>> import torch, borderless as bl
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 4, stride=2, padding=1), torch.nn.Conv2d(4, 1, 3)).eval()
        >>> found = bl.tiling(model, (4096, 4096))
        >>> found.exact, found.total_stride, found.margins
        (True, (2, 2), ((1, 5), (1, 5)))
    """
    size = tuple(int(n) for n in size)
    border = border_of(model)
    card = Tiling(type(model).__name__, "original" if border is None else " × ".join(border.names), size)
    channels = input_channels(model) if channels is None else channels
    try:
        recording = record(model, (batch, channels, *size), args, kwargs)
    except (SignalError, UnsupportedOperation) as error:
        return replace(card, problem=str(error))
    gathers = tuple(Gathered(call.module, call.operation) for call in recording.calls if call.gathers)
    by_hand = _why_not_by_hand(recording)
    axes = range(len(size))
    chosen = _default_tiles(size) if tiles is None else [_per_axis(one, len(size)) for one in tiles]
    return replace(
        card,
        by_hand=by_hand,
        total_stride=tuple(total_stride(recording, axis) for axis in axes),
        margins=() if by_hand is not None else tuple(margins(recording, axis) for axis in axes),
        gathers=gathers,
        whole=whole_cost(recording),
        tiles=tuple(
            TileCost(tile, tile_cost(recording, tile), None if gathers else parts_cost(recording, tile).macs)
            for tile in chosen
        ),
    )


def _why_not_by_hand(recording: Recording) -> str | None:
    for call in recording.calls:
        where = f"{call.operation} in " + (f"module {call.module!r}" if call.module else "the model itself")
        operations = [o.operation if isinstance(o, OnMirrored) else o for o in call.operations]
        if call.gathers:
            return f"{where} reads all of space"
        if any(isinstance(o, Resize) for o in operations):
            return f"{where} weighs cells by their position in the image"
        mirrors = [o.mode for o in call.operations if isinstance(o, Mirror | OnMirrored)]
        if "circular" in mirrors:
            return f"{where} reads the other end of the image"
    return None if recording.outputs else "the model returns no feature map"


def _default_tiles(size: tuple[int, ...]) -> list[tuple[int, ...]]:
    steps = [step for step in _TILES if step < max(size)]
    cubes = [tuple(min(step, n) for n in size) for step in steps]
    strips = [(step, *size[1:]) for step in steps if step < size[0]] if len(size) > 1 else []
    return [*cubes, *strips]


def _per_axis(tile: int | Sequence[int], count: int) -> tuple[int, ...]:
    return (tile,) * count if isinstance(tile, int) else tuple(tile)


def _numbers_of(cost: Cost) -> dict[str, int]:
    return {**fields_of(cost), "memory": cost.memory}


def _table(whole: Cost, tiles: Sequence[TileCost]) -> list[str]:
    columns = ("tile", "multiply-adds", "memory", "of it waiting", "multiply-adds, tiles alone")
    rows = [("whole", count(whole.macs), f"{count(whole.memory)}B", "", "")]
    for one in tiles:
        alone = "" if one.macs_alone is None else _relative(one.macs_alone, whole.macs)
        waiting = f"{count(one.carried.waiting)}B" if one.carried.waiting else ""
        memory = f"{count(one.carried.memory)}B"
        rows.append((sizes(one.tile), _relative(one.carried.macs, whole.macs), memory, waiting, alone))
    used = [i for i in range(len(columns)) if any(row[i] for row in rows)]
    widths = {i: max(len(row[i]) for row in [columns, *rows]) for i in used}
    return [
        "  ".join(row[i].ljust(widths[i]) if i == 0 else row[i].rjust(widths[i]) for i in used).rstrip()
        for row in [columns, *rows]
    ]


def _relative(number: int, whole: int) -> str:
    return f"{number / whole:.2f} ×" if whole else "0"
