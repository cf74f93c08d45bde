"""The rook's training as a film, after the one in the paper's blog post: images, filter, maps, loss, accuracy."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from borderless.data import rook
from borderless.report import Figure, plots
from borderless.runtime.files import write_atomically

if TYPE_CHECKING:
    from borderless.experiments.rook import Config
    from borderless.experiments.runner import Result

# Compared side by side, where the run has them.
SHOWN = ("zero", "full")
NAMES = {"zero": "zero (same)"}
FRAME_MS, LAST_FRAME_MS = 160, 4000
FILM_DPI = 1.5 * plots.PAGE_DPI
SHOW = (-4, -4, rook.SIZE[0] + 4, rook.SIZE[1] + 4)


def draw(config: "Config", by_border: dict[str, list["Result"]], folder: Path) -> list[Figure]:
    """The film and its last picture, for the first seed that learns under `zero` (else the first)."""
    borders = [border for border in SHOWN if border in by_border] or list(by_border)[:2]
    outcomes = by_border[borders[0]]
    best = next((i for i, r in enumerate(outcomes) if r.metrics["learnt_after_epochs"] is not None), 0)
    histories = {border: dict(np.load(by_border[border][best].folder / "history.npz")) for border in borders}
    seed = outcomes[best].cell.parameters["seed"]
    film = _Film(config, histories)
    epochs = sorted({*range(0, min(20, config.epochs)), *range(20, config.epochs, 8), config.epochs})
    film.show(0)
    plots.to_image(film.fig)
    # Every picture has the first one's layout: nothing jumps, and finding it again would take longer than drawing.
    film.fig.set_layout_engine("none")
    pictures = []
    for epoch in epochs:
        film.show(epoch)
        pictures.append(plots.to_image(film.fig, FILM_DPI))
    animation = folder / "rook.gif"
    _save_gif(pictures, animation)
    last = plots.save(film.fig, folder / "rook.png")
    names = " and ".join(NAMES.get(border, border) for border in borders)
    results = ", ".join(
        f"{100 * histories[border]['accuracy'][-1]:.0f} % under {NAMES.get(border, border)}" for border in borders
    )
    return [
        Figure(
            animation,
            f"Training under {names}, seed {seed}, epoch by epoch. Both maps of a border share one grey scale, from "
            "0 to the larger of their maxima; the filter has a scale of its own "
            "(red positive, blue negative). The dashed outline is the frame.",
            f"Animation of the training over {config.epochs} epochs: the two rook images, the filter, both feature "
            f"maps, loss and accuracy for {names}.",
        ),
        Figure(
            last,
            f"The last epoch: accuracy {results}.",
            f"The last picture of the animation: accuracy {results}.",
        ),
    ]


class _Film:
    """One matplotlib figure whose contents `show` sets to an epoch: drawing anew for each would take minutes."""

    def __init__(self, config: "Config", histories: dict[str, dict[str, np.ndarray]]) -> None:
        self.histories = histories
        self.fig, axes = plots.new_figure(len(histories) + 1, 4, (2.25, 2.3))
        self.maps: dict[str, list[Any]] = {}
        self.filters: dict[str, Any] = {}
        self.labels: dict[str, list[Any]] = {}
        images = rook.images(config.margin)[:, 0].numpy()
        self._curves(axes)
        for i in range(2):
            ax = axes[0, 2 + i]
            plots.feature_map(ax, images[i], vmin=0, vmax=1, show=SHOW, title=f"class {i + 1}: {rook.CLASSES[i]}")
        for row, (border, history) in enumerate(histories.items(), start=1):
            start = tuple(history["start"].astype(int))
            self.filters[border] = plots.feature_map(
                axes[row, 1], history["filter"][0], cmap=plots.DIVERGING, title="filter", cells=True
            )
            self.maps[border] = [
                plots.feature_map(axes[row, 2 + i], history["maps"][0, i], start=start, frame=rook.SIZE, show=SHOW)
                for i in range(2)
            ]
            self.labels[border] = [axes[row, 2 + i].set_xlabel("maximum 0.000") for i in range(2)]
            for i in range(2):
                axes[row, 2 + i].set_title(f"map of class {i + 1}")
            self._name(axes[row, 0], border)

    def _curves(self, axes: np.ndarray) -> None:
        self.lines = []
        epochs = len(next(iter(self.histories.values()))["loss"]) - 1
        highest = max(history["loss"].max() for history in self.histories.values())
        for ax, name, top in ((axes[0, 0], "loss", 1.08 * highest), (axes[0, 1], "accuracy, %", 108)):
            ax.set(title=name, xlim=(0, epochs), ylim=(-0.04 * top, top), xlabel="epoch")
            ax.grid(axis="y")
            for border in self.histories:
                values = self.histories[border]["loss"] if name == "loss" else 100 * self.histories[border]["accuracy"]
                (line,) = ax.plot([], [], color=plots.BORDER_COLOURS[border], label=NAMES.get(border, border))
                self.lines.append((line, values))

    def _name(self, ax: Any, border: str) -> None:
        plots.bare(ax)
        ax.text(
            0.5,
            0.62,
            NAMES.get(border, border),
            ha="center",
            va="center",
            fontsize=13,
            color=plots.BORDER_COLOURS[border],
            transform=ax.transAxes,
        )
        label = ax.text(0.5, 0.4, "", ha="center", va="center", fontsize=9.5, linespacing=1.5, transform=ax.transAxes)
        self.labels[border].append(label)

    def show(self, epoch: int) -> None:
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


def _save_gif(pictures: list[Image.Image], path: Path) -> None:
    """An endless animation with one palette for all pictures, so that only what changes is stored."""
    palette = pictures[-1].quantize(256, dither=Image.Dither.NONE)
    # Near-whites are averaged on the way; the page behind the film is pure white.
    palette.putpalette([255 if value > 248 else value for value in palette.getpalette() or []])
    frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    durations = [FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS]
    temporary = path.with_suffix(".partial.gif")
    frames[0].save(temporary, save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True)
    write_atomically(path, temporary.read_bytes())
    temporary.unlink()
