"""What the playground shows: numbers from the library, and pictures of them. No web here.

Shapes: object 8 × 8 on an image of 24 × 24; canvases (224, 224) for networks; pictures are Pillow's, in RGB.
"""

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from borderless.conversion import convert
from borderless.data import imagenet, rook
from borderless.data.drawings import LETTER, LETTER_IMAGE_PX, ROOK_IMAGE_PX
from borderless.data.letter import scene
from borderless.data.photos import load_photo
from borderless.data.pictures import SMALLEST_PX, opened, shown
from borderless.engine.border import Border
from borderless.errors import BorderlessError, DataError, ImageError
from borderless.experiments.equivariance.experiment import empty_response, on_plane, relative_difference
from borderless.experiments.rook.experiment import Moment
from borderless.experiments.rook.film import SHOW
from borderless.explanation import explain
from borderless.models.loading import load
from borderless.models.packaged import class_names
from borderless.models.preprocessing import normalization
from borderless.placement.place import place
from borderless.report import plots
from borderless.runtime.evaluation import evaluating, seeded

FILTERS: dict[str, np.ndarray] = {
    "corner": np.outer(np.arange(5), np.arange(5)) / 40,
    "edge": np.repeat([[-1.0, -1.0, 0.0, 1.0, 1.0]], 5, axis=0) / 10,
    "mean": np.full((5, 5), 1 / 25),
}
CELL_PX = 14
CANVAS_PX, THING_PX = 224, 96
# About as many as fit into a minute for the packaged network on two cores.
MAP_SIDE = 9
MOST_IMAGES = 32
OWN = "own"
# Of one image: any usual network under its own padding, the smaller ones under `infinite`.
MOST_MACS = 2e10


@dataclass(frozen=True)
class Comparison:
    """Both orders on the plane, and by how much they differ: the largest difference, relative to the largest answer."""

    picture: Image.Image
    difference: float


