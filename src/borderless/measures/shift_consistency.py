"""Does a classifier predict the same for a shifted image, and is it right at every shift?

Four protocols of a shift: another crop of a larger image (Zhang, ICML 2019; Kayhan and van Gemert, CVPR 2020), a roll,
in which what leaves on one side enters on the other, and another position on an empty canvas, in which nothing is lost
and nothing is new.

Shapes: images (N, C, H, W); offsets (passes, 2 views, N, 2 axes); agreement (passes, N).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from borderless.errors import ImageError
from borderless.measures.batches import Batch, check_labels, of_each_batch
from borderless.measures.intervals import over_objects

ProtocolName = Literal["zhang2019", "kayhan2020", "circular", "canvas"]
PROTOCOLS: tuple[str, ...] = get_args(ProtocolName)
PASSES = 5
# Offsets along an axis lie in 0 to one less than this: Zhang's 256 px and Kayhan's 288 px leave crops of 224 px.
RANGE_PX = {"zhang2019": 32, "kayhan2020": 64, "circular": 32, "canvas": 64}


@dataclass(frozen=True)
class Consistency:
    """Agreement of the predictions for two views of an image.

    Attributes:
        value: The share of agreeing pairs over images and passes, in [0, 1].
        low: Lower end of its 95 % interval over images.
        high: Upper end.
        fidelity: The share in which both views agree and are right; None without labels.
        agrees: (passes, N).
    """

    value: float
    low: float
    high: float
    fidelity: float | None
    agrees: np.ndarray


@dataclass(frozen=True)
class Diagonal:
    """Accuracy over views that move along the diagonal.

    Attributes:
        value: The mean over images and offsets, in [0, 1].
        low: Lower end of its 95 % interval over images.
        high: Upper end.
        at: The accuracy at each offset.
    """

    value: float
    low: float
    high: float
    at: np.ndarray


def consistency(
    model: nn.Module,
    images: Tensor | Dataset[Any],
    labels: Tensor | None = None,
    protocol: ProtocolName = "zhang2019",
    *,
    range_px: int | None = None,
    multiple_px: int = 1,
    passes: int = PASSES,
    seed: int = 0,
    background: float | Sequence[float] = 0.0,
    batch_size: int = 64,
    workers: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> Consistency:
    """Measure how often the predicted class stays the same when an image moves.

    Under torchrun every process takes its share of the images, and all return the same. The model runs in eval mode on
    the device of its parameters.

    Args:
        model: Returns logits (N, classes).
        images: A tensor (N, C, H, W), or a data set of images or of (image, label) pairs, all equal in size.
        labels: The right classes (N,), if the data set does not have them.
        protocol: "zhang2019" and "kayhan2020": two crops, `range_px` smaller than the images; "circular": two rolls;
            "canvas": two positions on a canvas, `range_px` larger.
        range_px: Offsets are drawn from 0 to this (exclusive) along each axis; by default 32, 64, 32 and 64.
        multiple_px: Offsets are multiples of this.
        passes: Number of pairs of views per image.
        seed: Seed of the offsets, each image its own, and of the resampling.
        background: Value of the canvas: a number, or one per channel.
        batch_size: Images per pass.
        workers: Processes that load the images of a data set.
        progress: Called with the number of images that are done, and their total.

    Raises:
        ImageError: Arguments do not fit together.

    Example:
        >>> import torch, borderless as bl
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(1, 4, 3, 2, 1), torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten()
        ... )
        >>> converted = bl.convert(model, "infinite", phase="adaptive")
        >>> bl.consistency(converted, torch.rand(8, 1, 16, 16), protocol="canvas").value
        1.0
    """
    views = _Views(images, labels, protocol, range_px, multiple_px, background)
    if passes < 1 or batch_size < 1:
        raise ImageError(
            f"Expected at least one pass and a batch size of at least 1 but got passes={passes}, "
            f"batch_size={batch_size}."
        )
    predictions, labels = views.predictions(model, views.drawn(passes, seed), batch_size, workers, progress)
    agrees = predictions[:, 0] == predictions[:, 1]
    low, high = over_objects(agrees.float().mean(0).numpy(), seed)
    fidelity = None if labels is None else float((agrees & (predictions[:, 0] == labels)).float().mean())
    return Consistency(float(agrees.float().mean()), low, high, fidelity, agrees.numpy())


def diagonal(
    model: nn.Module,
    images: Tensor | Dataset[Any],
    labels: Tensor | None = None,
    protocol: ProtocolName = "zhang2019",
    *,
    range_px: int | None = None,
    seed: int = 0,
    background: float | Sequence[float] = 0.0,
    batch_size: int = 64,
    workers: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> Diagonal:
    """Measure the accuracy over the views (i, i), i from 0 to `range_px` (inclusive).

    These are 33 crops in Zhang's protocol, 65 in Kayhan's.

    Args:
        model: Returns logits (N, classes).
        images: A tensor (N, C, H, W), or a data set of images or of (image, label) pairs, all equal in size.
        labels: The right classes (N,), if the data set does not have them.
        protocol: As for `consistency`.
        range_px: The largest offset; by default as for `consistency`.
        seed: Seed of the interval's resampling.
        background: Value of the canvas: a number, or one per channel.
        batch_size: Images per pass.
        workers: Processes that load the images of a data set.
        progress: Called with the number of images that are done, and their total.

    Raises:
        ImageError: Arguments do not fit together, or there are no labels.

    Example:
        >>> import torch, borderless as bl
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten())
        >>> bl.diagonal(model, torch.rand(4, 1, 16, 16), torch.tensor([0, 1, 0, 1]), range_px=8).at.shape
        (9,)
    """
    views = _Views(images, labels, protocol, range_px, 1, background)
    steps = torch.arange(views.range_px + 1)
    offsets = torch.stack([steps, steps], 1)[:, None, None].expand(-1, 1, views.count, -1)
    predictions, labels = views.predictions(model, offsets, batch_size, workers, progress)
    if labels is None:
        raise ImageError("Expected labels, or a data set of (image, label) pairs, but got images without labels.")
    right = (predictions[:, 0] == labels).double()
    low, high = over_objects(right.mean(0).numpy(), seed)
    return Diagonal(float(right.mean()), low, high, right.mean(1).numpy())


class _Views:
    """Views of images by a protocol."""

    def __init__(
        self,
        images: Any,
        labels: Tensor | None,
        protocol: str,
        range_px: int | None,
        multiple_px: int,
        background: float | Sequence[float],
    ) -> None:
        if protocol not in PROTOCOLS:
            raise ImageError(f"Expected protocol to be one of {', '.join(PROTOCOLS)} but got {protocol!r}.")
        self.images, self.labels, self.protocol, self.background = images, labels, protocol, background
        self.count = len(images)
        if labels is not None:
            check_labels(labels, self.count)
        self.range_px = RANGE_PX[protocol] if range_px is None else range_px
        self.multiple_px = multiple_px
        if multiple_px < 1 or self.range_px < 1 or self.count < 1:
            raise ImageError(
                "Expected range_px, multiple_px and the number of images to be at least 1 but got "
                f"range_px={self.range_px}, multiple_px={multiple_px} and {self.count} images."
            )

    def drawn(self, passes: int, seed: int) -> Tensor:
        """Draw offsets (passes, 2 views, N, 2 axes): the same for an image however many come after it."""
        choices = -(-self.range_px // self.multiple_px)
        draw = torch.Generator().manual_seed(seed)
        each = [torch.randint(choices, (passes, 2, 2), generator=draw) for _ in range(self.count)]
        return torch.stack(each, 2) * self.multiple_px

    def predictions(
        self,
        model: nn.Module,
        offsets: Tensor,
        batch_size: int,
        workers: int,
        progress: Callable[[int, int], Any] | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Predict classes (passes, views, N) for offsets (passes, views, N, 2), and return them with the labels."""
        done = 0

        def of_batch(batch: Batch) -> Tensor:
            nonlocal done
            self._check_size(batch.images)
            moves = offsets[:, :, batch.start : batch.start + len(batch.images)].flatten(0, 1)
            found = torch.stack([self._predicted(model, batch.images, chosen) for chosen in moves])
            done += len(batch.images)
            if progress is not None:
                progress(done, self.count)
            return found

        found, known = of_each_batch(self.images, batch_size, model, of_batch, workers)
        predictions = torch.cat(found, 1).reshape(offsets.shape[:3])
        return predictions, known if self.labels is None else self.labels.cpu()

    def _check_size(self, images: Tensor) -> None:
        is_cropped = self.protocol in ("zhang2019", "kayhan2020")
        if is_cropped and min(images.shape[2:]) <= self.range_px:
            raise ImageError(
                f"Expected images larger than the offsets, of which a crop is left, but got {images.shape[2]} × "
                f"{images.shape[3]} pixels and offsets up to {self.range_px}; give a smaller range_px."
            )

    def _predicted(self, model: nn.Module, images: Tensor, offsets: Tensor) -> Tensor:
        pairs = cast(list[tuple[int, int]], offsets.tolist())  # pyright: ignore[reportUnknownMemberType]
        logits = model(torch.stack([self._moved(i, *pair) for i, pair in zip(images, pairs, strict=True)]))
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ImageError(f"Expected logits of shape (images, classes) but got {got} from {type(model).__name__}.")
        return logits.argmax(1).cpu()

    def _moved(self, image: Tensor, down: int, right: int) -> Tensor:
        if self.protocol == "circular":
            return image.roll((down, right), (1, 2))
        height, width = image.shape[1:]
        if self.protocol == "canvas":
            color = torch.as_tensor(self.background, dtype=image.dtype, device=image.device).reshape(-1, 1, 1)
            canvas = color.expand(len(image), height + self.range_px, width + self.range_px).clone()
            canvas[:, down : down + height, right : right + width] = image
            return canvas
        return image[:, down : down + height - self.range_px, right : right + width - self.range_px]
