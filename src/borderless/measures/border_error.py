"""How far from the border, and how strongly, does a model's every map differ from the map that no border has touched?

The model runs twice on the same images: under its own padding (or the border that it was converted to), and under
`infinite`, whose maps are those of an endless image. What differs is the border's doing and nothing else's: the images,
the weights and the grid are the same. The same two passes tell which filters answer to the border as such, after
Garcia-Gasulla et al. (Padding Aware Neurons, ICCV workshops 2023).

Shapes: images (N, C, H, W); a layer's map (rows, columns); distances count cells from the nearest edge, 0 at the edge.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from borderless.borders import Border
from borderless.convert import Conversion, attached, check_convertible, conversion_of
from borderless.errors import ImageError
from borderless.geometry import Box, intersection
from borderless.measures.images import batches
from borderless.modes import measured
from borderless.scope import Event

# Above this share of a map's own variation, a cell counts as touched by the border.
TOUCHED = 0.01
# A filter answers to a side of the border if its answers there and inside overlap by less than half (KS distance).
AWARE = 0.5
# Of one side of a map, or of its inside: how many answers of a filter are compared, and how few are too few.
_MOST_ANSWERS, _FEWEST_CELLS = 512, 5


@dataclass(frozen=True)
class LayerBorderError:
    """What the border does to the map of one sliding operation.

    map: for each cell, the difference from the map without a border (root mean square over images and channels),
    relative to how much that map varies over cells and images. by_distance: the same for all cells of a distance, in
    cells. stride_px, field_px: step between cells and receptive field, in pixels. aware: how many of the filters of a
    convolution answer to a side of the border as such; None where it cannot be told.
    """

    module: str
    operation: str
    map: np.ndarray
    by_distance: np.ndarray
    stride_px: float
    field_px: float
    filters: int
    aware: int | None

    @property
    def at_edge(self) -> float:
        return float(self.by_distance[0])

    def leak_px(self, above: float = TOUCHED) -> float:
        """How many pixels from the edge the difference still exceeds `above`; 0 if it nowhere does."""
        touched = np.flatnonzero(self.by_distance > above)
        return float((touched[-1] + 1) * self.stride_px) if len(touched) else 0.0

    @property
    def is_touched_throughout(self) -> bool:
        """Whether no distance is left that the border does not reach, so that the leak may be deeper than the map."""
        return bool(self.by_distance[-1] > TOUCHED)


@dataclass(frozen=True)
class BorderError:
    """layers: in the order in which they run. images: how many were looked at."""

    layers: tuple[LayerBorderError, ...]
    images: int

    @property
    def leak_px(self) -> float:
        return max((layer.leak_px() for layer in self.layers), default=0.0)

    @property
    def largest(self) -> float:
        return max((float(layer.map.max()) for layer in self.layers), default=0.0)

    @property
    def aware_share(self) -> float | None:
        """Of the filters for which it can be told, the share that answer to the border as such."""
        told = [layer for layer in self.layers if layer.aware is not None]
        filters = sum(layer.filters for layer in told)
        return sum(layer.aware or 0 for layer in told) / filters if filters else None


def border_error(
    model: nn.Module,
    images: Any,
    *,
    background: float | tuple[float, ...] = 0.0,
    batch_size: int = 8,
    seed: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> BorderError:
    """The border's part in the map of every convolution and pool of `model`.

    images: a tensor (N, C, H, W), or a data set of images or of (image, label) pairs. background: what surrounds them
    without a border, in input units. seed: of the cells that filters are judged by. The model runs in eval mode and is
    left as it was. Raises ImageError for images that do not fit, and what the conversion to `infinite` raises.

    >>> import torch, borderless as bl
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Conv2d(4, 4, 3, padding=1))
    >>> found = border_error(model, torch.rand(2, 1, 8, 8))
    >>> [layer.leak_px() for layer in found.layers]
    [0.0, 1.0]
    """
    check_convertible(model)
    own = conversion_of(model)
    with_border = Border("zero") if own is None else own.border
    phase = with_border.phase
    without = Border("infinite", phase=phase, background=background)
    layers: list[_Layer] = []
    seen = 0
    draw = torch.Generator().manual_seed(seed)
    with measured(model):
        for batch, _ in batches(images, batch_size, model):
            _compare(model, batch, (with_border, without), layers, draw)
            seen += len(batch)
            if progress is not None:
                progress(seen, len(images))
    return BorderError(tuple(layer.result() for layer in layers), seen)


def _compare(
    model: nn.Module, images: Tensor, borders: tuple[Border, Border], layers: "list[_Layer]", draw: torch.Generator
) -> None:
    """Add one batch to the sums of each layer; the layers come up in the first batch."""
    with_border, without = borders
    maps: list[tuple[str, Tensor, Box]] = []
    # Copies, because the model may go on to change a map in place.
    _run(model, images, with_border, lambda event, cells, box: maps.append((event.module, cells.clone(), box)))
    compared = 0

    def compare(event: Event, without_border: Tensor, box: Box) -> None:
        nonlocal compared
        if compared == len(maps) or maps[compared][0] != event.module:
            raise _differs(model, with_border, without, event.module)
        _, cells, own_box = maps[compared]
        maps[compared] = (event.module, cells[:0], own_box)  # let its memory go
        if compared == len(layers):
            layers.append(_layer(event))
        layers[compared].add(cells, own_box, without_border, box, draw)
        compared += 1

    _run(model, images, without, compare)
    if compared != len(maps):
        raise _differs(model, with_border, without, maps[compared][0])


def _run(model: nn.Module, images: Tensor, border: Border, take: Callable[[Event, Tensor, Box], Any]) -> None:
    """Each sliding operation's map, as far as it lies in its frame, and where that is."""

    def each(event: Event) -> None:
        if event.signal is not None and len(event.signal.axes) == 2:
            box = intersection([event.signal.box, event.signal.frame_box])
            take(event, event.signal.read(box), box)

    with attached(model, Conversion(border, observer=each)):
        model(images)


