"""The page of `actions`: frames of generated clips, training and validation curves as in the paper, and the table."""

from pathlib import Path

import numpy as np

from borderless.data.choices import MOTIONS
from borderless.data.motions import MEAN_GROUND, generated
from borderless.experiments import published
from borderless.experiments.actions import ARMS, ActionsConfig
from borderless.experiments.experiment import Result
from borderless.experiments.kit import by, cost, means, percents, texts, write_table
from borderless.report import Section, plots

PAPER = {"same": "S", "full": "F", "full-temporal": "F + temporal"}
COLUMNS = ["network", "arm", "test", "validation", "training", "cost", "paper: UCF101", "paper: HMDB51"]


def draw(config: ActionsConfig, results: list[Result], folder: Path) -> Section:
    """Draw the page."""
    write_table(results, folder)
    groups = by(results, "arch", "arm")
    training: dict[str, dict[str, list[float]]] = {arch: {} for arch in config.archs}
    gaps = {}
    for (arch, arm), group in groups.items():
        training[arch][ARMS[arm]] = percents(group, "training_accuracy")
        title = f"{arch}, {ARMS[arm]}" if len(config.archs) > 1 else ARMS[arm]
        gaps[title] = np.subtract(training[arch][ARMS[arm]], percents(group, "accuracy"))
    text = texts(__file__, config=config, gaps=gaps, training=training)
    figures = [] if config.data is not None else [text.figure("clips", _frames(folder / "clips.png"))]
    figures += [
        text.figure(f"curves {arch}", _curves(folder / f"curves-{arch}.png", arch, by(group, "arm")))
        for arch, group in by(results, "arch").items()
    ]
    rows = [_row(arch, arm, group) for (arch, arm), group in groups.items()]
    return text.section(figures, [text.table("accuracies", COLUMNS, means(rows))])


def _frames(path: Path) -> Path:
    example = generated(16, 8, 0).train
    fig, axes = plots.new_figure(len(MOTIONS), example.frames, panel_size=(0.62, 0.62))
    for row, motion in enumerate(MOTIONS):
        frames = example[row][0].permute(1, 2, 3, 0) + MEAN_GROUND
        for ax, frame in zip(axes[row], frames.clamp(0, 1).numpy(), strict=True):
            plots.picture(ax, frame)
        axes[row, 0].set_ylabel(motion, rotation=0, ha="right", va="center", fontsize=8)
    return plots.save(fig, path)


def _curves(path: Path, arch: str, groups: dict[str, list[Result]]) -> Path:
    fig, axes = plots.new_figure(1, 2, panel_size=(3.0, 4.0), sharey=True)
    for ax, name in zip(axes[0], ("training", "validation"), strict=True):
        for arm, group in groups.items():
            curves = [r.metrics[f"{name}_curve"] for r in group]
            length = min(map(len, curves))
            mean = 100 * np.mean([curve[:length] for curve in curves], axis=0)
            ax.plot(range(1, length + 1), mean, color=plots.marker_style(arm)["color"], label=ARMS[arm])
        plots.panel(ax, title=f"{arch}: {name}", xlabel="epoch")
    axes[0, 0].set_ylabel("accuracy, %")
    plots.legend_below(fig, axes[0, 0])
    return plots.save(fig, path)


def _row(arch: str, arm: str, group: list[Result]) -> list[str | list[float]]:
    keys = [(data, published.NETWORKS.get(arch, ""), PAPER.get(arm, "")) for data in ("UCF101", "HMDB51")]
    return [
        arch,
        ARMS[arm],
        *(percents(group, name) for name in ("accuracy", "validation_accuracy", "training_accuracy")),
        cost(group),
        *(published.ACTION_RECOGNITION.text(*key) for key in keys),
    ]
