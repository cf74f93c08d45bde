"""The phase of a stride that follows the map: which sublattice an adaptive phase keeps of each sample.

The one on which the map deviates most, in energy, from its background; ties follow the energy's centroid.

Shapes: N samples, D spatial axes.
"""

from collections.abc import Callable
from math import prod, sqrt
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

# Energies closer than this, relative to the largest, are equal but for rounding.
TIE = 1e-4
_ROUND_UP_ABOVE = (sqrt(5) - 1) / 2


@torch.no_grad()
def choose_phase(deviation: Tensor, axes: tuple[int, ...], start: tuple[int, ...], factor: tuple[int, ...]) -> Tensor:
    """Return (N, D): per sample, the residue class of frame indices on which the map deviates most from its background.

    The choice moves with the map, whatever is on it. Classes whose energy is within `TIE` of the largest are tied, as
    those of uniform, symmetric and periodic objects are; among them the first one is taken that follows the centroid
    of the energy. A centroid is rounded at a fraction that is the golden ratio's: symmetric objects have their centroid
    at simple fractions of a cell, and no number keeps farther from all of those.

    Args:
        deviation: (N, C, *window), the map less its background.
        axes: the spatial dimensions of `deviation`.
        start: frame indices of the window's first cell.
        factor: stride of the operation along each axis.
    """
    inner = tuple(i for i in range(1, deviation.ndim) if i not in axes)
    dtype = torch.float32 if deviation.dtype in (torch.float16, torch.bfloat16) else deviation.dtype
    if inner:
        norm = cast(Callable[..., Tensor], torch.linalg.vector_norm)  # pyright: ignore[reportUnknownMemberType]
        energy = norm(deviation, dim=inner, dtype=dtype).square()  # (N, *window)
    else:
        energy = deviation.to(dtype).square()
    energy = energy.to(torch.float32 if energy.device.type == "mps" else torch.float64)
    by_class = _energy_by_class(energy, start, factor)
    largest = by_class.amax(tuple(range(1, by_class.ndim)), keepdim=True)
    rank = torch.zeros_like(by_class, dtype=torch.int64)
    for i, (first, f) in enumerate(zip(start, factor, strict=True)):
        others = tuple(1 + j for j in range(len(factor)) if j != i)
        along = energy.sum(others) if others else energy  # (N, size)
        cells = torch.arange(first, first + along.shape[1], device=along.device, dtype=along.dtype)
        centroid = ((along * cells).sum(1) / along.sum(1)).nan_to_num()  # of an empty map: 0
        nearest = torch.ceil(centroid - _ROUND_UP_ABOVE).long()
        shape = [f if j == i else 1 for j in range(len(factor))]
        behind = (torch.arange(f, device=along.device) - nearest[:, None]).remainder(f)
        rank = rank * f + behind.reshape(-1, *shape)
    index = torch.where(by_class >= (1 - TIE) * largest, rank, prod(factor)).flatten(1).argmin(1)
    phase: list[Tensor] = []
    for f in reversed(factor):
        phase.insert(0, index % f)
        index = index // f
    return torch.stack(phase, 1)


def _energy_by_class(energy: Tensor, start: tuple[int, ...], factor: tuple[int, ...]) -> Tensor:
    """Return (N, *factor): the energy (N, *window) summed over each residue class of frame indices."""
    padding: list[int] = []
    folded: list[int] = [energy.shape[0]]
    for first, size, f in reversed(list(zip(start, energy.shape[1:], factor, strict=True))):
        before = first % f
        blocks = -(-(before + size) // f)
        padding += [before, blocks * f - before - size]
        folded[1:1] = [blocks, f]
    return F.pad(energy, padding).reshape(folded).sum([1 + 2 * i for i in range(len(factor))])