def clamped(centre: Sequence[int], size: int, room: int) -> tuple[int, int]:
    """Where a thing of `size` stands, wholly in a room of `room`, whose middle is as near `centre` as can be."""
    row, column = (min(max(at - size // 2, 0), room - size) for at in centre)
    return row, column


def enlarged(place: tuple[int, int]) -> Image.Image:
    """The scene, to click on: each pixel CELL_PX wide."""
    pixels = (255 * scene(place)[0, 0].numpy()).astype(np.uint8)
    return Image.fromarray(np.kron(pixels, np.ones((CELL_PX, CELL_PX), np.uint8))).convert("RGB")


def shift_and_convolve(
    border: str, filter_name: str, bias: float, place: tuple[int, int], shift: tuple[int, int]
) -> Comparison:
    """Convolve and shift, shift and convolve. Raises ImageError if the object leaves the image."""
    target = (place[0] + shift[0], place[1] + shift[1])
    if not all(0 <= at <= LETTER_IMAGE_PX - side for at, side in zip(target, LETTER.shape, strict=True)):
        raise ImageError(f"got a shift to row {target[0]}, column {target[1]}; needed: one that stays in the image")
    layers = _twice(filter_name, bias)
    with torch.no_grad():
        model = convert(layers, border, output="signal")  # pyright: ignore[reportArgumentType]
        before, after = model(scene(place)), model(scene(target))
        empty = empty_response(layers)
    moved = np.roll(on_plane(before, empty), shift, (0, 1))
    other = on_plane(after, empty)
    largest = max(float(np.abs(moved).max()), 1e-12)
    difference = relative_difference(moved, other, largest)
    fig, axes = plots.new_figure(1, 3, panel_size=(2.9, 2.6))
    margin = (moved.shape[0] - LETTER_IMAGE_PX) // 2
    # Differences on a scale of their own, unless they are so small that only rounding would be seen.
    panels = (
        ("convolve, then shift", moved, largest),
        ("shift, then convolve", other, largest),
        (f"difference, at most {difference:.2g}", moved - other, max(difference, 0.02) * largest),
    )
    for ax, (title, values, limit) in zip(axes[0], panels, strict=True):
        plots.feature_map(
            ax,
            values,
            title=title,
            vmin=-limit,
            vmax=limit,
            cmap=plots.DIVERGING,
            start=(-margin, -margin),
            frame=(LETTER_IMAGE_PX, LETTER_IMAGE_PX),
            show=(-4, -4, LETTER_IMAGE_PX + 4, LETTER_IMAGE_PX + 4),
        )
    return Comparison(plots.to_image(fig), difference)


def _twice(filter_name: str, bias: float) -> nn.Sequential:
    """The filter, a ReLU, the filter again: what emptiness has become after one layer meets the next one's border."""
    layers = nn.Sequential(nn.Conv2d(1, 1, 5, padding=2), nn.ReLU(), nn.Conv2d(1, 1, 5, padding=2))
    with torch.no_grad():
        for name, parameter in layers.named_parameters():
            kernel = torch.from_numpy(FILTERS[filter_name])[None, None]
            parameter.copy_(kernel if name.endswith("weight") else torch.tensor([bias]))
    return layers


def rook_moment(moment: Moment, border: str, epoch: int, epochs: int) -> Image.Image:
    """Filter and both maps at one moment of the training."""
    fig, axes = plots.new_figure(1, 3, panel_size=(2.9, 2.6))
    plots.feature_map(
        axes[0, 0],
        moment.filter,
        cmap=plots.DIVERGING,
        title=f"{border}: filter, epoch {epoch} of {epochs}",
        cells=True,
    )
    brightest = max(float(moment.maps.max()), 1e-6)
    start = (moment.start[0], moment.start[1])
    for ax, values, where in zip(axes[0, 1:], moment.maps, rook.CLASSES, strict=True):
        plots.feature_map(
            ax, values, start=start, frame=ROOK_IMAGE_PX, show=SHOW, vmax=brightest, title=f"map, rook {where}"
        )
        ax.set_xlabel(f"maximum {float(values.max()):.3f}")
    return plots.to_image(fig)


@dataclass(frozen=True)
class Chosen:
    """A network of one's own, and what its images are normalized by: (3, 1, 1) each."""

    model: nn.Module
    mean: Tensor
    deviation: Tensor

    def thing(self, name: str) -> Tensor:
        """One of PHOTOS as an object on a canvas: (1, 3, THING_PX, THING_PX); 0 is the colour of emptiness."""
        return ((load_photo(name, THING_PX) - self.mean) / self.deviation)[None]


def canvas(name: str, place: tuple[int, int]) -> Image.Image:
    """The object on a canvas of mean grey, to click on: CANVAS_PX wide."""
    pixels = torch.tensor(imagenet.MEAN).reshape(3, 1, 1).repeat(1, CANVAS_PX, CANVAS_PX)
    row, column = place
    pixels[:, row : row + THING_PX, column : column + THING_PX] = load_photo(name, THING_PX)
    return Image.fromarray((255 * pixels).permute(1, 2, 0).round().to(torch.uint8).numpy())


def network(name: str, weights: str, border: str = OWN, phase: str = "fixed", reach: int | None = None) -> Chosen:
    """A network under a border, of one's own: nothing that others do to theirs changes it.

    Raises ImageError for one that would take too long here, and what `load` and `convert` raise.
    """
    name = name.strip()
    model = copy.deepcopy(_loaded(name, weights))
    mean, deviation = (torch.tensor(values).reshape(3, 1, 1) for values in normalization(name, weights))
    if border == OWN and (phase != "fixed" or reach is not None):
        raise ImageError(f"got phase={phase!r}, reach={reach} with its own padding; needed: a border, or neither")
    under = Border("zero" if border == OWN else border, phase, reach)  # pyright: ignore[reportArgumentType]
    with computing():
        macs = explain(model, (CANVAS_PX, CANVAS_PX), under, channels=3).macs
    if macs > MOST_MACS:
        raise ImageError(
            f"got {name} under {border}, which takes {macs / 1e9:.0f} · 10⁹ multiply-adds an image; needed: at most "
            f"{MOST_MACS / 1e9:.0f} here; take a smaller reach or network"
        )
    return Chosen(model if border == OWN else convert(model, under), mean, deviation)


@contextmanager
def computing() -> Iterator[None]:
    """Raises ImageError for what a network itself cannot do with images of this size and these channels."""
    try:
        yield
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        if isinstance(error, BorderlessError):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ImageError(
            f"the network cannot run on images of 3 × {CANVAS_PX} × {CANVAS_PX} ({reason}); needed: one that can"
        ) from error


# PyTorch's generator is everybody's: who seeds it, keeps the others out until the numbers are drawn.
DRAWING = threading.Lock()


@lru_cache(maxsize=2)
def _loaded(name: str, weights: str) -> nn.Module:
    with DRAWING, seeded(0):
        return load(name, None if weights == "random" else weights).requires_grad_(False)


@dataclass(frozen=True)
class Answer:
    """What a network says of an object here and in the middle. name: of the class that it is in the middle."""

    name: str
    middle: float
    here: float
    answer_here: str


MIDDLE = ((CANVAS_PX - THING_PX) // 2, (CANVAS_PX - THING_PX) // 2)


def answer(chosen: Chosen, thing_name: str, place: tuple[int, int]) -> Answer:
    """The probability of the class in the middle, there and at `place`."""
    logits = _logits(chosen, thing_name, [MIDDLE, place])
    middle, here = logits.double().softmax(1)
    best = int(middle.argmax())
    return Answer(
        _class(best, len(middle)), float(middle[best]), float(here[best]), _class(int(here.argmax()), len(here))
    )


def _class(index: int, count: int) -> str:
    return class_names()[index] if count == len(class_names()) else f"class {index}"


def growing_map(chosen: Chosen, thing_name: str) -> Iterator[tuple[np.ndarray, Image.Image]]:
    """Probability of the class in the middle at MAP_SIDE × MAP_SIDE places, a row more each time; nan: not yet."""
    offsets = np.linspace(0, CANVAS_PX - THING_PX, MAP_SIDE).round().astype(int).tolist()
    start = _logits(chosen, thing_name, [MIDDLE])[0]
    best = int(start.argmax())
    found = np.full((MAP_SIDE, MAP_SIDE), np.nan)
    for i, row in enumerate(offsets):
        logits = _logits(chosen, thing_name, [(row, column) for column in offsets])
        found[i] = logits.double().softmax(1)[:, best].numpy()
        yield found.copy(), _heat(found, _class(best, len(start)))


def _logits(chosen: Chosen, thing_name: str, places: Sequence[tuple[int, int]]) -> Tensor:
    """(places, classes), of the object on a canvas of emptiness."""
    with computing(), evaluating(chosen.model):
        found = place(chosen.model, chosen.thing(thing_name), places, canvas=(CANVAS_PX, CANVAS_PX))
    if found.ndim != 3:
        raise ImageError(f"got answers of shape {tuple(found.shape[1:])}; needed: a classifier, one number a class")
    return found[:, 0]


def _heat(found: np.ndarray, name: str) -> Image.Image:
    fig, axes = plots.new_figure(panel_size=(3.6, 4.4))
    extent = (0, CANVAS_PX - THING_PX, CANVAS_PX - THING_PX, 0)
    plots.heat_map(axes[0, 0], 100 * found, title=f"probability of {name}", vmin=0, vmax=100, extent=extent, label="%")
    axes[0, 0].set(xlabel="column of the object, px", ylabel="row")
    return plots.to_image(fig)


def uploaded(paths: Sequence[str | Path], size_px: int, chosen: Chosen) -> tuple[Tensor, list[str]]:
    """Uploaded files as images (N, 3, size, size) for a network, and what was wrong with the others.

    Raises DataError for none, too many, or none that can be read.
    """
    if not 1 <= len(paths) <= MOST_IMAGES:
        raise DataError(f"got {len(paths)} files; needed: 1 to {MOST_IMAGES} images")
    images, problems = [], []
    mean, deviation = (values.flatten().tolist() for values in (chosen.mean, chosen.deviation))
    for path in map(Path, paths):
        try:
            images.append(shown(opened(path)[0], size_px, mean, deviation))
        except DataError as error:
            problems.append(f"{path.name}: {error}")
    if not images:
        raise DataError(
            f"got no image that can be read ({'; '.join(problems)}); needed: one of {SMALLEST_PX} px or more"
        )
    return torch.stack(images), problems
