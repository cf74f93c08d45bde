"""Images as tiles read them: tensors, arrays in memory and on disk, anything with a shape, a dtype and slicing.

Shapes: images (C, *space) or (N, C, *space); tiles (N, C, *tile).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from borderless.engine.geometry import Box
from borderless.engine.padding import memory_format_of
from borderless.errors import BorderlessError, ImageError

Prepare = Callable[[Tensor], Tensor]

_SPACES = {
    nn.Conv1d: 1,
    nn.Conv2d: 2,
    nn.Conv3d: 3,
    nn.ConvTranspose1d: 1,
    nn.ConvTranspose2d: 2,
    nn.ConvTranspose3d: 3,
}
# PyTorch has no arithmetic for the unsigned integers; these hold all their values.
_SIGNED = {np.dtype("uint16"): np.int32, np.dtype("uint32"): np.int64}


@dataclass(frozen=True)
class TiledImage:
    """An image of which boxes are read. pixels: the array. space: how many of its last axes are spatial.

    prepare: applied to each tile on the model's device; it must treat each pixel by itself. dtype: that tiles must have
    then. channels: how many the model is given.
    """

    pixels: Any
    space: int
    device: torch.device
    prepare: Prepare | None = None
    dtype: torch.dtype | None = None
    channels: int = 0

    @property
    def size(self) -> tuple[int, ...]:
        """The number of pixels along each spatial axis."""
        return tuple(int(n) for n in self.pixels.shape[-self.space :])

    @property
    def has_batch(self) -> bool:
        """Whether the first axis is that of samples."""
        return len(self.pixels.shape) == self.space + 2

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape (N, C, *space) that the model is given."""
        shape = tuple(int(n) for n in self.pixels.shape)
        return shape if self.has_batch else (1, *shape)

    def read(self, box: Box) -> Tensor:
        """Return the pixels (N, C, *box) of a box on the model's device, prepared.

        Raises:
            ImageError: They cannot be read, or `prepare` changes their size or leaves integers.
        """
        cells = self.stored(box).to(self.device)
        return self.prepared(cells if self.has_batch else cells[None])

    def stored(self, box: Box) -> Tensor:
        """Return the pixels of a box as they are stored, in memory of their own."""
        index = (slice(None),) * (len(self.pixels.shape) - self.space) + tuple(slice(a, b) for a, b in box)
        if isinstance(self.pixels, Tensor):
            cells = self.pixels.detach()[index]
            return cells.clone(memory_format=memory_format_of(self.pixels) if self.has_batch else torch.preserve_format)
        try:
            array = np.asarray(self.pixels[index])
            kind = _SIGNED.get(array.dtype.newbyteorder("="), array.dtype.newbyteorder("="))
            cells = torch.from_numpy(np.array(array, dtype=kind, order="C"))
        except BorderlessError:
            raise
        except Exception as error:  # of any library that stores images
            raise ImageError(
                f"Expected to read the pixels {_text(box)} of the image but got {type(error).__name__}: {error}"
            ) from error
        expected = (*self.pixels.shape[: -self.space], *(b - a for a, b in box))
        if tuple(cells.shape) != expected:
            raise ImageError(
                f"Expected the pixels {_text(box)} of the image to have the shape {expected} but got "
                f"{tuple(cells.shape)}; give an image whose slices are as large as it says."
            )
        return cells

    def prepared(self, cells: Tensor) -> Tensor:
        """Return pixels (N, C, *space) as the model is given them."""
        made = cells if self.prepare is None else self.prepare(cells)
        if made.shape[:1] != cells.shape[:1] or made.shape[2:] != cells.shape[2:]:
            raise ImageError(
                f"Expected prepare to keep samples and size of a tile but got {tuple(made.shape)} for "
                f"{tuple(cells.shape)}; treat each pixel by itself there, and put what resizes into the model."
            )
        if not made.is_floating_point():
            raise ImageError(
                f"Expected an image in floating point but got {made.dtype}; scale its tiles as the model expects, for "
                "example with prepare=lambda tile: tile / 255."
            )
        if self.dtype is not None and made.dtype is not self.dtype:
            raise ImageError(
                f"Expected tiles of {self.dtype}, as the model's weights, but got {made.dtype}; convert them, for "
                f"example with prepare=lambda tile: tile.to({self.dtype})."
            )
        return made


def tiled_image(model: nn.Module, pixels: Any, prepare: Prepare | None = None) -> TiledImage:
    """Return an image as `model` reads it tile after tile.

    Raises:
        ImageError: It has no shape, no pixels, or a number of axes that does not fit the model.
    """
    shape = getattr(pixels, "shape", None)
    if shape is None or not hasattr(pixels, "__getitem__"):
        raise ImageError(
            f"Expected a tensor or an array (C, *space) or (N, C, *space) but got {type(pixels).__name__}; give "
            "something with a shape and slicing, such as a tensor, numpy.memmap, or an array of zarr or h5py."
        )
    space = _space_of(model, tuple(shape))
    if 0 in tuple(shape):
        raise ImageError(f"Expected at least one pixel but got an image of shape {tuple(shape)}; give a larger one.")
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    device = parameter.device if parameter is not None else getattr(pixels, "device", None)
    image = TiledImage(
        pixels,
        space,
        device if isinstance(device, torch.device) else torch.device("cpu"),
        prepare,
        # PyTorch's own error is clear for tensors, and autocast takes others; numpy makes float64 unasked.
        None if parameter is None or isinstance(pixels, Tensor) else parameter.dtype,
    )
    pixel = image.stored(((0, 1),) * space).to(image.device).reshape(image.shape[:2] + (1,) * space)
    return replace(image, channels=image.prepared(pixel).shape[1])


def _space_of(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Return the number of spatial axes of an image: those of the first convolution, if the image has as many."""
    found = list(dict.fromkeys(_SPACES[type(m)] for m in model.modules() if type(m) in _SPACES))
    name = type(model).__name__
    if not found:
        if len(shape) < 3:
            raise ImageError(
                f"Expected an image (N, C, *space) for {name}, which has no convolution to tell how many axes are "
                f"spatial, but got the shape {shape}; add the axes of samples and channels."
            )
        return len(shape) - 2
    fits = [space for space in found if len(shape) in (space + 1, space + 2)]
    if not fits:
        axes = ("length", "height, width", "depth, height, width")[found[0] - 1]
        raise ImageError(
            f"Expected an image (C, {axes}) or (N, C, {axes}) for {name}, whose first convolution is "
            f"{found[0]}-dimensional, but got the shape {shape}."
        )
    if len(fits) > 1:
        raise ImageError(
            f"Expected one reading of an image of shape {shape} but got two: {name} has convolutions of "
            f"{' and '.join(f'{space}' for space in sorted(fits))} dimensions, so its first axis may be samples or "
            f"channels; give (N, C, *space) with {max(fits)} spatial axes."
        )
    return fits[0]


def _text(box: Box) -> str:
    return "[" + ", ".join(f"{a}:{b}" for a, b in box) + "]"