def _differs(model: nn.Module, one: Border, other: Border, module: str) -> ImageError:
    return ImageError(
        f"got other operations from {type(model).__name__} under {one!r} than under {other!r}, from module {module!r} "
        "on; needed: a model that runs the same way twice"
    )


@dataclass
class _Layer:
    """Sums over batches. Each is (rows, columns) of the frame, or one number a channel."""

    module: str
    operation: str
    frame: tuple[int, ...]
    stride_px: float
    field_px: float
    difference: Tensor
    samples: int = 0
    total: Any = 0.0
    squares: Any = 0.0
    values: int = 0
    answers: "_Answers" = field(default_factory=lambda: _Answers())

    def add(self, one: Tensor, one_box: Box, other: Tensor, other_box: Box, draw: torch.Generator) -> None:
        box = intersection([one_box, other_box])
        one, other = _cut(one, one_box, box), _cut(other, other_box, box)
        rows, columns = (slice(a, b) for a, b in box)
        self.difference[rows, columns] += (one.double() - other.double()).square().mean(1).sum(0).cpu()
        self.samples += len(one)
        self.total = self.total + other.double().sum((0, 2, 3)).cpu()
        self.squares = self.squares + other.double().square().sum((0, 2, 3)).cpu()
        self.values += other.numel() // other.shape[1]
        if "conv" in self.operation:
            self.answers.add(one, other, draw)

    def result(self) -> LayerBorderError:
        mean = self.total / self.values
        variation = float((self.squares / self.values - mean.square()).clamp(min=0).mean().sqrt())
        difference = (self.difference / self.samples).sqrt().numpy()
        # A map that does not vary at all has nothing to be compared with: any difference is then without bounds.
        relative = difference / variation if variation > 0 else np.where(difference > 0, np.inf, 0.0)
        distance = distances(self.frame)
        rings = [relative[distance == d] for d in range(int(distance.max()) + 1)]
        return LayerBorderError(
            module=self.module,
            operation=self.operation,
            map=relative,
            by_distance=np.array([np.sqrt(np.mean(ring**2)) for ring in rings]),
            stride_px=self.stride_px,
            field_px=self.field_px,
            filters=len(mean),
            aware=self.answers.aware(),
        )


def _layer(event: Event) -> _Layer:
    signal = event.signal
    assert signal is not None
    return _Layer(
        event.module,
        event.operation.rpartition(".")[2],
        signal.frame,
        float(max(signal.lattice.stride)),
        float(max(signal.field)),
        torch.zeros(signal.frame, dtype=torch.float64),
    )


def distances(frame: tuple[int, ...]) -> np.ndarray:
    """How many cells each cell of a map is from the nearest edge: 0 at the edge."""
    rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in frame)
    return np.minimum(rows[:, None], columns[None, :])


def _cut(cells: Tensor, have: Box, wanted: Box) -> Tensor:
    rows, columns = (slice(a - first, b - first) for (first, _), (a, b) in zip(have, wanted, strict=True))
    return cells[:, :, rows, columns]


class _Answers:
    """A convolution's answers at the four sides and inside, with the border and without: (channels, answers) each."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], list[Tensor]] = {}
        self.is_too_small = False

    def add(self, with_border: Tensor, without: Tensor, draw: torch.Generator) -> None:
        if min(with_border.shape[2:]) < _FEWEST_CELLS:
            self.is_too_small = True
            return
        for name, cells in (("with", with_border), ("without", without)):
            parts = {
                "top": cells[:, :, 0, 1:-1],
                "bottom": cells[:, :, -1, 1:-1],
                "left": cells[:, :, 1:-1, 0],
                "right": cells[:, :, 1:-1, -1],
                "inside": cells[:, :, 1:-1, 1:-1],
            }
            for part, found in parts.items():
                flat = found.transpose(0, 1).flatten(1).cpu()
                chosen = torch.randint(flat.shape[1], (min(_MOST_ANSWERS, flat.shape[1]),), generator=draw)
                self.kept.setdefault((name, part), []).append(flat[:, chosen].float())

    def aware(self) -> int | None:
        """Filters that one side sets apart from the inside, where without a border it would not."""
        if self.is_too_small or not self.kept:
            return None
        kept = {key: _thinned(torch.cat(parts, 1)) for key, parts in self.kept.items()}
        is_aware = torch.zeros(len(kept["with", "inside"]), dtype=torch.bool)
        for side in ("top", "bottom", "left", "right"):
            apart, control = (
                ks_distance(kept[name, side], kept[name, "inside"]) >= AWARE for name in ("with", "without")
            )
            is_aware |= apart & ~control
        return int(is_aware.sum())


def _thinned(answers: Tensor) -> Tensor:
    """Evenly, so that every batch stays in."""
    return answers[:, :: -(-answers.shape[1] // _MOST_ANSWERS)]


def ks_distance(one: Tensor, other: Tensor) -> Tensor:
    """Kolmogorov and Smirnov's distance between the two samples of each row: (rows, n), (rows, m) to (rows,).

    >>> ks_distance(torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0, 3.0, 4.0]]))
    tensor([1.])
    """
    points, _ = torch.cat([one, other], 1).sort(1)
    below = [
        torch.searchsorted(sample.sort(1).values.contiguous(), points.contiguous(), right=True) / sample.shape[1]
        for sample in (one, other)
    ]
    return (below[0] - below[1]).abs().amax(1)
