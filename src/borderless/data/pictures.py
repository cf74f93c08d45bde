"""Anyone's pictures: a folder of any size, of which some are drawn, read safely and made into what a network takes.

A file that cannot be used is left out, named with its reason, and replaced by the next one drawn. What a file is turned
from (grey, 16 bits, CMYK, transparent, animated) is counted, because a network may mind.

Shapes: pictures (N, 3, size, size), normalized with ImageNet's means and deviations unless told otherwise.
"""

import math
import os
import random
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from borderless.data import imagenet
from borderless.data.items import IMAGE_SUFFIXES
from borderless.data.photos import scikit_image
from borderless.data.quadrant import SOURCES
from borderless.errors import DataError
from borderless.runtime.distributed import process_group

SUFFIXES = (*IMAGE_SUFFIXES, ".gif")
SMALLEST_PX = 8
# The photographs inside scikit-image, with one more of many details than the quadrant experiment takes.
PHOTOGRAPHS = (*SOURCES, "brick")


@dataclass(frozen=True)
class Pictures(Dataset[Tensor]):
    """Items are pictures (3, size, size), read when they are asked for.

    folder: where the files lie; None for the photographs inside scikit-image. names: the files. labels: (N,), the
    number of each picture's class folder; None without class folders. skipped: files that could not be used, and why.
    kinds: how many were grey, CMYK, and so on. drawn_from: how many files the folder holds.
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

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Tensor:
        name = self.names[index]
        if self.folder is None:
            return shown(photograph(name), self.size_px, self.mean, self.deviation)
        try:
            image, _ = opened(self.folder / name)
        except DataError as error:
            raise DataError(
                f"{self.folder / name}: {error}, although it could be used when it was looked at"
            ) from error
        return shown(image, self.size_px, self.mean, self.deviation)


def from_folder(
    folder: Path | str,
    count: int,
    size_px: int,
    seed: int = 0,
    mean: Sequence[float] = imagenet.MEAN,
    deviation: Sequence[float] = imagenet.DEVIATION,
    workers: int = 0,
) -> Pictures:
    """`count` pictures of `folder` and the folders in it, or all if there are fewer, drawn by `seed`.

    The shorter side is brought to 8/7 of `size_px` and the middle cut out. With class folders (folder/CLASS/…) labels
    are the classes' numbers in alphabetical order. Only the drawn files are opened, once to see whether they can be
    used, by `workers` threads; the others are counted. Under torchrun every process looks at its share. Raises
    DataError for a folder that is not there or holds no picture that can be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"got {str(folder)!r}, which is no folder; needed: one that holds images")
    files = process_group().broadcast(list(_files(folder)))  # as the first process sees them: all draw the same
    if not files:
        raise DataError(f"got {str(folder)!r}, which holds no images; needed: some of {', '.join(SUFFIXES)}")
    left = random.Random(seed).sample(files, len(files))
    names, skipped, kinds = [], [], Counter[str]()
    while left and len(names) < count:
        tried, left = left[: count - len(names)], left[count - len(names) :]
        for name, kind, problem in _looked_at(folder, tried, workers):
            if problem:
                skipped.append(f"{name}: {problem}")
            else:
                names.append(name)
                kinds.update(kind)
    if not names:
        raise DataError(
            f"got {len(files)} files in {str(folder)!r}, of which none can be used ({skipped[0]}); needed: one image"
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
    """Of each file what it is turned from, and why it cannot be used, if it cannot."""

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
    """The first `count` photographs inside the scikit-image package. Raises MissingPackage without it."""
    scikit_image()
    return Pictures(
        None, PHOTOGRAPHS[:count], size_px, tuple(mean), tuple(deviation), drawn_from=len(PHOTOGRAPHS[:count])
    )


def photograph(name: str) -> Image.Image:
    """One of PHOTOGRAPHS, in colour, as large as it is."""
    pixels = getattr(scikit_image(), name)()
    pixels = np.asarray(pixels[0] if isinstance(pixels, tuple) else pixels)
    return Image.fromarray(pixels).convert("RGB")


def shown(image: Image.Image, size_px: int, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    """Return one picture as a network is shown it: (3, size_px, size_px)."""
    v2 = imagenet.transforms()
    steps = [
        v2.CenterCrop(min(image.size)),  # before it grows: of a picture as narrow as a line, only this is shown
        v2.ToImage(),
        *imagenet.middle(size_px),
        *imagenet.normalized(mean, deviation),
    ]
    return torch.as_tensor(v2.Compose(steps)(image))


def opened(path: Path) -> tuple[Image.Image, list[str]]:
    """A picture in red, green and blue, and what it was before, as words for a count.

    Raises DataError for a file that is damaged, too large for safe reading, or smaller than 8 pixels.
    """
    with _quiet():
        return _opened(path)


def _quiet() -> warnings.catch_warnings:
    """Without Pillow's warnings, about what is handled here. For one thread at a time: it changes all of them."""
    return warnings.catch_warnings(action="ignore", category=Warning)


def _opened(path: Path) -> tuple[Image.Image, list[str]]:
    kinds = []
    try:
        with Image.open(path) as image:
            if min(image.size) < SMALLEST_PX:
                raise DataError(f"{image.width} × {image.height} pixels; needed: {SMALLEST_PX} at least")
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):
                raise DataError("too large for safe reading")
            if getattr(image, "n_frames", 1) > 1:
                kinds.append("animated (first frame)")
                image.seek(0)
            if "A" in image.getbands() or "transparency" in image.info:
                kinds.append("transparent (on black)")
                whole = image.convert("RGBA")
                return Image.alpha_composite(Image.new("RGBA", whole.size, "black"), whole).convert("RGB"), kinds
            if image.mode.startswith("I") or image.mode == "F":
                kinds.append("16 bits or more")
                return _eight_bits(image), kinds
            if image.mode in ("L", "1", "LA"):
                kinds.append("grey")
            elif image.mode not in ("RGB", "P"):
                kinds.append(image.mode)
            return image.convert("RGB"), kinds
    except Image.DecompressionBombError as error:
        raise DataError("too large for safe reading") from error
    except DataError:
        raise
    except Exception as error:  # Pillow raises all sorts of errors for damaged files
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise DataError(f"cannot be read as an image ({reason})") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """From 16 bits, by their range; from more, or from real numbers, by the range that the picture has."""
    values = np.asarray(image, dtype=np.float64)
    low, high = (0.0, 65535.0) if image.mode.startswith("I") else (values.min(), values.max())
    if image.mode.startswith("I") and (values.max() > high or values.min() < 0):
        low, high = values.min(), values.max()
    scaled = (values - low) / (high - low if high > low else 1.0)
    return Image.fromarray((255 * scaled).round().astype(np.uint8)).convert("RGB")


def _files(folder: Path) -> Iterator[str]:
    """Names below `folder`, in an order that does not depend on the file system; no file is opened."""
    for here, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES:
                yield (Path(here) / name).relative_to(folder).as_posix()
