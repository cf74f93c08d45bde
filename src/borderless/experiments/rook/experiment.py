"""Rook: one 5 × 5 filter and a global max pool distinguish upper left from lower right, on images of one rook.

The set-up of Kayhan and van Gemert (CVPR 2020, figure 1): convolution without a bias, ReLU, global max pool,
Linear(1, 2); SGD with rate 0.1 and momentum 0.9, one image per step, 100 epochs. With zero-padded same convolution the
filter learns a part of the rook whose response the border crops in one of the two corners. Under full convolution both
images have the same set of responses, and nothing can be learned.

Shapes: images 2 × 1 × 32 × 32; the history of a training has one entry before it and one after each epoch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from borderless.conversion import convert, convert_
from borderless.data import rook
from borderless.experiments.experiment import Cell
from borderless.experiments.rook import RookConfig
from borderless.models.location import RookNet
from borderless.runtime.arrays import save_arrays
from borderless.runtime.evaluation import one_thread, seeded

# Two features whose relative difference is below this are told apart by rounding alone.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Moment:
    """The filter (5, 5), both feature maps (2, rows, columns), frame index of their first cell, loss, accuracy."""

    filter: np.ndarray
    maps: np.ndarray
    start: tuple[int, ...]
    loss: float
    accuracy: float


def run_cell(config: RookConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train once; the whole history goes to history.npz, its last entry into the metrics."""
    with one_thread():
        moments = list(training(config, cell.parameters["border"], cell.parameters["seed"]))
    names = ("filter", "maps", "loss", "accuracy")
    history = {name: np.array([getattr(m, name) for m in moments], np.float32) for name in names}
    save_arrays(folder / "history.npz", start=np.array(moments[0].start), **history)
    last = moments[-1]
    maxima = [float(m.max()) for m in last.maps]
    return {
        "accuracy": last.accuracy,
        "loss": last.loss,
        "feature_maxima": maxima,
        "features_equal": abs(maxima[0] - maxima[1]) <= ROUNDING * max(maxima),
        # With both features 0 no gradient reaches the filter any more.
        "dead": max(maxima) == 0,
        "learned_after_epochs": _learned_after([moment.accuracy for moment in moments]),
    }


def training(config: RookConfig, border: str, seed: int) -> Iterator[Moment]:
    """Train, and yield each moment: before the training, then after each epoch."""
    with seeded(seed):
        model = convert(RookNet(), border)  # pyright: ignore[reportArgumentType]
    # In place, so that it shares the filter that is being trained.
    maps_of = convert_(nn.Sequential(model.convolution, nn.ReLU()), border, output="signal")  # pyright: ignore[reportArgumentType]
    images, labels = rook.images(config.margin), rook.labels()
    optimizer = torch.optim.SGD(model.parameters(), lr=config.learning_rate, momentum=config.momentum)
    yield _moment(model, maps_of, images, labels)
    for _ in range(config.epochs):
        for i in range(len(images)):
            optimizer.zero_grad()
            F.cross_entropy(model(images[i : i + 1]), labels[i : i + 1]).backward()
            optimizer.step()
        yield _moment(model, maps_of, images, labels)


def _moment(model: RookNet, maps_of: nn.Module, images: Tensor, labels: Tensor) -> Moment:
    with torch.no_grad():
        logits = model(images)
        maps: Any = maps_of(images)
    return Moment(
        filter=model.convolution.weight[0, 0].detach().clone().numpy(),
        maps=maps.window[:, 0].numpy(),
        start=maps.start,
        loss=F.cross_entropy(logits, labels).item(),
        accuracy=(logits.argmax(1) == labels).float().mean().item(),
    )


def _learned_after(accuracies: list[float]) -> int | None:
    """Return the epoch from which on both images are always right; None if they are not at the end."""
    wrong = [epoch for epoch, accuracy in enumerate(accuracies) if accuracy < 1]
    last = wrong[-1] if wrong else -1
    return None if last == len(accuracies) - 1 else last + 1
