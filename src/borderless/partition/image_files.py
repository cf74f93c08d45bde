"""Images in files, opened so that boxes of them can be read: .npy, zarr, TIFF, and what Pillow reads.

Shapes: (C, *space) or (N, C, *space), whatever the order in the file is.
"""

import weakref
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from borderless.errors import ImageError, MissingPackage
from borderless.runtime.image_files import FORMATS, open_safely

Channels = Literal["auto", "first", "last"]


@dataclass(frozen=True)
class Rearranged:
    """An array of which axes are read in another order.

    order: for each of its axes that of `source`; None: a new one.
    """

    source: Any
    order: tuple[int | None, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes in the new order."""
        return tuple(1 if axis is None else int(self.source.shape[axis]) for axis in self.order)

    @property
    def dtype(self) -> Any:
        """The type of its values."""
        return self.source.dtype

    def __getitem__(self, index: tuple[slice, ...]) -> Any:
        wanted = [slice(None)] * len(self.source.shape)
        for axis, cells in zip(self.order, index, strict=True):
            if axis is not None:
                wanted[axis] = cells
        found = np.asarray(self.source[tuple(wanted)])
        kept = [axis for axis in self.order if axis is not None]
        found = found.transpose(kept)
        return found[tuple(None if axis is None else slice(None) for axis in self.order)]


def open_image(path: Path, channels: Channels = "auto") -> Any:
    """Open an image.

    Args:
        path: A file .npy, .tif, .tiff or one that Pillow reads (which is read at once), or a zarr array.
        channels: Which axis of the file has the channels; "auto": the last one of pictures and of TIFF files that say
            so, else the first.

    Raises:
        ImageError: It cannot be read.
        MissingPackage: What reads it is not installed.
    """
    if not (path.is_file() or path.is_dir()):  # a pipe waits for its writer
        raise ImageError(f"Expected an image but got {str(path)!r}, where there is none; give another path.")
    try:
        pixels, axes = _opened(path)
    except (ImageError, MissingPackage):
        raise
    except Exception as error:  # of any library that reads images
        raise ImageError(f"Expected an image in {path} but got {type(error).__name__}: {error}") from error
    return _arranged(path, pixels, axes, channels)


def _opened(path: Path) -> tuple[Any, str]:
    """Return the array, and its axes by a letter each; "": unknown."""
    ending = path.suffix.lower()
    if ending == ".npy":
        return np.load(path, mmap_mode="r"), ""
    if ending in (".tif", ".tiff"):
        return _opened_tiff(path)
    if path.is_dir():
        found = needed("zarr").open(path, mode="r")
        if not hasattr(found, "dtype"):
            raise ImageError(
                f"Expected one zarr array but got {path}, a group of {', '.join(found.array_keys()) or 'none'}; give "
                f"the path of one, such as {path}/0."
            )
        return found, ""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # large images are what tiles are for
    try:
        with open_safely(path, (*FORMATS, "JPEG2000")) as image:
            plain = image if image.mode in ("L", "RGB", "I;16", "F", "I") else image.convert("RGB")
            pixels = np.asarray(plain)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    return pixels, "YXS" if pixels.ndim == 3 else "YX"


def _opened_tiff(path: Path) -> tuple[Any, str]:
    tifffile = needed("tifffile")
    with tifffile.TiffFile(path) as file:
        axes = file.series[0].axes
        if file.series[0].dataoffset is not None:
            return tifffile.memmap(path, mode="r"), axes
    store = tifffile.imread(path, aszarr=True, level=0)
    pixels = needed("zarr").open(store, mode="r")
    weakref.finalize(pixels, store.close)
    return pixels, axes


def _arranged(path: Path, pixels: Any, axes: str, channels: Channels) -> Any:
    count = len(pixels.shape)
    if channels == "auto":
        # Of TIFF's letters: S are the samples of a pixel, C channels, Y X Z space.
        channels = "last" if axes.endswith("S") or (count > 2 and axes.endswith("C")) else "first"
    if count == 2:
        return Rearranged(pixels, (None, 0, 1))
    if channels == "last":
        return Rearranged(pixels, (count - 1, *range(count - 1)))
    if axes and axes[0] in "YX" and count > 2:
        raise ImageError(
            f"Expected the axes of {path} to begin with the channels but got {axes}; give --channels last."
        )
    return pixels


def needed(name: str) -> Any:
    """Return the module of a package of the extra `large`.

    Raises:
        MissingPackage: It is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingPackage(
            f'Expected the package {name} but got none; run pip install "borderless[large]".'
        ) from error
