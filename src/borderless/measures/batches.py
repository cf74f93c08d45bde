"""The images that a model is measured on: a tensor, or a data set of any size that is read batch by batch.

Shapes: images (N, C, H, W) in floating point; labels (N,), or None, or whatever else a data set pairs them with, which
`of_each_batch` refuses.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, default_collate  # pyright: ignore[reportUnknownVariableType]

from borderless.errors import ImageError
from borderless.runtime.distributed import process_group
from borderless.runtime.evaluation import evaluating

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """Some images and what belongs to them.

    Attributes:
        start: The number of the first of them.
        images: (n, C, H, W), on the model's device.
        labels: What the data set pairs them with, or None.
    """

    start: int
    images: Tensor
    labels: Any


def batches(images: Any, batch_size: int, model: nn.Module, workers: int = 0) -> Iterator[Batch]:
    """Yield this process's share of the batches, on the model's device.

    Args:
        images: A tensor (N, C, H, W), or a data set of images or of (image, label) pairs.
        batch_size: Images per batch.
        model: The model that they are for.
        workers: Processes that load the images of a data set.

    Raises:
        ImageError: There are no images, or a number is too small.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    if batch_size < 1 or len(images) < 1 or workers < 0:
        raise ImageError(
            "Expected at least one image, a batch size of at least 1 and no negative number of workers but got "
            f"{len(images)} images, batch_size={batch_size}, workers={workers}."
        )
    every = [[*range(len(images))[start : start + batch_size]] for start in range(0, len(images), batch_size)]
    mine = every[process_group().rank :: process_group().size]
    if isinstance(images, Tensor):
        loaded = (load(images, indices) for indices in mine)
    else:
        # A generator of its own: the caller's random state stays.
        loader = DataLoader(images, batch_sampler=mine, num_workers=workers, generator=torch.Generator())
        loaded = (_parted(found) for found in loader)
    for indices, (found, labels) in zip(mine, loaded, strict=True):
        # Labels of a worker are shared memory with an open file each: whoever keeps them keeps a copy.
        yield Batch(indices[0], found.to(device), labels.clone() if isinstance(labels, Tensor) else labels)


def of_each_batch(
    images: Any, batch_size: int, model: nn.Module, each: Callable[[Batch], T], workers: int = 0
) -> tuple[list[T], Tensor | None]:
    """Call `each` on every batch, and return its results in the order of the images, with the labels (N,).

    Every process takes its share, and all return the same. The model is in eval mode and records no gradients.

    Args:
        images: A tensor (N, C, H, W), or a data set of images or of (image, label) pairs.
        batch_size: Images per batch.
        model: The model that `each` runs.
        each: Called with a batch.
        workers: Processes that load the images of a data set.

    Raises:
        ImageError: The labels are not one class per image.
    """

    def mine() -> list[tuple[int, T, Any]]:
        found: list[tuple[int, T, Any]] = []
        with evaluating(model):
            for batch in batches(images, batch_size, model, workers):
                if batch.labels is not None:
                    check_labels(batch.labels, len(batch.images))
                found.append((batch.start, each(batch), batch.labels))
        return found

    everyones = sorted((part for share in process_group().map(mine) for part in share), key=lambda part: part[0])
    labels = [known for _, _, known in everyones if known is not None]
    return [value for _, value, _ in everyones], torch.cat(labels) if labels else None


def predicted_classes(model: nn.Module, images: Any, batch_size: int) -> Tensor:
    """Return the class of the largest logit of each image, (N,), on the CPU.

    Args:
        model: Returns logits (n, classes).
        images: A tensor (N, C, H, W), or a data set of images or of (image, label) pairs.
        batch_size: Images per batch.
    """
    return torch.cat(of_each_batch(images, batch_size, model, lambda batch: model(batch.images).argmax(1).cpu())[0])


def load(images: Any, indices: Sequence[int]) -> tuple[Tensor, Any]:
    """Return the images of these numbers, and what they are paired with, or None."""
    # Of a tensor a copy: a model may change its images in place.
    return _parted(
        images[list(indices)] if isinstance(images, Tensor) else default_collate([images[i] for i in indices])
    )


def _parted(found: Any) -> tuple[Tensor, Any]:
    """Split collated items into images and labels."""
    parts = cast(Sequence[Any], found if isinstance(found, list | tuple) else (found,))
    check_images(parts[0])
    return parts[0], parts[1] if len(parts) > 1 else None


def check_labels(labels: Any, count: int) -> None:
    """Check that `labels` are one class number per image.

    Raises:
        ImageError: They are not.
    """
    if isinstance(labels, Tensor) and tuple(labels.shape) == (count,) and not labels.is_floating_point():
        return
    got = f"shape {tuple(labels.shape)}, {labels.dtype}" if isinstance(labels, Tensor) else type(labels).__name__
    raise ImageError(f"Expected one class number per image but got labels of {got} for {count} images.")


def check_images(images: Any) -> None:
    """Check that `images` are (N, C, H, W) in floating point.

    Raises:
        ImageError: They are not.
    """
    if not isinstance(images, Tensor):
        raise ImageError(f"Expected a floating-point tensor (N, C, H, W) but got {type(images).__name__}.")
    if images.ndim != 4 or not images.is_floating_point() or 0 in images.shape:
        raise ImageError(
            f"Expected a floating-point tensor (N, C, H, W) but got images of {images.dtype}, {tuple(images.shape)}."
        )
