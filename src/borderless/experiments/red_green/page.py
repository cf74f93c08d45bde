"""The page of `red-green`: its three sets of images, and the accuracies under every border."""

from pathlib import Path

import numpy as np

from borderless.data.red_green import SIZE_PX, Scenes, red_green
from borderless.experiments import published
from borderless.experiments.experiment import Result
from borderless.experiments.kit import by, percents, texts, values, write_table
from borderless.experiments.red_green import RedGreenConfig
from borderless.report import Section, plots

EXAMPLES = 4
CLASSES = ("class 1: red left of green", "class 2: green left of red")
SETS = {"similar": "position agrees with training", "dissimilar": "position contradicts training"}
COLUMNS = ["border", "similar", "paper", "dissimilar", "paper", "predictions that change", "epochs"]


def draw(config: RedGreenConfig, results: list[Result], folder: Path) -> Section:
    """Draw the page."""
    write_table(results, folder)
    groups = by(results, "border")
    accuracies = {border: {name: percents(group, name) for name in SETS} for border, group in groups.items()}
    changed = {border: sum(values(group, "changed")) for border, group in groups.items()}
    text = texts(__file__, config=config, accuracies=accuracies, changed=changed)
    rows = []
    for border, group in groups.items():
        row: list[str | int] = [border]
        for name, found in accuracies[border].items():
            spread = f" ± {np.std(found):.1f}" if len(found) > 1 else ""
            row += [f"{np.mean(found):.1f}{spread}", published.RED_GREEN.text(border, name)]
        rows.append([*row, int(changed[border]), f"{np.mean(values(group, 'epochs')):.0f}"])
    sets = text.figure("sets", _sets(folder / "sets.png", config))
    dots = text.figure("accuracies", _accuracies(folder / "red_green.png", accuracies))
    return text.section([sets, dots], [text.table("accuracies", COLUMNS, rows)])


def _sets(path: Path, config: RedGreenConfig) -> Path:
    """Draw some images of each class (rows) from training and from both test sets."""
    data = red_green(0, config.protocol)
    shown = {"training": data.train, "test, similar": data.similar, "test, dissimilar": data.dissimilar}
    fig, axes = plots.new_figure(2, len(shown), panel_size=(1.05, 3.3))
    for column, (title, split) in enumerate(shown.items()):
        for label in (0, 1):
            plots.picture(axes[label, column], _strip(split, label))
        axes[0, column].set_title(title)
    for ax, name in zip(axes[:, 0], CLASSES, strict=True):
        ax.set_ylabel(name.replace(": ", "\n"), fontsize=8)
    return plots.save(fig, path)


def _strip(split: Scenes, label: int) -> np.ndarray:
    """Return images side by side, with a white line between them: (32, width, 3)."""
    images = split.images[split.labels == label][:EXAMPLES].permute(0, 2, 3, 1).numpy()
    line = np.ones((SIZE_PX, 1, 3))
    parts = [part for image in images for part in (image, line)]
    return np.concatenate(parts[:-1], axis=1)


def _accuracies(path: Path, accuracies: dict[str, dict[str, list[float]]]) -> Path:
    """Draw each training as a dot, left where position agrees with training, right where it contradicts it."""
    fig, axes = plots.new_figure(1, 2, panel_size=(2.9, 4.1), sharey=True)
    for ax, (name, title) in zip(axes[0], SETS.items(), strict=True):
        ax.axhline(50, color=plots.PAPER_GRAY, linewidth=0.8, linestyle=(0, (4, 3)))
        for at, (border, found) in enumerate(accuracies.items()):
            beside = np.linspace(-0.16, 0.16, len(found[name])) if len(found[name]) > 1 else np.zeros(1)
            color, marker = plots.BORDER_COLORS[border], plots.BORDER_MARKERS[border]
            style = {"color": color, "marker": marker, "markersize": 4.5, "alpha": 0.75, "markeredgewidth": 0}
            ax.plot(at + beside, found[name], linestyle="none", **style)
            for paper in published.RED_GREEN.points([(border, name)]).values():
                ax.plot([at - 0.36, at + 0.36], [paper] * 2, color=plots.INK, linewidth=1.2, solid_capstyle="butt")
        plots.panel(ax, title=title, ylim=(-4, 104), xlim=(-0.6, len(accuracies) - 0.4))
        ax.set_xticks(range(len(accuracies)), list(accuracies), rotation=35, ha="right")
    axes[0, 0].set_ylabel("test accuracy, %")
    axes[0, 0].plot([], [], color=plots.INK, linewidth=1.2, label="the paper's mean")
    axes[0, 0].legend(loc="lower left")
    return plots.save(fig, path)
