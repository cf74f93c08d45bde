"""Read a folder of any pictures: draw some, open them safely, and turn them into the input of a network.

A file that cannot be used is left out, named with its reason, and replaced by the next one drawn. Only files are
opened, never pipes or devices, and only by the readers of common formats. What a file is converted from (gray, 16 bits,
CMYK, transparent, animated) is counted, because it may matter to a network.

Shapes: pictures (N, 3, size, size), normalized with ImageNet's mean and standard deviation unless told otherwise.
"""

import math
import os
import random
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from borderless.data import imagenet
from borderless.data.items import IMAGE_SUFFIXES
from borderless.data.own_inputs import preprocessed
from borderless.data.photos import scikit_image
from borderless.data.quadrant import SOURCES
from borderless.errors import DataError
from borderless.runtime.distributed import process_group
from borderless.runtime.files import printable
from borderless.runtime.image_files import open_safely

SUFFIXES = (*IMAGE_SUFFIXES, ".gif")
SMALLEST_PX = 8
# The photographs inside scikit-image, with one more of many details than the quadrant experiment takes.
PHOTOGRAPHS = (*SOURCES, "brick")
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
# Pixels that are scaled to 8 bits at a time.
_BLOCK_PX = 2**20


@dataclass(frozen=True)
class Pictures(Dataset[Tensor]):
    """A data set of pictures (3, size, size), read when they are indexed.

    Attributes:
        folder: The folder with the files; None for the photographs inside scikit-image.
        names: The files, relative to `folder`.
        size_px: Height and width of the pictures.
        mean: Mean of each channel, subtracted.
        deviation: Standard deviation of each channel, divided by.
        labels: The number of each picture's class folder (N,); None without class folders.
        classes: The names of the class folders.
        skipped: Files that could not be used, with the reason.
        kinds: How many pictures were gray, CMYK and so on.
        drawn_from: How many files the folder has.
        preprocess: Makes a picture (of PIL, in color) the input of a network (C, H, W), instead of `size_px`, `mean`
            and `deviation`.
    """

    folder: Path | None
    names: tuple[str, ...]
    size_px: int
    mean: tuple[float, ...] = imagenet.MEAN
    deviation: tuple[float, ...] = imagenet.DEVIATION
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    kinds: dict[str, int] = field(default_factory=dict)
    drawn_from: int = 0
    preprocess: Callable[[Image.Image], Any] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        if self.preprocess is None:
            return shown(self._picture(index), self.size_px, self.mean, self.deviation)
        found = preprocessed(self._picture(index), self.preprocess)
        if index and found.shape != self._shape:
            raise DataError(
                f"Expected inputs of one size from the preprocessing but got {tuple(self._shape)} for {self.names[0]} "
                f"and {tuple(found.shape)} for {self.names[index]}; resize or crop in it."
            )
        return found

    @cached_property
    def _shape(self) -> torch.Size:
        return self[0].shape

    def _picture(self, index: int) -> Image.Image:
        name = self.names[index]
        if self.folder is None:
            return photograph(name)
        try:
            return opened(self.folder / name)[0]
        except DataError as error:
            raise DataError(
                f"Expected to read {printable(self.folder / name)} again, as at the start, but got: {error}; leave the "
                "folder unchanged during an audit."
            ) from error


