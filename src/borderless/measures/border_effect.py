"""Border effect: how strongly, and how far from the border, the border changes each feature map of a model.

The model runs twice on the same images: under its original padding (or the border it was converted to), and under
`infinite`, whose feature maps are those of an unlimited image. Images, weights and grid are the same, so every
difference comes from the border.

Shapes: images (N, C, H, W); a layer's feature map (rows, columns); distances count cells from the nearest edge, 0 at
the edge.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
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

# Above this share of a feature map's own variation, a cell counts as touched by the border.
TOUCHED = 0.01


@dataclass(frozen=True)
class LayerEffect:
    """Effect of the border on the feature map of one sliding operation.

    Attributes:
        module: Name of the module, "" for the model itself.
        operation: Name of the torch function.
        map: Per cell, the difference from the feature map without a border (root mean square over images and
            channels), divided by the standard deviation of that feature map over cells and images. Cells that the
            model's border does not keep count as equal.
        by_distance: The same for all cells at each distance from the edge, in cells.
        stride_px: Step between cells in pixels, the larger of height and width.
        field_px: Receptive field in pixels, the larger of height and width.
    """

    module: str
    operation: str
    map: np.ndarray
    by_distance: np.ndarray
    stride_px: float
    field_px: float

    @property
    def at_edge(self) -> float:
        """The relative difference in the cells at the edge."""
        return float(self.by_distance[0])

    def leak_px(self, above: float = TOUCHED) -> float:
        """Return up to how many pixels from the edge the difference exceeds `above`: half the image at most, or 0."""
        touched = np.flatnonzero(self.by_distance > above)
        return float(min(touched[-1] + 1, min(self.map.shape) / 2) * self.stride_px) if len(touched) else 0.0

    @property
    def is_touched_throughout(self) -> bool:
        """Whether the border changes every cell, so that the effect may be deeper than the feature map."""
        return bool(self.map.min() > TOUCHED)


@dataclass(frozen=True)
class BorderEffect:
    """Effect of the border on every feature map of a model.

    Attributes:
        layers: The layers in the order in which they run.
        images: Number of images that were used.
    """

    layers: tuple[LayerEffect, ...]
    images: int

    @property
    def leak_px(self) -> float:
        """The largest distance from the edge, in pixels, at which the border changes a map by more than `TOUCHED`."""
        return max((layer.leak_px() for layer in self.layers), default=0.0)

    @property
    def largest(self) -> float:
        """The largest relative difference of any cell."""
        return max((float(layer.map.max()) for layer in self.layers), default=0.0)


def border_error(
    model: nn.Module,
    images: Any,
    *,
    background: float | tuple[float, ...] = 0.0,
    batch_size: int = 8,
    workers: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> BorderEffect:
    """Measure the border's effect on the feature map of every convolution and pool of `model`.

    The model runs in eval mode and is left as it was. Under torchrun every process takes its share of the images, and
    all return the same result.

    Args:
        model: Any model that can be converted, or that is converted already.
        images: A tensor (N, C, H, W), or a data set of images or of (image, label) pairs.
        background: Value around the images without a border, in input units.
        batch_size: Images per pass.
        workers: Processes that load the images of a data set.
        progress: Called with the number of images that are done, and their total.

    Raises:
        ImageError: The images do not fit.
        BorderlessError: The model cannot run under `infinite`.

    Example:
        >>> import torch, borderless as bl
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Conv2d(4, 4, 3, padding=1))
        >>> found = border_error(model, torch.rand(2, 1, 8, 8))
        >>> [layer.leak_px() for layer in found.layers]
        [0.0, 1.0]
    """
    check_convertible(model)
    own = conversion_of(model)
    # Both on the model's own lattice: another phase would be another difference.
    with_border = Border("zero") if own is None else replace(own.border, phase="fixed")
    without = Border("infinite", background=background)

    def compare_share() -> dict[_Key, _LayerSums]:
        layers: dict[_Key, _LayerSums] = {}
        seen = 0
        with evaluating(model):
            for batch in batches(images, batch_size, model, workers):
                _compare(model, batch, (with_border, without), layers)
                seen += len(batch.images)
                if progress is not None:
                    progress(seen, len(images))
        return layers

    layers, *others = process_group().map(compare_share)
    for more in others:
        for key, layer in more.items():
            layers[key].merge(layer)
    return BorderEffect(tuple(layer.result() for layer in layers.values()), len(images))


# A module, and how often it has run before in the same pass.
_Key = tuple[str, int]


def _compare(
    model: nn.Module,
    batch: Batch,
    borders: tuple[Border, Border],
    layers: "dict[_Key, _LayerSums]",
) -> None:
    """Add one batch to the sums of each layer; the first batch adds the layers.

    An operation that runs under one border only, such as a pool over the whole frame, has nothing to be compared with.
    """
    maps: dict[_Key, tuple[Tensor, Box]] = {}

    def keep(key: _Key, _: Event, cells: Tensor, box: Box) -> None:
        maps[key] = (cells.clone(), box)  # a copy, because the model may go on to change a map in place

    def compare(key: _Key, event: Event, without_border: Tensor, box: Box) -> None:
        if key in maps:
            cells, own_box = maps.pop(key)
            if key not in layers:
                layers[key] = _new_sums(event)
            layers[key].add(cells, own_box, without_border, box)

    for border, take in zip(borders, (keep, compare), strict=True):
        _run(model, batch.images, border, take)


def _run(model: nn.Module, images: Tensor, border: Border, take: Callable[[_Key, Event, Tensor, Box], Any]) -> None:
    """Call `take` with each sliding operation's feature map inside its frame, and with the box of that."""
    runs: Counter[str] = Counter()

    def each(event: Event) -> None:
        if event.signal is not None and len(event.signal.axes) == 2:
            box = intersection([event.signal.box, event.signal.frame_box])
            take((event.module, runs[event.module]), event, event.signal.read(box), box)
            runs[event.module] += 1

    with attached(model, Conversion(border, observer=each)):
        model(images.clone())


