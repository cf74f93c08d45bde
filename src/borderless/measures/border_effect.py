"""How far from the border, and how strongly, does a model's every map differ from the map that no border has touched?

The model runs twice on the same images: under its own padding (or the border that it was converted to), and under
`infinite`, whose maps are those of an endless image. What differs is the border's doing and nothing else's: the images,
the weights and the grid are the same. The same two passes tell which filters answer to the border as such, after
Garcia-Gasulla et al. (Padding Aware Neurons, ICCV workshops 2023).

Shapes: images (N, C, H, W); a layer's map (rows, columns); distances count cells from the nearest edge, 0 at the edge.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from borderless.conversion import Conversion, attached, check_convertible, conversion_of
from borderless.engine.border import Border
from borderless.engine.events import Event
from borderless.engine.geometry import Box, intersection
from borderless.measures.batches import Batch, batches
from borderless.runtime.distributed import process_group
from borderless.runtime.evaluation import evaluating

# Above this share of a map's own variation, a cell counts as touched by the border.
TOUCHED = 0.01
# A filter answers to a side of the border if its answers there and inside overlap by less than half (KS distance).
AWARE = 0.5
# Of one side of a map, or of its inside: how many answers of a filter are compared a batch, of how many of the first
# images, and how few are too few.
_MOST_ANSWERS, _JUDGED_IMAGES, _FEWEST_ANSWERS, _FEWEST_CELLS = 128, 32, 30, 5


@dataclass(frozen=True)
class LayerBorderError:
    """What the border does to the map of one sliding operation.

    map: for each cell, the difference from the map without a border (root mean square over images and channels),
    relative to how much that map varies over cells and images; cells that the model's border does not keep count as
    equal. by_distance: the same for all cells of a distance, in cells. stride_px, field_px: step between cells and
    receptive field, in pixels, the larger of height and width. aware: how many of the filters of a convolution answer
    to a side of the border as such; None where it cannot be told.
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
        """How many pixels from the edge the difference still exceeds `above`, half the image at most; 0 if nowhere."""
        touched = np.flatnonzero(self.by_distance > above)
        return float(min(touched[-1] + 1, min(self.map.shape) / 2) * self.stride_px) if len(touched) else 0.0

    @property
    def is_touched_throughout(self) -> bool:
        """Whether the border reaches every cell, so that the leak may be deeper than the map."""
        return bool(self.map.min() > TOUCHED)


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
    workers: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> BorderError:
    """The border's part in the map of every convolution and pool of `model`.

    images: a tensor (N, C, H, W), or a data set of images or of (image, label) pairs, which `workers` processes load.
    background: what surrounds them without a border, in input units. seed: of the cells that filters are judged by.
    The model runs in eval mode and is left as it was. Under torchrun every process takes its share of the images, and
    all give the same result. Raises ImageError for images that do not fit, and what the conversion to `infinite`
    raises.

    >>> import torch, borderless as bl
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Conv2d(4, 4, 3, padding=1))
    >>> found = border_error(model, torch.rand(2, 1, 8, 8))
    >>> [layer.leak_px() for layer in found.layers]
    [0.0, 1.0]
    """
    check_convertible(model)
    own = conversion_of(model)
    # Both on the model's own lattice: another phase would be another leak.
    with_border = Border("zero") if own is None else replace(own.border, phase="fixed")
    without = Border("infinite", background=background)

    def compared() -> dict[_Key, _Layer]:
        layers: dict[_Key, _Layer] = {}
        seen = 0
        with evaluating(model):
            for batch in batches(images, batch_size, model, workers):
                is_judged = batch.start < _JUDGED_IMAGES
                draw = torch.Generator().manual_seed(1_000_003 * seed + batch.start) if is_judged else None
                _compare(model, batch, (with_border, without), layers, draw)
                seen += len(batch.images)
                if progress is not None:
                    progress(seen, len(images))
        return layers

    layers, *others = process_group().map(compared)
    for more in others:
        for key, layer in more.items():
            layers[key].merge(layer)
    return BorderError(tuple(layer.result() for layer in layers.values()), len(images))


# A module, and how often it has run before in the same pass.
_Key = tuple[str, int]


