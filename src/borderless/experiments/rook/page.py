"""The page of `rook`: the film of the training, its last picture, and the accuracy of every seed."""

from pathlib import Path
from typing import Any

import numpy as np

from borderless.experiments import published
from borderless.experiments.experiment import Result
from borderless.experiments.kit import by, percents, texts, write_table
from borderless.experiments.rook import RookConfig
from borderless.experiments.rook.film import film
from borderless.report import Section


def draw(config: RookConfig, results: list[Result], folder: Path) -> Section:
    """Draw the page."""
    write_table(results, folder, _columns)
    by_border = by(results, "border")
    made = film(config, by_border, folder)
    dead = [f"{r.cell.parameters['border']} seed {r.cell.parameters['seed']}" for r in results if r.metrics["dead"]]
    text = texts(__file__, epochs=config.epochs, film=made, dead=dead)
    seeds = [f"seed {seed}" for seed in range(config.seeds)]
    columns = ["border", *seeds, "mean", "paper", "difference of maxima"]
    table = text.table("accuracies", columns, [_row(border, group) for border, group in by_border.items()])
    return text.section([text.figure("film", made.animation), text.figure("last", made.last)], [table])


def _columns(metrics: dict[str, Any]) -> dict[str, Any]:
    upper_left, lower_right = metrics["feature_maxima"]
    maxima = {"feature_max_upper_left": upper_left, "feature_max_lower_right": lower_right}
    first, last = ("accuracy", "loss"), ("dead", "learned_after_epochs")
    return {**{key: metrics[key] for key in first}, **maxima, **{key: metrics[key] for key in last}}


def _row(border: str, group: list[Result]) -> list[str]:
    accuracies = percents(group, "accuracy")
    gap = max(abs(np.subtract(*r.metrics["feature_maxima"])) for r in group)
    return [
        border,
        *(f"{value:.0f}{' †' if r.metrics['dead'] else ''}" for value, r in zip(accuracies, group, strict=True)),
        f"{np.mean(accuracies):.1f} ± {np.std(accuracies):.1f}",
        published.ROOK.text(border),
        f"{gap:.2f}" if gap >= 0.005 else f"{gap:.0e}" if gap else "0",
    ]
