"""Red left of green, or green left of red? A network that is shown the two in different halves answers by the half.

The set-up of Kayhan and van Gemert (CVPR 2020), Red-Green: four 3 × 3 convolutions (strides 1, 2, 2, 2) without a bias,
global max pooling, two classes; Adadelta, batches of 200, at most 50 epochs. Tested where place agrees with training
(similar) and where it contradicts it (dissimilar). Halves are two total strides apart, so a border that gives nothing
away answers to both in the same way, image by image.

Shapes: images n × 3 × 32 × 32; predictions (test set, image).
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import borderless as bl
from borderless.data.red_green import PROTOCOLS, Protocol, Split, red_green
from borderless.engine.border import BORDERS
from borderless.experiments import published, red_green_figures
from borderless.experiments.runner import Cell, ConfigError, Experiment, Result, write_table
from borderless.report import Section, Table
from borderless.runtime.evaluation import seeded
from borderless.training import Recipe, fit

# What "patience 8" comes to in the public code: training stops with the ninth epoch that is not better.
RECIPE = Recipe(
    epochs=50,
    batch_size=200,
    optimizer="adadelta",
    learning_rate=1.0,
    weight_decay=5e-5,
    schedule="constant",
    stops_after=9,
    watch="loss",
    shuffles=False,
)


@dataclass(frozen=True)
class Config:
    """Settings of `red-green`; the defaults are the paper's, but for the protocol."""

    borders: tuple[str, ...] = BORDERS
    """Borders to train under."""
    seeds: int = 10
    """How many seeds (0, 1, …) of the initial weights, and of the images in the clean protocol."""
    protocol: Protocol = "clean"
    """clean: no scene is in two splits. published: all splits begin with the same scenes, as in the paper's code."""
    training: Recipe = field(default_factory=lambda: RECIPE)
    """How each network is trained."""

    def __post_init__(self) -> None:
        if self.seeds < 1 or not self.borders or len(set(self.borders)) < len(self.borders):
            raise ConfigError(f"got {self.seeds} seeds and the borders {self.borders}; needed: one at least, each once")
        unknown = [border for border in self.borders if border not in BORDERS]
        if unknown or self.protocol not in PROTOCOLS:
            raise ConfigError(
                f"got borders={self.borders}, protocol={self.protocol!r}; borders are {', '.join(BORDERS)}; protocols "
                f"are {', '.join(PROTOCOLS)}"
            )

    @classmethod
    def small(cls) -> "Config":
        return cls(borders=("zero", "full"), seeds=1, training=dataclasses.replace(RECIPE, epochs=6))


class RedGreenNet(nn.Module):
    """Logits n × 2 for images of any size; the receptive field is 17 pixels, the total stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(32, 32, 3, stride=2, padding=1, bias=False)
        self.conv3 = nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False)
        self.conv4 = nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False)
        self.classifier = nn.Linear(64, 2)
        self.pool = nn.AdaptiveMaxPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            images = F.relu(convolution(images))
        return self.classifier(self.pool(images).flatten(1))


def cells(config: Config) -> list[Cell]:
    return [
        Cell(f"{border}-seed{seed}", {"border": border, "seed": seed})
        for seed in range(config.seeds)
        for border in config.borders
    ]


def run_cell(config: Config, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train once. The predictions on both test sets go to predictions.npz."""
    border, seed = cell.parameters["border"], cell.parameters["seed"]
    data = red_green(seed, config.protocol)
    with seeded(seed):
        model = bl.convert(RedGreenNet(), border)
    history = fit(model, _dataset(data.train), _dataset(data.validation), config.training, folder, seed)
    predictions = {name: _predictions(model, getattr(data, name)) for name in ("similar", "dissimilar")}
    np.savez_compressed(
        folder / "predictions.npz", similar=predictions["similar"], dissimilar=predictions["dissimilar"]
    )
    right = {name: float((found == data.similar.labels.numpy()).mean()) for name, found in predictions.items()}
    return {
        **right,
        "changed": int((predictions["similar"] != predictions["dissimilar"]).sum()),
        "training_accuracy": history[-1].accuracy,
        "validation_accuracy": max(epoch.validation_accuracy for epoch in history),
        "epochs": len(history),
    }