def from_folder(
    folder: Path | str,
    count: int,
    size_px: int,
    seed: int = 0,
    mean: Sequence[float] = imagenet.MEAN,
    deviation: Sequence[float] = imagenet.DEVIATION,
    workers: int = 0,
) -> Pictures:
    """Draw pictures from a folder and the folders in it.

    The shorter side is resized to 8/7 of `size_px`, and the middle cut out. Under torchrun every process checks its
    share of the files.

    Args:
        folder: With class folders (folder/CLASS/…), labels are the numbers of the classes in alphabetical order.
        count: How many pictures to draw; all if there are fewer. The other files are counted and not opened.
        size_px: Height and width of the pictures.
        seed: Draws the files.
        mean: Mean of each channel, in units of [0, 1].
        deviation: Standard deviation of each channel.
        workers: Threads that check the drawn files.

    Raises:
        DataError: There is no such folder, or no file in it can be used.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"Expected a folder of images but got {printable(folder)!r}; check the path.")
    files = process_group().broadcast(names_in(folder))  # as the first process sees them: all draw the same
    if not files:
        raise DataError(f"Expected files {', '.join(SUFFIXES)} in {printable(folder)!r} but got none; add some.")
    left = random.Random(seed).sample(files, len(files))
    names, skipped, kinds = [], [], Counter[str]()
    while left and len(names) < count:
        tried, left = left[: count - len(names)], left[count - len(names) :]
        for name, kind, problem in _looked_at(folder, tried, workers):
            if problem:
                skipped.append(f"{printable(name)}: {problem}")
            else:
                names.append(name)
                kinds.update(kind)
    if not names:
        raise DataError(
            f"Expected an image in {printable(folder)!r} but got {len(files)} files that cannot be used "
            f"({skipped[0]}); add one."
        )
    classes = sorted({Path(name).parts[0] for name in files if len(Path(name).parts) > 1})
    has_classes = len(classes) > 1 and all(len(Path(name).parts) > 1 for name in names)
    number = {name: i for i, name in enumerate(classes)}
    return Pictures(
        folder,
        tuple(names),
        size_px,
        tuple(mean),
        tuple(deviation),
        torch.tensor([number[Path(name).parts[0]] for name in names]) if has_classes else None,
        tuple(classes) if has_classes else (),
        tuple(skipped),
        dict(kinds),
        len(files),
    )


def _looked_at(folder: Path, names: list[str], workers: int) -> list[tuple[str, list[str], str]]:
    """Return of each file its name, what it is converted from, and why it cannot be used ("" if it can)."""

    def look(name: str) -> tuple[str, list[str], str]:
        try:
            return name, _opened(folder / name)[1], ""
        except DataError as error:
            return name, [], str(error)

    def mine() -> list[tuple[str, list[str], str]]:
        share = names[process_group().rank :: process_group().size]
        with _quiet(), ThreadPoolExecutor(max(1, workers)) as pool:
            return list(pool.map(look, share))

    found = {told[0]: told for share in process_group().map(mine) for told in share}
    return [found[name] for name in names]


def photographs(
    size_px: int,
    count: int = len(PHOTOGRAPHS),
    mean: Sequence[float] = imagenet.MEAN,
    deviation: Sequence[float] = imagenet.DEVIATION,
) -> Pictures:
    """Return the first `count` photographs inside the scikit-image package.

    Raises:
        MissingPackage: scikit-image is not installed.
    """
    scikit_image()
    return Pictures(
        None, PHOTOGRAPHS[:count], size_px, tuple(mean), tuple(deviation), drawn_from=len(PHOTOGRAPHS[:count])
    )


def photograph(name: str) -> Image.Image:
    """Return one of `PHOTOGRAPHS` in color, at its own size."""
    pixels = getattr(scikit_image(), name)()
    pixels = np.asarray(pixels[0] if isinstance(pixels, tuple) else pixels)
    return Image.fromarray(pixels).convert("RGB")


def shown(image: Image.Image, size_px: int, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """Return one picture as the input of a network: (3, size_px, size_px)."""
    v2 = imagenet.transforms()
    steps = [
        v2.CenterCrop(min(image.size)),  # before resizing, which would enlarge a narrow picture beyond memory
        v2.ToImage(),
        *imagenet.middle(size_px),
        *imagenet.normalized(mean, deviation),
    ]
    return torch.as_tensor(v2.Compose(steps)(image))


def opened(path: Path) -> tuple[Image.Image, list[str]]:
    """Return a picture in red, green and blue, and what it was converted from, as words for a count.

    Raises:
        DataError: No ordinary file, a damaged one, one of another format, too large for safe reading, or smaller than
            8 pixels.
    """
    with _quiet():
        return _opened(path)


def _quiet() -> warnings.catch_warnings:
    """Silence Pillow's warnings about what is handled here. For one thread at a time: it changes all of them."""
    return warnings.catch_warnings(action="ignore", category=Warning)


def _opened(path: Path) -> tuple[Image.Image, list[str]]:
    try:
        with open_safely(path) as image:
            if min(image.size) < SMALLEST_PX:
                raise DataError(f"{image.width} × {image.height} pixels, fewer than {SMALLEST_PX} along a side")
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
                raise DataError("too large for safe reading")
            kinds = ["animated (first frame)"] if _has_second_frame(image) else []
            found, kind = _in_color(image)
            return found, kinds + kind
    except Image.DecompressionBombError as error:
        raise DataError("too large for safe reading") from error
    except DataError:
        raise
    except Exception as error:  # Pillow raises all sorts of errors for damaged files
        raise DataError(f"cannot be read as an image ({_reason(error, path)})") from error


def _has_second_frame(image: Image.Image) -> bool:
    """Return whether there is a second frame. Pillow's `n_frames` takes quadratic time on a TIFF of many pages."""
    if not hasattr(type(image), "n_frames"):
        return False
    try:
        image.seek(1)
    except Exception:  # the end of the file, or a damaged second frame, which nobody reads
        return False
    finally:
        image.seek(0)
    return True


def _in_color(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Return the picture in red, green and blue, and what it was converted from."""
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bits(image), ["16 bits or more"]
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        whole = image if image.mode == "RGBA" else image.convert("RGBA")
        found = Image.new("RGB", whole.size, "black")
        found.paste(whole, mask=whole)
        return found, ["transparent (on black)"]
    kinds = [] if image.mode in ("RGB", "P") else ["gray" if image.mode in ("L", "1") else image.mode]
    return image.convert("RGB"), kinds


def _reason(error: Exception, path: Path) -> str:
    """Return the first line of an error without the folders of the file, which visitors of a server may read."""
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    for written in (str(path), repr(str(path))[1:-1]):
        line = line.replace(written, path.name)
    return printable(line)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16 bits by their range; more bits, or real numbers, by the range that the picture has."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not math.isfinite(low + high):
        raise DataError("pixels that are no numbers (NaN or infinite)")
    if image.mode.startswith("I") and low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    factor = 255 / (high - low) if high > low else 0.0
    scaled = np.empty(values.shape, np.uint8)
    rows = max(1, _BLOCK_PX // values.shape[1])
    for start in range(0, len(values), rows):  # a copy of the whole picture in float64 would be eight times as large
        block = values[start : start + rows].astype(np.float64)
        scaled[start : start + rows] = ((block - low) * factor).round()
    return Image.fromarray(scaled).convert("RGB")


def names_in(folder: Path) -> list[str]:
    """Return the pictures below `folder`, in an order that does not depend on the file system; none is opened."""
    found: list[str] = []
    for here, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES:
                found.append((Path(here) / name).relative_to(folder).as_posix())
    return found
