"""A small CNN learns digits that all stand in one corner. What has it learnt about digits that stand elsewhere?

Every training digit lies at row 0, column 0 of a 32 × 32 canvas; test digits stand at each of the 19 × 19 = 361 places.
Two things give a place away: the border, and the strides, which keep every fourth cell in the end and so see a digit
differently at the places between. The honest alternative, training at random places under the usual padding, is the
last arm.

Shapes: digits n × 14 × 14; images n × 1 × 32 × 32; predictions (place, digit); maps over places 19 × 19.
"""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from borderless.data.digits import CANVAS_PX, DIGIT_PX, Digits, load_digits, place_digits, split_digits
from borderless.experiments import arms, one_place_figures
from borderless.experiments.arms import Arm
from borderless.experiments.runner import Cell, ConfigError, Experiment, Result, write_table
from borderless.measures.intervals import over_seeds
from borderless.models.small import STRIDE_PX, TRAINED_AT, PlacedDigits, network, predict_everywhere, summarise
from borderless.report import Section, Table
from borderless.runtime.evaluation import one_thread
from borderless.training import Recipe, fit

RECIPE = Recipe(
    epochs=12, batch_size=32, optimizer="adamw", learning_rate=5e-3, weight_decay=0.01, schedule="linear", watch="loss"
)

SIDE = CANVAS_PX[0] - DIGIT_PX + 1
EVERYWHERE = "own-everywhere"
ARMS = {
    **{name: arms.ARMS[name] for name in ("own", "full", "infinite", "infinite-adaptive")},
    EVERYWHERE: Arm("own padding, trained everywhere"),
}


@dataclass(frozen=True)
class Config:
    """Settings of `one-place`."""

    seeds: int = 3
    """How many seeds (0, 1, …) of the split, the initial weights and the order; each arm is trained with each."""
    test_digits: int = 240
    """How many of the 360 test digits are tried at each place."""
    training: Recipe = field(default_factory=lambda: RECIPE)
    """How the network is trained."""

    def __post_init__(self) -> None:
        if self.seeds < 1 or not 1 <= self.test_digits <= 360:
            raise ConfigError(f"got {self}; needed: at least one seed, and 1 to 360 test digits")

    @classmethod
    def small(cls) -> "Config":
        return cls(seeds=1, test_digits=40, training=dataclasses.replace(RECIPE, epochs=6))


def cells(config: Config) -> list[Cell]:
    return [Cell(f"{arm}-seed{seed}", {"arm": arm, "seed": seed}) for seed in range(config.seeds) for arm in ARMS]