def _dataset(split: Split) -> TensorDataset:
    return TensorDataset(split.images, split.labels)


@torch.no_grad()
def _predictions(model: nn.Module, split: Split) -> np.ndarray:
    return torch.cat([model(images).argmax(1) for images in split.images.split(200)]).to(torch.uint8).numpy()


def draw(config: Config, results: list[Result], folder: Path) -> Section:
    write_table(results, folder)
    metrics = {
        border: [r.metrics for r in results if r.cell.parameters["border"] == border] for border in config.borders
    }
    return Section(
        title="Red and green: the order, or the place?",
        text=_story(config, metrics),
        figures=[
            red_green_figures.sets(folder / "sets.png", red_green(0, config.protocol)),
            red_green_figures.accuracies(folder / "red_green.png", metrics),
        ],
        tables=[_table(config, metrics)],
    )


def _story(config: Config, metrics: dict[str, list[dict[str, Any]]]) -> list[str]:
    blind = [border for border, group in metrics.items() if not sum(m["changed"] for m in group)]
    reading = [border for border, group in metrics.items() if _mean(group, "dissimilar") < 0.5 and border not in blind]
    text = [
        "Which is on the left, red or green? In training, red stands left of green in the upper half of the image and "
        "green left of red in the lower half. So there are two ways to be right: by the order of the colours, or by "
        "the half. The dissimilar test set holds the test images with the halves swapped: only the order is right.",
    ]
    if reading:
        text.append(
            f"Below 50 % on swapped halves, and so answering by the half: {_listed(reading)}. These networks "
            "have convolutions and a global max pool alone; the border tells them where things are."
        )
    if blind:
        text.append(
            f"Under {_listed(blind)} every single prediction is the same in both halves: what is learnt there is the "
            "order."
        )
    if config.protocol == "published":
        text.append(
            "This is the protocol of the paper's code, in which validation and similar test images are the first 1,000 "
            "training images; <code>--protocol clean</code> draws them apart."
        )
    return text


def _listed(borders: list[str]) -> str:
    return ", ".join(f"<em>{border}</em>" for border in borders)


def _mean(group: list[dict[str, Any]], key: str) -> float:
    return float(np.mean([m[key] for m in group]))


def _table(config: Config, metrics: dict[str, list[dict[str, Any]]]) -> Table:
    rows: list[list[str | int | float]] = []
    for border, group in metrics.items():
        row: list[str | int | float] = [border]
        for name in ("similar", "dissimilar"):
            values = [100 * m[name] for m in group]
            spread = f" ± {np.std(values):.1f}" if len(values) > 1 else ""
            row += [f"{np.mean(values):.1f}{spread}", published.RED_GREEN.text(border, name)]
        rows.append([*row, sum(m["changed"] for m in group), f"{np.mean([m['epochs'] for m in group]):.0f}"])
    return Table(
        ["border", "similar", "paper", "dissimilar", "paper", "predictions that change", "epochs"],
        rows,
        f"Accuracy in percent on 1,000 images each, mean ± standard deviation over {config.seeds} "
        f"{'seeds' if config.seeds > 1 else 'seed'}, protocol {config.protocol}; beside it the paper's "
        f"({published.RED_GREEN.source}). Predictions that change between the two sets: of {1000 * config.seeds:,}.",
    )


EXPERIMENT = Experiment(
    name="red-green",
    title="Red and green: the order, or the place?",
    summary="Two coloured squares whose order a network should learn, and whose place gives the answer away.",
    Config=Config,
    cells=cells,
    run_cell=run_cell,
    draw=draw,
)
