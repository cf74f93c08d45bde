"""Change images a little and count how often the prediction changes: a baseline for changes of the position.

Three changes: JPEG compression, Gaussian noise whose root mean square equals what JPEG changes in the same image, and a
shift of the object by one pixel. The same images, without the changes, give the predictions to compare with.

Shapes: images (N, C, H, W); objects (N, C, h, w).
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from borderless.errors import ImageError
from borderless.measures.comparisons import CLASSES, OutputComparison
from borderless.measures.prediction_changes import NOTHING_DETECTED, Share, share
from borderless.runtime.evaluation import evaluating

QUALITY = 50
_NOISES = 4
# Offsets of the object, (rows, columns).
_NEIGHBORS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0))


@dataclass(frozen=True)
class Fragility:
    """Shares of predictions that change.

    Attributes:
        jpeg: Under JPEG compression of quality `QUALITY`.
        noise: Under Gaussian noise of the same root mean square.
        one_pixel: When the object moves by one pixel, in eight directions.
        rms: Root mean square of the change by JPEG and by noise, relative to the range of an image's values.
        quality: Of JPEG.
    """

    jpeg: Share
    noise: Share
    one_pixel: Share
    rms: float
    quality: int = QUALITY


def fragility(
    model: nn.Module,
    objects: Tensor,
    position: tuple[int, int],
    photographs: Tensor,
    *,
    comparison: OutputComparison = CLASSES,
    batch_size: int = 8,
    seed: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> Fragility:
    """Measure how often small changes of objects on photographs change the prediction.

    Args:
        model: Returns what `comparison` reads, by default logits (N, classes).
        objects: (N, C, h, w).
        position: (row, column) of the objects' upper left pixel on their photographs.
        photographs: (N, C, H, W).
        comparison: Says what the outputs for two images have in common.
        batch_size: Images per pass.
        seed: Draws the noise, and resamples for the intervals.
        progress: Called with the number of objects done, and of all.

    Raises:
        ImageError: A detector finds none of the objects as they are.
    """
    device = next((parameter.device for parameter in model.parameters()), objects.device)
    draw = torch.Generator().manual_seed(seed)
    flips: dict[str, list[float]] = {"jpeg": [], "noise": [], "one_pixel": []}
    changes: list[float] = []
    with evaluating(model):
        for i, (one, photograph) in enumerate(zip(objects, photographs, strict=True)):
            image = scene(one, photograph, position)
            compressed = jpeg(image)
            rms = float((compressed - image).square().mean().sqrt())
            changes.append(rms / max(float(image.max() - image.min()), 1e-30))
            around = [(position[0] + row, position[1] + column) for row, column in _NEIGHBORS]
            moved = [there for there in around if _fits(one, photograph, there)]
            noises = [image + rms * torch.randn(image.shape, generator=draw) for _ in range(_NOISES)]
            views = {"jpeg": [compressed], "noise": noises, "one_pixel": [scene(one, photograph, m) for m in moved]}
            stacked = torch.stack([image, *(view for group in views.values() for view in group)])
            at = [position] * (len(stacked) - len(moved)) + moved
            size = one.shape[1:], photograph.shape[1:]
            values: list[Tensor] = []
            for start in range(0, len(stacked), batch_size):
                outputs = model(stacked[start : start + batch_size].to(device))
                for output, there in zip(outputs.split(1), at[start : start + batch_size], strict=True):
                    values.append(comparison.read(output, there, *size).double().cpu())
            start = 1
            for differs in comparison.compare(torch.stack(values).numpy()).differs.T:  # none where nothing is detected
                for name, group in views.items():
                    flips[name].append(float(differs[start : start + len(group)].mean()) if group else 0.0)
                    start += len(group)
            if progress is not None:
                progress(i + 1, len(objects))
    if not flips["jpeg"]:
        raise ImageError(NOTHING_DETECTED)
    shares = {name: share(np.array(values), seed) for name, values in flips.items()}
    rms = float(np.mean(changes))
    return Fragility(jpeg=shares["jpeg"], noise=shares["noise"], one_pixel=shares["one_pixel"], rms=rms)


def scene(one: Tensor, photograph: Tensor, position: tuple[int, int]) -> Tensor:
    """Return a copy of a photograph (C, H, W) with an object (C, h, w) on it."""
    found, (row, column) = photograph.clone(), position
    found[:, row : row + one.shape[1], column : column + one.shape[2]] = one
    return found


def jpeg(image: Tensor, quality: int = QUALITY) -> Tensor:
    """Return an image (C, H, W) after JPEG compression: of color if it has three channels, else channel by channel.

    Its range of values is scaled to 0 to 255 for the compression, and back.
    """
    low, high = float(image.min()), float(image.max())
    span = max(high - low, 1e-30)
    levels = ((image - low) / span * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    parts = [levels] if levels.shape[2] == 3 else [levels[:, :, i] for i in range(levels.shape[2])]
    found: np.ndarray = np.dstack([_compressed(part, quality) for part in parts]).astype(np.float32)
    return (torch.as_tensor(found).permute(2, 0, 1) / 255 * span + low).to(image.dtype)


def _compressed(levels: np.ndarray, quality: int) -> np.ndarray:
    from PIL import Image  # not for whoever only imports the measures

    data = io.BytesIO()
    Image.fromarray(levels).save(data, format="JPEG", quality=quality)
    with Image.open(data) as image:
        return np.asarray(image)


def _fits(one: Tensor, photograph: Tensor, position: tuple[int, int]) -> bool:
    return all(
        0 <= at <= whole - part for at, whole, part in zip(position, photograph.shape[1:], one.shape[1:], strict=True)
    )