def run_cell(config: Config, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train one arm under its own border, then predict at every place; the predictions go to predictions.npz."""
    arm, seed = ARMS[cell.parameters["arm"]], cell.parameters["seed"]
    split = split_digits(load_digits(), seed)
    plain = network(seed)
    model = arm.of(plain)
    train, validation = (
        PlacedDigits(part, seed, everywhere=cell.parameters["arm"] == EVERYWHERE)
        for part in (split.train, split.validation)
    )
    with one_thread():
        history = fit(model, train, validation, config.training, folder, seed)
    test = Digits(split.test.images[: config.test_digits], split.test.labels[: config.test_digits])
    predictions = predict_everywhere(model, test.images)
    np.savez_compressed(
        folder / "predictions.npz", predictions=predictions.to(torch.uint8).numpy(), labels=test.labels.numpy()
    )
    return {
        **summarise(predictions, test.labels),
        "validation_accuracy": min(history, key=lambda epoch: epoch.validation_loss).validation_accuracy,
        "parameters": sum(p.numel() for p in model.parameters()),
        "cost": arm.explained(plain, CANVAS_PX).cost,
    }


def draw(config: Config, results: list[Result], folder: Path) -> Section:
    write_table(results, folder)
    groups = {name: [r for r in results if r.cell.parameters["arm"] == name] for name in ARMS}
    metrics = {name: [r.metrics for r in group] for name, group in groups.items()}
    return Section(
        title="Trained in one place",
        text=_story(metrics),
        figures=[
            one_place_figures.maps(
                folder / "one_place.png",
                place_digits(load_digits().images[3:4], TRAINED_AT)[0, 0].numpy(),
                {ARMS[name].title: 100 * _accuracy_map(group) for name, group in groups.items()},
                STRIDE_PX,
                _over_seeds(config),
            )
        ],
        tables=[_table(config, metrics)],
    )


def _accuracy_map(group: list[Result]) -> np.ndarray:
    """Accuracy at every place in [0, 1], mean over the group's seeds: 19 × 19."""
    at_place = []
    for result in group:
        with np.load(result.folder / "predictions.npz") as saved:
            at_place.append((saved["predictions"] == saved["labels"]).mean(1))
    return np.mean(at_place, axis=0).reshape(SIDE, SIDE)


def _story(metrics: dict[str, list[dict[str, Any]]]) -> list[str]:
    own, full, infinite, adaptive, everywhere = metrics.values()
    changed, tried = (sum(m[key] for m in adaptive) for key in ("changed_predictions", "predictions"))
    fixed, free = (_percent(arm, "where_trained") for arm in (infinite, adaptive))
    harder = (
        f" In the corner itself that is less than the {fixed} % of the fixed phase, whose training digits all share "
        "one set of samples, which is easier to learn."
        if float(free) < float(fixed)
        else ""
    )
    return [
        "Handwritten digits, 14 px high, stand on a canvas of 32 px. In training every digit stands in the upper left "
        f"corner. Then each test digit is shown at all {SIDE * SIDE} places. The network is small and ordinary: four "
        "convolutions with biases and BatchNorm, two of them with stride 2, a global average, ten classes. Each arm "
        "is trained under its own border, from the same initial weights and with the digits in the same order.",
        f"With its own zero padding the network is right on {_percent(own, 'where_trained')} % of the digits where it "
        f"was trained, on {_percent(own, 'mean')} % over all places, and on {_percent(own, 'min')} % at the worst. "
        "<em>Full</em> and <em>infinite</em> borders repair the places that are whole strides "
        f"({STRIDE_PX} px) away from the corner, the bright dots: {_percent(full, 'on_stride')} and "
        f"{_percent(infinite, 'on_stride')} % there, {_percent(full, 'off_stride')} and "
        f"{_percent(infinite, 'off_stride')} % between. One pixel further on, the strides keep other samples of a "
        "digit, which the network has never seen.",
        "With an <em>adaptive phase</em> each digit chooses which samples are kept, and takes its choice along "
        f"wherever it stands. Accuracy is {_percent(adaptive, 'min')} % at the worst place and "
        f"{_percent(adaptive, 'max')} % at the best; of {tried:,} predictions, {changed:,} differ from the same "
        f"digit's in the corner.{harder}",
        "The honest alternative is to keep the usual padding and to show digits everywhere in training. On a canvas "
        f"small enough to show all of it this works: {_percent(everywhere, 'mean')} % on average and "
        f"{_percent(everywhere, 'min')} % at the worst place, at no extra cost. But it promises nothing for a single "
        f"digit: {_share(everywhere)} % of the predictions differ from those in the corner.",
    ]


def _percent(metrics: list[dict[str, Any]], key: str) -> str:
    return f"{100 * np.mean([m[f'accuracy_{key}'] for m in metrics]):.1f}"


def _share(metrics: list[dict[str, Any]]) -> str:
    """Predictions that differ from the same digit's in the corner, in percent."""
    changed, tried = (sum(m[key] for m in metrics) for key in ("changed_predictions", "predictions"))
    return f"{100 * changed / tried:.2g}" if changed else "0"


def _over_seeds(config: Config) -> str:
    return f"Means over {config.seeds} seeds" if config.seeds > 1 else "One seed"


def _table(config: Config, metrics: dict[str, list[dict[str, Any]]]) -> Table:
    rows: list[list[str | int | float]] = []
    for name, group in metrics.items():
        row: list[str | int | float] = [ARMS[name].title]
        for key in ("where_trained", "mean", "min", "max", "on_stride", "off_stride"):
            half = over_seeds([100 * m[f"accuracy_{key}"] for m in group])
            row.append(_percent(group, key) + ("" if half is None else f" ± {half:.1f}"))
        rows.append([*row, _share(group), f"{group[0]['cost']:.1f}×"])
    spread = ", ± half the 95 % interval of the mean (Student's t over seeds)" if config.seeds > 1 else ""
    return Table(
        ["arm", "in the corner", "mean", "worst place", "best place", "whole strides", "between", "changed", "cost"],
        rows,
        f"Accuracy in percent on {config.test_digits} test digits over {SIDE * SIDE} places. {_over_seeds(config)}"
        f"{spread}. Whole strides: places at multiples of {STRIDE_PX} px. Changed: predictions that differ from the "
        "same digit's in the corner, in percent. Cost: multiply-adds, relative to own padding.",
    )


EXPERIMENT = Experiment(
    name="one-place",
    title="Trained in one place",
    summary="A CNN trained on digits in one corner, tested at every place.",
    Config=Config,
    cells=cells,
    run_cell=run_cell,
    draw=draw,
)
