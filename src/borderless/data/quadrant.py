"""Quadrant data: pictures whose class is their quadrant of the canvas, upper left or lower right.

A picture of 56 px lies on a canvas of 120 px of zeros, at (0, 0) for class 0 and at (64, 64) for class 1, inside a
border of more zeros. Every picture is used at both positions, so only the position distinguishes the classes.
`bl.place`
puts the pictures there; this module makes the pictures, split so that training, validation and test share no source.

Two sources: any folder of images, ImageNet's validation images among them, treated as in the paper (shorter side 256,
center 224, normalized, 56); and, without a download, squares cut at random position and scale from the photographs
inside the scikit-image package, split by photograph.

Shapes: pictures (n, 3, 56, 56), normalized with ImageNet's means and deviations.
"""

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from borderless.data import imagenet
from borderless.data.choices import SplitProtocol
from borderless.data.items import IMAGE_SUFFIXES
from borderless.data.photos import scikit_image, square_cut
from borderless.errors import DataError
from borderless.runtime.image_files import open_safely

OBJECT_PX, CANVAS_PX = 56, 120
POSITIONS = ((0, 0), (CANVAS_PX - OBJECT_PX, CANVAS_PX - OBJECT_PX))

PROTOCOLS: tuple[str, ...] = get_args(SplitProtocol)

# The photographs that come inside the package, textures and charts of one tone left out.
SOURCES = (
    "astronaut", "camera", "cat", "cell", "coffee", "coins", "grass", "gravel", "hubble_deep_field",
    "immunohistochemistry", "moon", "page", "retina", "rocket", "stereo_motorcycle",
)  # fmt: skip
# Shares of the photographs, of which there are fewer than pictures; the rest is for testing.
_TRAIN_SHARE, _VALIDATION_SHARE = 0.5, 0.25
_SMALLEST_CUT_PX = 80


@dataclass(frozen=True)
class QuadrantSplit:
    """Pictures (n, 3, 56, 56), and for each of them the photograph or file that it comes from."""

    pictures: Tensor
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sources)


@dataclass(frozen=True)
class Quadrant:
    """The three splits, and the files that could not be read."""

    train: QuadrantSplit
    validation: QuadrantSplit
    test: QuadrantSplit
    skipped: tuple[str, ...] = ()

    @property
    def splits(self) -> dict[str, QuadrantSplit]:
        """The three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def canvas_px(border_px: int) -> tuple[int, int]:
    """Return height and width of the canvas with its border, in pixels."""
    side = CANVAS_PX + 2 * border_px
    return side, side


def positions(border_px: int) -> list[tuple[int, int]]:
    """Return the positions of class 0 and class 1 on the canvas."""
    return [(row + border_px, column + border_px) for row, column in POSITIONS]


class Canvases(Dataset[tuple[Tensor, int]]):
    """Every picture at both positions, on whole canvases with a border: (image (3, side, side), class) items."""

    def __init__(self, pictures: Tensor, border_px: int) -> None:
        self.pictures, self.border_px = pictures, border_px

    def __len__(self) -> int:
        return len(POSITIONS) * len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture, label = divmod(index, len(POSITIONS))
        row, column = positions(self.border_px)[label]
        canvas = self.pictures.new_zeros(self.pictures.shape[1], *canvas_px(self.border_px))
        canvas[:, row : row + OBJECT_PX, column : column + OBJECT_PX] = self.pictures[picture]
        return canvas, label


def from_photographs(count: int, seed: int, protocol: SplitProtocol = "split") -> Quadrant:
    """Return `count` pictures a split, cut from scikit-image's photographs.

    protocol: "split" gives each split photographs of its own; "published" gives all three the same pictures, as the
    paper's code did.

    Raises:
        MissingPackage: scikit-image is not installed.
    """
    _check(count, protocol)
    draw = random.Random(seed)
    names = draw.sample(SOURCES, len(SOURCES))
    first = round(_TRAIN_SHARE * len(names))
    second = first + round(_VALIDATION_SHARE * len(names))
    parts = [names[:first], names[first:second], names[second:]]
    if protocol == "published":
        same = _cuts(names, count, draw)
        return Quadrant(same, same, same)
    train, validation, test = (_cuts(part, count, draw) for part in parts)
    return Quadrant(train, validation, test)


def from_folder(folder: Path | str, count: int, seed: int, protocol: SplitProtocol = "split") -> Quadrant:
    """Return `count` pictures a split from the images anywhere under `folder`, drawn without repetition.

    Files that cannot be read are named in a warning and in `skipped`, and replaced by others.

    Raises:
        DataError: There is no such folder, or too few images are left.
    """
    _check(count, protocol)
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"Expected a folder of images but got {str(folder)!r}, which does not exist")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    files = random.Random(seed).sample(files, len(files))
    needed = count if protocol == "published" else 3 * count
    pictures, sources, skipped = [], [], []
    for file in files:
        if len(sources) == needed:
            break
        name = file.relative_to(folder).as_posix()
        try:
            pictures.append(as_published(file))
            sources.append(name)
        except Exception as error:  # Pillow raises all sorts of errors for damaged files
            skipped.append(name)
            warnings.warn(
                f"Expected an image but got {name}, which cannot be read: {error}; it is left out", stacklevel=2
            )
    if len(sources) < needed:
        broken = f"; {len(skipped)} could not be read, first {skipped[0]}" if skipped else ""
        raise DataError(
            f"Expected {needed} images for {count} pictures a split ({', '.join(IMAGE_SUFFIXES)}) but got "
            f"{len(sources)} under {str(folder)!r}{broken}; take fewer pictures, or another folder"
        )
    stacked = torch.stack(pictures)
    starts = (0, 0, 0) if protocol == "published" else (0, count, 2 * count)
    train, validation, test = (QuadrantSplit(stacked[i : i + count], tuple(sources[i : i + count])) for i in starts)
    return Quadrant(train, validation, test, tuple(skipped))


def as_published(file: Path) -> Tensor:
    """Return one image as in the paper: (3, 56, 56).

    Raises:
        OSError, ValueError: It cannot be read.
    """
    with open_safely(file) as image:
        return _as_published()(image.convert("RGB"))


@cache
def _as_published() -> Any:
    v2 = imagenet.transforms()
    crops = [v2.Resize(256), v2.CenterCrop(imagenet.PAPER_CROP_PX)]
    return v2.Compose([*crops, imagenet.shown_through([]), v2.Resize(OBJECT_PX, antialias=True)])


def _cuts(names: Sequence[str], count: int, draw: random.Random) -> QuadrantSplit:
    photographs = {name: _photograph(name) for name in names}
    pictures, sources = [], []
    normalized = imagenet.shown_through([])
    for i in range(count):
        name = names[i % len(names)]
        image = photographs[name]
        pictures.append(normalized(square_cut(image, OBJECT_PX, _SMALLEST_CUT_PX, draw)))
        sources.append(name)
    return QuadrantSplit(torch.stack(pictures), tuple(sources))


def _photograph(name: str) -> Image.Image:
    pixels = getattr(scikit_image(), name)()
    if isinstance(pixels, tuple):  # a stereo pair and its depths: the left picture
        pixels = pixels[0]
    return Image.fromarray(pixels).convert("RGB")


def _check(count: int, protocol: str) -> None:
    if count < 1:
        raise DataError(f"Expected at least 1 picture a split but got {count}")
    if protocol not in PROTOCOLS:
        raise DataError(f"Expected protocol to be one of {', '.join(PROTOCOLS)} but got {protocol!r}")
