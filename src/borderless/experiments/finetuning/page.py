"""The page of `finetune`: accuracy in the middle and at the edge, before fine-tuning and after."""

from pathlib import Path
from typing import Any

import numpy as np

from borderless.experiments.arms import ARMS, look, mean_in_words
from borderless.experiments.runner import Result
from borderless.report import Figure, Section, Table, plots

OWN = "own"


def section(arch: str, arms: tuple[str, ...], reach: int | None, results: list[Result], folder: Path) -> Section:
    values = {
        key: [100 * float(r.metrics[key]) for r in results] for key in results[0].metrics if not key.endswith(" cost")
    }
    costs = {arm: float(results[0].metrics[f"{arm} cost"]) for arm in arms}
    return Section(
        title="Fine-tuned under another border",
        text=_story(arch, arms, values),
        figures=[_dots(folder / "finetune.png", arch, arms, values)],
        tables=[_table(arch, arms, reach, values, costs)],
    )


def _story(arch: str, arms: tuple[str, ...], values: dict[str, list[float]]) -> list[str]:
    text = [
        f"{arch} with pretrained weights learns to tell photographs by tiles of them, which stand in the middle of an "
        "empty canvas, under its own padding. From these weights every arm goes on for as long again: under its own "
        "padding, or converted. Then the same test tiles stand at the edge of the canvas, where none stood in "
        "training.",
        "A network that was trained with zeros around its maps counts on them: converted, it sees what emptiness "
        "answers in their place, and is worth less until it is fine-tuned.",
    ]
    converted = [arm for arm in arms if ARMS[arm].border is not None]
    if OWN in arms and converted:
        text.append(
            "Against own padding, seed by seed: "
            + "; ".join(
                f"{ARMS[arm].title} {_difference(values, arm, 'middle')} points in the middle and "
                f"{_difference(values, arm, 'edges')} at the edge, where {np.mean(values[f'{arm} changed']):.1f} % of "
                f"its answers are not those of the middle (own padding: {np.mean(values[f'{OWN} changed']):.1f} %)"
                for arm in converted
            )
            + "."
        )
    return text


def _difference(values: dict[str, list[float]], arm: str, key: str) -> str:
    return mean_in_words(np.subtract(values[f"{arm} {key}"], values[f"{OWN} {key}"]).tolist(), "+")


# Where the tile stands; what marks it, and whether that is filled.
PLACES = {
    "middle": ("o", True, "in the middle"),
    "edges": ("s", False, "at the edge"),
    "worst": ("|", False, "worst edge"),
}


def _mark(marker: str, is_filled: bool, colour: str) -> dict[str, Any]:
    return {
        "marker": marker,
        "color": colour,
        "markerfacecolor": colour if is_filled else "none",
        "linestyle": "none",
    }


def _dots(path: Path, arch: str, arms: tuple[str, ...], values: dict[str, list[float]]) -> Figure:
    """A line an arm and moment: the middle on one end, the worst edge on the other; smaller, below, the seeds."""
    seeds = len(next(iter(values.values())))
    rows = [(arm, moment) for arm in arms for moment in ("before ", "")]
    fig, axes = plots.new_figure(panel_size=(0.42 * len(rows) + 1.0, 7.0))
    ax = axes[0, 0]
    for y, (arm, moment) in enumerate(rows):
        colour = look(arm)["color"]
        means = [np.mean(values[f"{arm} {moment}{key}"]) for key in PLACES]
        ax.plot([min(means), max(means)], [y, y], color=colour, linewidth=2, alpha=0.4, zorder=1)
        for mean, (key, (marker, is_filled, _)) in zip(means, PLACES.items(), strict=True):
            style = _mark(marker, is_filled, colour)
            ax.plot(mean, y, markersize=8, **style)
            if seeds > 1:
                ax.plot(values[f"{arm} {moment}{key}"], [y + 0.24] * seeds, markersize=3.5, **style)
    labels = {"before ": "before", "": "after"}
    ax.set_yticks(range(len(rows)), [f"{ARMS[arm].title}, {labels[moment]}" for arm, moment in rows])
    ax.set(xlabel="test accuracy, %", xlim=(0, 102), ylim=(len(rows) - 0.5, -0.5))
    ax.grid(axis="x")
    for marker, is_filled, text in PLACES.values():
        ax.plot([], [], markersize=8, label=text, **_mark(marker, is_filled, "#4c4b47"))
    fig.legend(loc="outside lower center", ncols=len(PLACES))
    plots.save(fig, path)
    return Figure(
        path,
        f"{arch}: accuracy on test tiles before and after fine-tuning, with the tile in the middle of the canvas and "
        "at its edge, over eight places and at the worst of them"
        + ("; small, below: each seed." if seeds > 1 else "."),
        "; ".join(
            f"{ARMS[arm].title} {labels[moment]} fine-tuning: {np.mean(values[f'{arm} {moment}middle']):.0f} percent "
            f"in the middle, {np.mean(values[f'{arm} {moment}edges']):.0f} at the edge"
            for arm, moment in rows
        )
        + ".",
    )


def _table(
    arch: str, arms: tuple[str, ...], reach: int | None, values: dict[str, list[float]], costs: dict[str, float]
) -> Table:
    rows: list[list[str | int | float]] = []
    for arm in arms:
        for moment, label in (("before ", "before"), ("", "after")):
            cells = [mean_in_words(values[f"{arm} {moment}{key}"]) for key in ("middle", "edges", "worst", "changed")]
            rows.append([f"{ARMS[arm].title}, {label}", *cells, f"{costs[arm]:.1f}×"])
    seeds = len(next(iter(values.values())))
    bound = "" if reach is None else f" Maps of converted networks grow by {reach} cells at most."
    return Table(
        ["arm", "middle", "edge", "worst edge", "changed", "cost"],
        rows,
        f"{arch}: test accuracy in percent, mean over {seeds} "
        f"{'seeds ± half the 95 % interval (Student’s t)' if seeds > 1 else 'seed'}. Edge: the mean over eight places "
        "that touch the edge of the canvas. Changed: answers there that differ from the middle's. Cost: multiply-adds, "
        f"relative to own padding.{bound}",
    )
