"""Can one 5 × 5 filter and a global max pool tell upper left from lower right? Two images with one identical rook.

The set-up of Kayhan and van Gemert (CVPR 2020, figure 1): convolution without a bias, ReLU, global max pool,
Linear(1, 2); SGD with rate 0.1 and momentum 0.9, one image a step, 100 epochs. With zero-padded same convolution the
filter learns a part of the rook whose response the border crops in one of the two corners. Under full convolution both
images have the same set of responses, and nothing can be learnt.

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

import borderless as bl
from borderless.data import rook
from borderless.engine.border import BORDERS
from borderless.experiments import published, rook_film
from borderless.experiments.runner import Cell, ConfigError, Experiment, Result
from borderless.report import Section, Table
from borderless.runtime.evaluation import one_thread, seeded
from borderless.runtime.files import write_csv

# Two features whose relative difference is below this are told apart by rounding alone.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Config:
    """Settings of `rook`; the defaults are the paper's."""

    borders: tuple[str, ...] = BORDERS
    """Borders to train under."""
    seeds: int = 5
    """How many seeds (0, 1, …) of the initial weights, one training each."""
    epochs: int = 100
    """Passes over the two images."""
    learning_rate: float = 0.1
    """Step size of SGD."""
    momentum: float = 0.9
    """Momentum of SGD."""
    margin: int = 0
    """Pixels between the rook and the two edges of its corner; from 2 on, zero padding has nothing to read."""

    def __post_init__(self) -> None:
        if self.seeds < 1 or not self.borders:
            raise ConfigError(f"got {self.seeds} seeds and the borders {self.borders}; needed: one of each at least")
        if not 0 <= self.margin <= rook.LARGEST_MARGIN:
            raise ConfigError(
                f"got margin={self.margin}; the frame leaves 0 to {rook.LARGEST_MARGIN} px; choose one of these"
            )

    @classmethod
    def small(cls) -> "Config":
        return cls(borders=("valid", "zero", "circular", "full", "infinite"), seeds=3)


class RookNet(nn.Module):
    """One filter, its largest response anywhere, two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 5, padding=2, bias=False)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.classifier = nn.Linear(1, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.pool(F.relu(self.convolution(images))).flatten(1))


@dataclass(frozen=True)
class Moment:
    """The filter (5, 5), both images' maps (2, rows, columns), the frame index of their first cell, loss, accuracy."""

    filter: np.ndarray
    maps: np.ndarray
    start: tuple[int, ...]
    loss: float
    accuracy: float


def cells(config: Config) -> list[Cell]:
    return [
        Cell(f"{border}-seed{seed}", {"border": border, "seed": seed})
        for border in config.borders
        for seed in range(config.seeds)
    ]