@dataclass
class _LayerSums:
    """Sums over batches. Each is (rows, columns) of the frame, or one number per channel."""

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

    def add(self, one: Tensor, one_box: Box, other: Tensor, other_box: Box) -> None:
        """Add the cells that both feature maps of a batch have to the sums."""
        box = intersection([one_box, other_box])
        one, other = _cut(one, one_box, box), _cut(other, other_box, box)
        rows, columns = (slice(a, b) for a, b in box)
        self.difference[rows, columns] += (one.double() - other.double()).square().mean(1).sum(0).cpu()
        self.samples += len(one)
        self.total = self.total + other.double().sum((0, 2, 3)).cpu()
        self.squares = self.squares + other.double().square().sum((0, 2, 3)).cpu()
        self.values += other.numel() // other.shape[1]

    def merge(self, other: "_LayerSums") -> None:
        """Add what another process has summed."""
        self.difference += other.difference
        self.samples += other.samples
        self.total, self.squares = self.total + other.total, self.squares + other.squares
        self.values += other.values

    def result(self) -> LayerEffect:
        """Return the layer's effect from the sums."""
        mean = self.total / self.values
        variation = float((self.squares / self.values - mean.square()).clamp(min=0).mean().sqrt())
        difference = (self.difference / self.samples).sqrt().numpy()
        # A map that does not vary at all has nothing to be compared with: any difference is then without bounds.
        relative = difference / variation if variation > 0 else np.where(difference > 0, np.inf, 0.0)
        distance = distances(self.frame)
        rings = [relative[distance == d] for d in range(int(distance.max()) + 1)]
        return LayerEffect(
            module=self.module,
            operation=self.operation,
            map=relative,
            by_distance=np.array([np.sqrt(np.mean(ring**2)) for ring in rings]),
            stride_px=self.stride_px,
            field_px=self.field_px,
        )


def _new_sums(event: Event) -> _LayerSums:
    signal = event.signal
    assert signal is not None
    return _LayerSums(
        event.module,
        event.operation.rpartition(".")[2],
        signal.frame,
        float(max(signal.lattice.stride)),
        float(max(field.width for field in signal.field)),
        torch.zeros(signal.frame, dtype=torch.float64),
    )


def distances(frame: tuple[int, ...]) -> np.ndarray:
    """Return how many cells each cell of a feature map (rows, columns) is from the nearest edge: 0 at the edge."""
    rows, columns = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in frame)
    return np.minimum(rows[:, None], columns[None, :])


def _cut(cells: Tensor, have: Box, wanted: Box) -> Tensor:
    rows, columns = (slice(a - first, b - first) for (first, _), (a, b) in zip(have, wanted, strict=True))
    return cells[:, :, rows, columns]
