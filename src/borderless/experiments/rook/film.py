"""The rook's training as a film, after the one in the paper's blog post."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from borderless.data import rook
from borderless.data.drawings import ROOK_IMAGE_PX
from borderless.experiments.experiment import Result
from borderless.experiments.kit import arrays
from borderless.experiments.rook import RookConfig
from borderless.report import plots

# Compared side by side, where the run has them.
SHOWN = ("zero", "full")
NAMES = {"zero": "zero (same)"}
FRAME_MS, LAST_FRAME_MS = 160, 4000
FILM_DPI = 1.5 * plots.PAGE_DPI
SHOW = (-4, -4, ROOK_IMAGE_PX[0] + 4, ROOK_IMAGE_PX[1] + 4)


@dataclass(frozen=True)
class FilmFiles:
    """The film and its last picture, their borders and seed, and the final accuracies."""

    animation: Path
    last: Path
    seed: int
    accuracies: dict[str, float]


def film(config: RookConfig, by_border: dict[str, list[Result]], folder: Path) -> FilmFiles:
    """Draw the training for the first seed that learns under `zero` (else the first)."""
    borders = [border for border in SHOWN if border in by_border] or list(by_border)[:2]
    outcomes = by_border[borders[0]]
    best = next((i for i, r in enumerate(outcomes) if r.metrics["learned_after_epochs"] is not None), 0)
    histories = {border: arrays(by_border[border][best], "history.npz") for border in borders}
    epochs = sorted({*range(0, min(20, config.epochs), 2), *range(20, config.epochs, 8), config.epochs})
    panels = _Panels(config, histories)
    panels.show(0)
    plots.to_image(panels.fig)
    # Every picture has the first one's layout: nothing jumps, and finding it again would take longer than drawing.
    panels.fig.set_layout_engine("none")
    pictures = []
    for epoch in epochs:
        panels.show(epoch)
        pictures.append(plots.to_image(panels.fig, FILM_DPI))
    plots.save_animation(pictures, folder / "rook.gif", FRAME_MS, LAST_FRAME_MS)
    return FilmFiles(
        folder / "rook.gif",
        plots.save(panels.fig, folder / "rook.png"),
        outcomes[best].cell.parameters["seed"],
        {NAMES.get(border, border): float(history["accuracy"][-1]) for border, history in histories.items()},
    )


class _Panels:
    """One matplotlib figure whose contents `show` sets to an epoch: drawing anew for each would take minutes."""

    def __init__(self, config: RookConfig, histories: dict[str, dict[str, np.ndarray]]) -> None:
        self.histories = histories
        self.fig, axes = plots.new_figure(len(histories) + 1, 4, (2.25, 2.3))
        self.maps: dict[str, list[Any]] = {}
        self.filters: dict[str, Any] = {}
        self.labels: dict[str, list[Any]] = {}
        images = rook.images(config.margin)[:, 0].numpy()
        self.lines = [*self._curves(axes[0, 0], "loss", 1), *self._curves(axes[0, 1], "accuracy", 100)]
        for i, ax in enumerate(axes[0, 2:]):
            plots.feature_map(ax, images[i], vmin=0, vmax=1, show=SHOW, title=f"class {i + 1}: {rook.CLASSES[i]}")
        for row, (border, history) in enumerate(histories.items(), start=1):
            start = tuple(history["start"].astype(int))
            self.filters[border] = plots.feature_map(
                axes[row, 1], history["filter"][0], cmap=plots.DIVERGING, title="filter", cells=True
            )
            self.maps[border] = [
                plots.feature_map(axes[row, 2 + i], history["maps"][0, i], start=start, frame=ROOK_IMAGE_PX, show=SHOW)
                for i in range(2)
            ]
            self.labels[border] = [axes[row, 2 + i].set_xlabel("maximum 0.000") for i in range(2)]
            for i in range(2):
                axes[row, 2 + i].set_title(f"map of class {i + 1}")
            self._name(axes[row, 0], border)

    def _curves(self, ax: Any, name: str, scale: float) -> list[tuple[Any, np.ndarray]]:
        """Return a line per border with its values, of which `show` draws the first."""
        curves = {border: scale * history[name] for border, history in self.histories.items()}
        top = 108 if name == "accuracy" else 1.08 * max(values.max() for values in curves.values())
        epochs, title = len(next(iter(curves.values()))) - 1, "accuracy, %" if name == "accuracy" else name
        plots.panel(ax, title=title, xlim=(0, epochs), ylim=(-0.04 * top, top), xlabel="epoch")
        return [(ax.plot([], [], color=plots.BORDER_COLORS[border])[0], values) for border, values in curves.items()]

    def _name(self, ax: Any, border: str) -> None:
        plots.bare(ax)
        middle: dict[str, Any] = {"ha": "center", "va": "center", "transform": ax.transAxes}
        ax.text(0.5, 0.62, NAMES.get(border, border), fontsize=13, color=plots.BORDER_COLORS[border], **middle)
        label = ax.text(0.5, 0.4, "", fontsize=9.5, linespacing=1.5, **middle)
        self.labels[border].append(label)

    def show(self, epoch: int) -> None:
        """Set every panel to an epoch."""
        for line, values in self.lines:
            line.set_data(range(epoch + 1), values[: epoch + 1])
        for border, history in self.histories.items():
            maps, weights = history["maps"][epoch], history["filter"][epoch]
            largest = np.abs(weights).max()
            self.filters[border].set(data=weights, clim=(-largest, largest))
            for i, image in enumerate(self.maps[border]):
                # A dead filter's maps are 0 everywhere; any positive scale then shows black.
                image.set(data=maps[i], clim=(0, max(maps.max(), 1e-12)))
                self.labels[border][i].set_text(f"maximum {maps[i].max():.3f}")
            self.labels[border][2].set_text(f"epoch {epoch}\naccuracy {100 * history['accuracy'][epoch]:.0f} %")
