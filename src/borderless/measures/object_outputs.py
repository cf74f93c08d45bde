"""Evaluate a model on objects at positions of photographs and canvases, and read what belongs to the object.

Shapes: objects (N, C, h, w); positions (P, 2) of their upper left pixels; values (P, N, ...), read by a comparison.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from borderless.measures.comparisons import CLASSES, Compared, OutputComparison, joined
from borderless.measures.programs import is_program
from borderless.placement.place import place
from borderless.runtime.evaluation import evaluating

Background = float | Sequence[float] | Tensor


def snapped(where: np.ndarray, step: Sequence[int]) -> np.ndarray:
    """Return positions (P, 2) moved up and left to multiples of `step` pixels, each once, the first one first."""
    return np.array([*dict.fromkeys(tuple(position) for position in (where // step * step).tolist())])


def on_photographs(
    model: nn.Module,
    objects: Tensor,
    where: np.ndarray,
    photographs: Tensor,
    comparison: OutputComparison = CLASSES,
    batch_size: int = 8,
    progress: Callable[[int, int], Any] | None = None,
) -> Compared:
    """Compare outputs for objects at positions (P, 2) of a photograph with those at the first position.

    Args:
        model: Returns what `comparison` reads, by default logits (N, classes).
        objects: (N, C, h, w).
        where: (P, 2), positions.
        photographs: (N, C, H, W), one for each object.
        comparison: Says what the outputs at two positions have in common.
        batch_size: Photographs per pass, where an output has a cell for each part of the image.
        progress: Called with the number of objects done, and of all.
    """
    device = device_of(model, objects)
    found: list[Compared] = []
    with evaluating(model):
        for i, (one, photograph) in enumerate(zip(objects.to(device), photographs.to(device), strict=True)):
            size = (int(photograph.shape[1]), int(photograph.shape[2]))
            if comparison.is_dense or is_program(model):
                values = on_canvases(model, one[None], where, size, photograph, comparison, batch_size)
            else:
                outputs = place(model, one[None], torch.as_tensor(where), size, photograph)
                values = outputs.double().cpu().numpy()
            found.append(comparison.compare(values))
            if progress is not None:
                progress(i + 1, len(objects))
    return joined(found)


def on_canvases(
    model: nn.Module,
    objects: Tensor,
    where: np.ndarray,
    canvas: tuple[int, int],
    around: Background,
    comparison: OutputComparison = CLASSES,
    batch_size: int | None = None,
) -> np.ndarray:
    """Return what `comparison` reads (positions, objects, ...) of the outputs for canvases that are run whole.

    Args:
        model: Returns what `comparison` reads, by default logits (N, classes).
        objects: (N, C, h, w).
        where: (P, 2), positions.
        canvas: Size of the canvas (height, width).
        around: Value of the canvas: a number, one per channel, or an image (C, height, width).
        comparison: Reads the output.
        batch_size: Canvases per pass; by default those of all objects at one position.
    """
    device = device_of(model, objects)
    pairs = [(int(row), int(column)) for row, column in where]
    per_pass = max(1, (batch_size or len(objects)) // len(objects))
    found: list[Tensor] = []
    with torch.no_grad():
        for start in range(0, len(pairs), per_pass):
            some = pairs[start : start + per_pass]
            outputs = model(canvases(objects, np.array(some), canvas, around).to(device))
            # Those of a converted model are tensors of another kind until they are read.
            for position, one in zip(some, outputs.split(len(objects)), strict=True):
                read = comparison.read(one, position, objects.shape[2:], canvas)
                found.append(read.float().cpu() if comparison.is_dense else read.double().cpu())
    return torch.stack(found).numpy()


def canvases(objects: Tensor, where: np.ndarray, canvas: tuple[int, int], around: Background) -> Tensor:
    """Return images (positions × objects, C, *canvas), each object at each position."""
    empty = torch.as_tensor(around, dtype=objects.dtype, device=objects.device)
    empty = empty[None] if empty.ndim == 3 else empty.reshape(1, -1, 1, 1)
    images = empty.expand(len(where) * len(objects), objects.shape[1], *canvas).clone()
    height, width = objects.shape[2:]
    for i, (row, column) in enumerate(where):
        images[i * len(objects) : (i + 1) * len(objects), :, row : row + height, column : column + width] = objects
    return images


def device_of(model: nn.Module, otherwise: Tensor) -> torch.device:
    """Return the device of a model's parameters; of one without parameters, that of `otherwise`."""
    return next((parameter.device for parameter in model.parameters()), otherwise.device)
