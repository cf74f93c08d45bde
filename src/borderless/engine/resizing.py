"""Interpolation by any factor as taps: which input cells each output of an axis reads, and by which weights.

The formulas, and the precision in which they are computed, are those of PyTorch's CPU kernels, so that an output does
not depend on how much of the input is at hand.
"""

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from borderless.engine.geometry import DECIDED, Interval, Keep

LINEAR = ("linear", "bilinear", "trilinear")
NEAREST = ("nearest", "nearest-exact")
MODES = (*NEAREST, *LINEAR, "bicubic", "area")
_CUBIC = -0.75


@dataclass(frozen=True)
class Resize:
    """One axis of `n` cells that is interpolated to `outputs`: each output is a weighted sum of a few inputs.

    scale: the factor that the model gave; None where it gave a size. mode: one of `MODES`. number: the type in which
    positions are computed.
    """

    n: int
    outputs: int
    scale: float | None
    mode: str
    corners: bool
    number: type

    def frame(self, n: int) -> int:  # noqa: ARG002  it is made for one size
        """Return how many outputs there are."""
        return self.outputs

    def kept(self, window: Interval, n: int, keep: Keep, reach: int | None = None) -> Interval:  # noqa: ARG002
        """Return the outputs that read nothing outside of `window` ("inside"), or all."""
        if keep not in DECIDED:
            return 0, self.outputs
        every = range(self.outputs)
        first = bisect_left(every, window[0], key=lambda output: self.needed((output, output + 1))[0])
        return first, bisect_left(every, window[1], key=lambda output: self.needed((output, output + 1))[1] - 1)

    def needed(self, outputs: Interval) -> Interval:
        """Return the inputs that a non-empty interval of outputs reads."""
        first, stop = outputs
        return int(self.taps((first, first + 1))[0].min()), int(self.taps((stop - 1, stop))[0].max()) + 1

    def run(self, cells: Tensor, axis: int, start: int, outputs: Interval) -> Tensor:
        """Return the `outputs` along `axis`, of cells whose first one has the index `start`."""
        indices, weights = self.taps(outputs)
        result = None
        for taps, weight in zip(indices.T, weights.T, strict=True):
            part = cells.index_select(axis, torch.as_tensor(taps - start, device=cells.device))
            if indices.shape[1] > 1:
                shape = [-1 if i == axis else 1 for i in range(cells.ndim)]
                part = part * torch.as_tensor(weight, device=cells.device).to(cells.dtype).reshape(shape)
            result = part if result is None else result + part
        assert result is not None
        return result

    def taps(self, outputs: Interval) -> tuple[np.ndarray, np.ndarray]:
        """Return the inputs that each of `outputs` reads, and their weights: two of (outputs, taps)."""
        at = np.arange(*outputs)
        if self.mode == "area":
            return _area(self.n, self.outputs, at)
        if self.mode in NEAREST:
            step = np.float32(1 / self.scale if self.scale else self.n / self.outputs)
            moved = at.astype(np.float32) + np.float32(0.5 if self.mode == "nearest-exact" else 0)
            indices = np.minimum(np.floor(moved * step).astype(np.int64), self.n - 1)
            return indices[:, None], np.ones((len(at), 1))
        number: Any = self.number
        if self.corners:
            step = number((self.n - 1) / (self.outputs - 1)) if self.outputs > 1 else number(0)
            position = at.astype(number) * step
        else:
            step = number(1 / self.scale if self.scale else self.n / self.outputs)
            position = (at.astype(number) + number(0.5)) * step - number(0.5)
        if self.mode in LINEAR:
            position = np.maximum(position, 0)
            low = np.minimum(position.astype(np.int64), self.n - 1)
            high = np.minimum(low + 1, self.n - 1)
            weight = position - low
            return np.stack([low, high], 1), np.stack([1 - weight, weight], 1)
        low = np.floor(position).astype(np.int64)
        t = position - low
        weights = np.stack([_far(t + 1), _near(t), _near(1 - t), _far(2 - t)], 1)
        return np.clip(low[:, None] + np.arange(-1, 3), 0, self.n - 1), weights


def resize(n: int, outputs: int, scale: float | None, mode: str, corners: bool, dtype: torch.dtype) -> Resize:
    """Return how an axis of `n` cells of `dtype` is interpolated to `outputs`, with the options of `Resize`."""
    return Resize(n, outputs, scale, mode, corners, np.float64 if dtype == torch.float64 else np.float32)


def _near(t: np.ndarray) -> np.ndarray:
    return ((_CUBIC + 2) * t - (_CUBIC + 3)) * t * t + 1


def _far(t: np.ndarray) -> np.ndarray:
    return ((_CUBIC * t - 5 * _CUBIC) * t + 8 * _CUBIC) * t - 4 * _CUBIC


def _area(n: int, outputs: int, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first, stop = at * n // outputs, -(-(at + 1) * n // outputs)
    taps = first[:, None] + np.arange(int((stop - first).max()))
    weights = (taps < stop[:, None]) / (stop - first)[:, None]
    return np.minimum(taps, stop[:, None] - 1), weights
