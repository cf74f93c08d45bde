"""The page of `actions`: frames of generated clips, training and validation curves as in the paper, and the table."""

from pathlib import Path
from typing import Any

import numpy as np

from borderless.data.motions import MEAN_GROUND, MOTIONS
from borderless.experiments import published
from borderless.experiments.arms import mean_in_words
from borderless.experiments.runner import Result
from borderless.report import Figure, Section, Table, plots

COLOURS = {
    "same": "#c43c2a",
    "full": "#2878b5",
    "full-temporal": "#0f4c81",
    "infinite": "#16805a",
    "infinite-adaptive": "#8457a8",
}
PAPER = {"same": "S", "full": "F", "full-temporal": "F + temporal"}
PAPER_NAMES = {"resnet3d18": "ResNet-18", "resnet3d34": "ResNet-34", "resnet3d50": "ResNet-50"}


def section(
    archs: tuple[str, ...], titles: dict[str, str], example: Any, results: list[Result], folder: Path
) -> Section:
    by_arch = {
        arch: {
            arm: [r.metrics for r in results if (r.cell.parameters["arch"], r.cell.parameters["arm"]) == (arch, arm)]
            for arm in titles
        }
        for arch in archs
    }
    pictures = [] if example is None else [_frames(folder / "clips.png", example)]
    pictures += [_curves(folder / f"curves-{arch}.png", arch, groups, titles) for arch, groups in by_arch.items()]
    gaps = {
        (f"{arch}, {title}" if len(archs) > 1 else title): 100
        * np.mean([m["training_accuracy"] - m["accuracy"] for m in groups[arm]])
        for arch, groups in by_arch.items()
        for arm, title in titles.items()
    }
    return Section(
        title="What happens in a clip?",
        text=[
            "Networks over space and time, trained from scratch on few clips, over-fit. The paper finds that they do "
            "so less with full convolution: lower accuracy in training, higher in the test.",
            "Training minus test accuracy here, in points: "
            + "; ".join(f"{title} {gap:.1f}" for title, gap in gaps.items())
            + ".",
        ],
        figures=pictures,
        tables=[_table(by_arch, titles)],
    )


def _frames(path: Path, example: Any) -> Figure:
    frames = example.frames
    fig, axes = plots.new_figure(len(MOTIONS), frames, panel_size=(0.62, 0.62))
    for row, motion in enumerate(MOTIONS):
        clip, _ = example[row]
        for column in range(frames):
            ax = axes[row, column]
            ax.imshow((clip[:, column].permute(1, 2, 0) + MEAN_GROUND).clamp(0, 1).numpy(), interpolation="nearest")
            plots.bare(ax)
        axes[row, 0].set_ylabel(motion, rotation=0, ha="right", va="center", fontsize=8)
    plots.save(fig, path)
    return Figure(
        path,
        "Generated clips, one of each class: what the patch does is the class, not how it looks or where it is.",
        f"{len(MOTIONS)} rows of small frames, each showing a coloured patch that moves, turns, grows or shrinks.",
    )


def _curves(path: Path, arch: str, groups: dict[str, list[dict[str, Any]]], titles: dict[str, str]) -> Figure:
    fig, axes = plots.new_figure(1, 2, panel_size=(3.0, 4.0), sharey=True)
    for ax, name, title in zip(axes[0], ("training", "validation"), ("training", "validation"), strict=True):
        for arm, group in groups.items():
            length = min(len(m[f"{name}_curve"]) for m in group)
            curve = 100 * np.mean([m[f"{name}_curve"][:length] for m in group], axis=0)
            ax.plot(range(1, length + 1), curve, color=COLOURS[arm], label=titles[arm])
        ax.set(title=f"{arch}: {title}", xlabel="epoch")
        ax.grid(axis="y")
    axes[0, 0].set_ylabel("accuracy, %")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    plots.save(fig, path)
    ends = {titles[arm]: 100 * np.mean([m["training_accuracy"] for m in group]) for arm, group in groups.items()}
    return Figure(
        path,
        f"{arch}: accuracy on the training clips on the fly, and on the validation clips, epoch by epoch.",
        "Training accuracy at the end: "
        + ", ".join(f"{title} {value:.0f} percent" for title, value in ends.items())
        + ".",
    )


def _table(by_arch: dict[str, dict[str, list[dict[str, Any]]]], titles: dict[str, str]) -> Table:
    rows: list[list[str | int | float]] = []
    for arch, groups in by_arch.items():
        for arm, group in groups.items():
            keys = [(data, PAPER_NAMES.get(arch, ""), PAPER.get(arm, "")) for data in ("UCF101", "HMDB51")]
            rows.append(
                [
                    arch,
                    titles[arm],
                    *(
                        mean_in_words([100 * m[name] for m in group])
                        for name in ("accuracy", "validation_accuracy", "training_accuracy")
                    ),
                    f"{group[0]['cost']:.1f}×",
                    *(published.ACTION_RECOGNITION.text(*key) for key in keys),
                ]
            )
    seeds = len(next(iter(next(iter(by_arch.values())).values())))
    return Table(
        ["network", "arm", "test", "validation", "training", "cost", "paper: UCF101", "paper: HMDB51"],
        rows,
        f"Accuracy in percent, mean over {seeds} "
        f"{'seeds ± half the 95 % interval (Student’s t)' if seeds > 1 else 'seed'}: of test videos, by the mean over "
        f"their clips; the best on validation clips; on training clips in the last epoch. Cost: multiply-adds a clip, "
        f"relative to same convolution's. Paper: "
        f"{published.ACTION_RECOGNITION.source}.",
    )