def _compare(
    model: nn.Module,
    batch: Batch,
    borders: tuple[Border, Border],
    layers: "dict[_Key, _Layer]",
    draw: torch.Generator | None,
) -> None:
    """Add one batch to the sums of each layer; the layers come up in the first batch. draw: of the cells that filters
    are judged by, if they are judged by this batch.

    An operation that runs under one border only, such as a pool over the whole frame, has nothing to be compared with.
    """
    maps: dict[_Key, tuple[Tensor, Box]] = {}

    def keep(key: _Key, _: Event, cells: Tensor, box: Box) -> None:
        maps[key] = (cells.clone(), box)  # a copy, because the model may go on to change a map in place

    def compare(key: _Key, event: Event, without_border: Tensor, box: Box) -> None:
        if key in maps:
            cells, own_box = maps.pop(key)
            if key not in layers:
                layers[key] = _layer(event)
            one, other = layers[key].add(cells, own_box, without_border, box)
            if draw is not None and "conv" in layers[key].operation:
                layers[key].answers.add(batch.start, one, other, draw)

    for border, take in zip(borders, (keep, compare), strict=True):
        _run(model, batch.images, border, take)


def _run(model: nn.Module, images: Tensor, border: Border, take: Callable[[_Key, Event, Tensor, Box], Any]) -> None:
    """Each sliding operation's map, as far as it lies in its frame, and where that is."""
    runs: Counter[str] = Counter()

    def each(event: Event) -> None:
        if event.signal is not None and len(event.signal.axes) == 2:
            box = intersection([event.signal.box, event.signal.frame_box])
            take((event.module, runs[event.module]), event, event.signal.read(box), box)
            runs[event.module] += 1

    with attached(model, Conversion(border, observer=each)):
        model(images.clone())


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

    def add(self, one: Tensor, one_box: Box, other: Tensor, other_box: Box) -> tuple[Tensor, Tensor]:
        """The sums grow by a batch of maps; returns the cells that both maps have."""
        box = intersection([one_box, other_box])
        one, other = _cut(one, one_box, box), _cut(other, other_box, box)
        rows, columns = (slice(a, b) for a, b in box)
        self.difference[rows, columns] += (one.double() - other.double()).square().mean(1).sum(0).cpu()
        self.samples += len(one)
        self.total = self.total + other.double().sum((0, 2, 3)).cpu()
        self.squares = self.squares + other.double().square().sum((0, 2, 3)).cpu()
        self.values += other.numel() // other.shape[1]
        return one, other

    def merge(self, other: "_Layer") -> None:
        """Take in what another process has summed."""
        self.difference += other.difference
        self.samples += other.samples
        self.total, self.squares = self.total + other.total, self.squares + other.squares
        self.values += other.values
        self.answers.merge(other.answers)

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
        float(max(field.width for field in signal.field)),
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
        self.kept: dict[tuple[str, str], dict[int, Tensor]] = {}
        self.is_too_small = False

    def add(self, start: int, with_border: Tensor, without: Tensor, draw: torch.Generator) -> None:
        """Some answers of the batch that begins with image `start`."""
        if min(with_border.shape[2:]) < _FEWEST_CELLS:
            self.is_too_small = True
            return
        for part, (rows, columns) in _PARTS.items():
            cells = [maps[:, :, rows, columns].transpose(0, 1).flatten(1) for maps in (with_border, without)]
            # The same cells of both, so that maps that are equal have equal answers.
            chosen = torch.randperm(cells[0].shape[1], generator=draw)[:_MOST_ANSWERS].to(cells[0].device)
            for name, flat in zip(("with", "without"), cells, strict=True):
                self.kept.setdefault((name, part), {})[start] = flat[:, chosen].float().cpu()

    def merge(self, other: "_Answers") -> None:
        self.is_too_small |= other.is_too_small
        for key, batches_of in other.kept.items():
            self.kept.setdefault(key, {}).update(batches_of)

    def aware(self) -> int | None:
        """Filters that one side sets apart from the inside, where without a border it would not."""
        if self.is_too_small or not self.kept:
            return None
        # In the order of the images, whichever process has seen them.
        kept = {key: torch.cat([found[start] for start in sorted(found)], 1) for key, found in self.kept.items()}
        if min(answers.shape[1] for answers in kept.values()) < _FEWEST_ANSWERS:
            return None
        is_aware = torch.zeros(len(kept["with", "inside"]), dtype=torch.bool)
        for side in ("top", "bottom", "left", "right"):
            apart, control = (
                ks_distance(kept[name, side], kept[name, "inside"]) >= AWARE for name in ("with", "without")
            )
            is_aware |= apart & ~control
        return int(is_aware.sum())


_INSIDE = slice(1, -1)
_PARTS: dict[str, tuple[Any, Any]] = {
    "top": (0, _INSIDE),
    "bottom": (-1, _INSIDE),
    "left": (_INSIDE, 0),
    "right": (_INSIDE, -1),
    "inside": (_INSIDE, _INSIDE),
}


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
