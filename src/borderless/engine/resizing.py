"""Interpolation by any factor as taps: which input cells each output of an axis reads, and by which weights.

The formulas, and the precision in which they are computed, are those of PyTorch's CPU kernels, so that an output does
not depend on how much of the input is at hand.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from borderless.engine.geometry import Interval, Keep

LINEAR = ("linear", "bilinear", "trilinear")
NEAREST = ("nearest", "nearest-exact")
MODES = (*NEAREST, *LINEAR, "bicubic", "area")
_CUBIC = -0.75


@dataclass(frozen=True, eq=False)
class Resize:
    """One axis of an interpolation: output j is the sum of the inputs `indices[j]` times `weights[j]`.

    Shapes: (outputs, taps).
    """

    indices: np.ndarray
    weights: np.ndarray

    def frame(self, n: int) -> int:  # noqa: ARG002  it is made for one size
        """Return how many outputs there are."""
        return len(self.indices)

    def kept(self, window: Interval, n: int, keep: Keep, reach: int | None = None) -> Interval:  # noqa: ARG002
        """Return the outputs that read nothing outside of `window` ("inside"), or all."""
        if keep != "inside":
            return 0, len(self.indices)
        first = int(np.searchsorted(self.indices.min(1), window[0], "left"))
        return first, int(np.searchsorted(self.indices.max(1), window[1], "left"))

    def needed(self, outputs: Interval) -> Interval:
        """Return the inputs that a non-empty interval of outputs reads."""
        first, stop = outputs
        return int(self.indices[first].min()), int(self.indices[stop - 1].max()) + 1

    def run(self, cells: Tensor, axis: int, start: int, outputs: Interval) -> Tensor:
        """Return the `outputs` along `axis`, of cells whose first one has the index `start`."""
        taken = slice(*outputs)
        result = None
        for taps, weights in zip(self.indices[taken].T, self.weights[taken].T, strict=True):
            part = cells.index_select(axis, torch.as_tensor(taps - start, device=cells.device))
            if self.indices.shape[1] > 1:
                shape = [-1 if i == axis else 1 for i in range(cells.ndim)]
                part = part * torch.as_tensor(weights, device=cells.device).to(cells.dtype).reshape(shape)
            result = part if result is None else result + part
        assert result is not None
        return result


@lru_cache(1024)
def resize(n: int, outputs: int, scale: float | None, mode: str, corners: bool, dtype: torch.dtype) -> Resize:
    """Return the taps of an axis of `n` cells that is interpolated to `outputs`.

    scale: the factor that the model gave; None where it gave a size. mode: one of `MODES`. dtype: of the cells.
    """
    number = np.float64 if dtype == torch.float64 else np.float32
    at = np.arange(outputs).astype(number)
    if mode == "area":
        return _area(n, outputs)
    if mode in NEAREST:
        step = np.float32(1 / scale if scale else n / outputs)
        moved = np.arange(outputs, dtype=np.float32) + np.float32(0.5 if mode == "nearest-exact" else 0)
        indices = np.minimum(np.floor(moved * step).astype(np.int64), n - 1)
        return Resize(indices[:, None], np.ones((outputs, 1)))
    if corners:
        step = number((n - 1) / (outputs - 1)) if outputs > 1 else number(0)
        position = at * step
    else:
        step = number(1 / scale) if scale else number(n) / number(outputs)
        position = (at + number(0.5)) * step - number(0.5)
    if mode in LINEAR:
        position = np.maximum(position, 0)
        low = np.minimum(position.astype(np.int64), n - 1)
        high = np.minimum(low + 1, n - 1)
        weight = position - low
        return Resize(np.stack([low, high], 1), np.stack([1 - weight, weight], 1))
    low = np.floor(position).astype(np.int64)
    t = position - low
    weights = np.stack([_far(t + 1), _near(t), _near(1 - t), _far(2 - t)], 1)
    return Resize(np.clip(low[:, None] + np.arange(-1, 3), 0, n - 1), weights)


def _near(t: np.ndarray) -> np.ndarray:
    return ((_CUBIC + 2) * t - (_CUBIC + 3)) * t * t + 1


def _far(t: np.ndarray) -> np.ndarray:
    return ((_CUBIC * t - 5 * _CUBIC) * t + 8 * _CUBIC) * t - 4 * _CUBIC


def _area(n: int, outputs: int) -> Resize:
    at = np.arange(outputs)
    first, stop = at * n // outputs, -(-(at + 1) * n // outputs)
    taps = first[:, None] + np.arange(int((stop - first).max()))
    weights = (taps < stop[:, None]) / (stop - first)[:, None]
    return Resize(np.minimum(taps, stop[:, None] - 1), weights)
