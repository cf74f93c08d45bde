"""Images to measure a model by: a tensor, or a data set that is read one batch at a time, whatever its size.

Shapes: images (N, C, H, W) in floating point; labels (N,), or None.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from borderless.errors import ImageError


def batches(images: Any, batch_size: int, model: nn.Module) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Images where the model's parameters are, and their labels if a data set has them."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    if batch_size < 1 or len(images) < 1:
        raise ImageError(f"got {len(images)} images and batch_size={batch_size}; needed: one at least")
    for start in range(0, len(images), batch_size):
        stop = min(start + batch_size, len(images))
        loaded, labels = load(images, range(start, stop))
        yield loaded.to(device), labels


def load(images: Any, indices: range) -> tuple[Tensor, Tensor | None]:
    """Some of the images, and their labels if they are known."""
    if isinstance(images, Tensor):
        found, labels = images[indices.start : indices.stop].clone(), None  # a model may change them in place
    else:
        found, labels = default_collate([images[i] for i in indices]), None
        if isinstance(found, list | tuple):
            found, labels = found[0], found[1] if len(found) > 1 else None
    check_images(found)
    return found, labels


def check_images(images: Any) -> None:
    """Raises ImageError unless `images` are (N, C, H, W) in floating point."""
    if not isinstance(images, Tensor):
        raise ImageError(f"got {type(images).__name__}; needed: a floating-point tensor (N, C, H, W)")
    if images.ndim != 4 or not images.is_floating_point() or 0 in images.shape:
        raise ImageError(
            f"got images of {images.dtype}, {tuple(images.shape)}; needed: a floating-point tensor (N, C, H, W)"
        )