def run_cell(config: Config, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train once. The whole history goes to history.npz, what is left at the end into the metrics."""
    with one_thread():
        moments = list(training(config, cell.parameters["border"], cell.parameters["seed"]))
    arrays = {
        name: np.array([getattr(moment, name) for moment in moments], np.float32)
        for name in ("filter", "maps", "loss", "accuracy")
    }
    np.savez_compressed(folder / "history.npz", allow_pickle=False, start=np.array(moments[0].start), **arrays)
    last = moments[-1]
    maxima = [float(m.max()) for m in last.maps]
    return {
        "accuracy": last.accuracy,
        "loss": last.loss,
        "feature_maxima": maxima,
        "features_equal": abs(maxima[0] - maxima[1]) <= ROUNDING * max(maxima),
        # With both features 0 no gradient reaches the filter any more.
        "dead": max(maxima) == 0,
        "learnt_after_epochs": _learnt_after([moment.accuracy for moment in moments]),
    }


def training(config: Config, border: str, seed: int) -> Iterator[Moment]:
    """The training, moment by moment: before it, then after each epoch."""
    with seeded(seed):
        model = bl.convert(RookNet(), border)  # type: ignore[arg-type]
    # In place, so that it shares the filter that is being trained.
    maps_of = bl.convert_(nn.Sequential(model.convolution, nn.ReLU()), border, output="signal")  # type: ignore[arg-type]
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


def _learnt_after(accuracies: list[float]) -> int | None:
    """The epoch from which on both images are always right; None if they are not at the end."""
    wrong = [epoch for epoch, accuracy in enumerate(accuracies) if accuracy < 1]
    last = wrong[-1] if wrong else -1
    return None if last == len(accuracies) - 1 else last + 1


def draw(config: Config, results: list[Result], folder: Path) -> Section:
    by_border = {border: [r for r in results if r.cell.parameters["border"] == border] for border in config.borders}
    write_csv(
        folder / "table.csv",
        [
            "border",
            "seed",
            "accuracy",
            "loss",
            "feature_max_upper_left",
            "feature_max_lower_right",
            "dead",
            "learnt_after_epochs",
        ],
        [
            [
                border,
                r.cell.parameters["seed"],
                r.metrics["accuracy"],
                r.metrics["loss"],
                *r.metrics["feature_maxima"],
                r.metrics["dead"],
                r.metrics["learnt_after_epochs"],
            ]
            for border, group in by_border.items()
            for r in group
        ],
    )
    dead = [f"{r.cell.parameters['border']} seed {r.cell.parameters['seed']}" for r in results if r.metrics["dead"]]
    return Section(
        title="The rook: location from one filter",
        text=[
            "Two images, 32 × 32, with one and the same rook: upper left is class 1, lower right class 2. The "
            "network has a single 5 × 5 filter without a bias, a ReLU, "
            "a global max pool and two outputs. The pool forgets where a response was, so the classes should be "
            "impossible to tell apart.",
            "With the usual zero padding they can. The filter learns a part of the rook whose response falls "
            "outside the frame in one of the two corners. There the border "
            "crops it, and the largest response that is left differs between two images that hold the same object.",
            "With <em>full</em> or <em>infinite</em> borders nothing is cropped. Both images have the same largest "
            "response, and the network can only guess: 50 %.",
            "The background is 0, the value with which <em>zero</em> and <em>full</em> pad, and there is no bias. "
            "So here the two leave the same things outside and differ only in what they keep.",
        ],
        figures=rook_film.draw(config, by_border, folder),
        tables=[_table(config, by_border, dead)],
    )


def _table(config: Config, by_border: dict[str, list[Result]], dead: list[str]) -> Table:
    rows = []
    for border, group in by_border.items():
        accuracies = [100 * r.metrics["accuracy"] for r in group]
        gap = max(abs(r.metrics["feature_maxima"][0] - r.metrics["feature_maxima"][1]) for r in group)
        rows.append(
            [
                border,
                *(f"{100 * r.metrics['accuracy']:.0f}{' †' if r.metrics['dead'] else ''}" for r in group),
                f"{np.mean(accuracies):.1f} ± {np.std(accuracies):.1f}",
                published.ROOK.text(border),
                f"{gap:.2f}" if gap >= 0.005 else f"{gap:.0e}" if gap else "0",
            ]
        )
    caption = (
        f"Accuracy in percent after {config.epochs} epochs, for each seed, its mean and standard deviation; the "
        f"paper's number ({published.ROOK.source}); "
        "and the largest difference between the two images' strongest responses."
    )
    if dead:
        caption += (
            " † The ReLU died: the filter no longer answers to either image, so nothing more can be learnt "
            f"({'; '.join(dead)})."
        )
    return Table(
        ["border", *(f"seed {seed}" for seed in range(config.seeds)), "mean", "paper", "difference of maxima"],
        rows,
        caption,
    )


EXPERIMENT = Experiment(
    name="rook",
    title="The rook: location from one filter",
    summary="One filter and a global max pool learn where a rook stands, unless the border is full or infinite.",
    Config=Config,
    cells=cells,
    run_cell=run_cell,
    draw=draw,
)
