"""Positions of an object on a canvas at which a model is evaluated: on a grid, whole strides apart, between strides.

Shapes: room, the largest position (row, column) at which the object still fits; positions (P, 2), (row, column) of the
object's upper left pixel, the middle one first.
"""

from collections.abc import Sequence

import numpy as np


def middle_of(room: Sequence[int]) -> tuple[int, ...]:
    """Return the position with which all others are compared."""
    return tuple(n // 2 for n in room)


def on_grid(room: Sequence[int], across: int) -> np.ndarray:
    """Return the middle and a grid of `across` × `across` positions from edge to edge."""
    return _with_middle(room, _grid([np.linspace(0, n, across).round().astype(int) for n in room]))


def whole_strides_apart(room: Sequence[int], strides: Sequence[int], across: int) -> np.ndarray:
    """Return the middle and at most `across` × `across` positions a whole number of `strides` from it."""
    axes: list[Sequence[int] | np.ndarray] = []
    for middle, most, stride in zip(middle_of(room), room, strides, strict=True):
        steps = np.arange(-(middle // stride), (most - middle) // stride + 1)
        chosen = np.linspace(0, len(steps) - 1, min(across, len(steps))).round().astype(int)
        axes.append([int(middle + stride * steps[i]) for i in chosen])
    return _with_middle(room, _grid(axes))


def between_strides(room: Sequence[int], strides: Sequence[int], count: int, seed: int) -> np.ndarray:
    """Return the middle and positions less than one stride apart around it: all, or `count` that `seed` draws."""
    axes: list[Sequence[int] | np.ndarray] = []
    for middle, most, stride in zip(middle_of(room), room, strides, strict=True):
        start = max(0, min(middle - stride // 2, most + 1 - stride))
        axes.append(np.arange(start, min(start + stride, most + 1)))
    every = _grid(axes)
    if len(every) > count:
        every = every[np.sort(np.random.default_rng(seed).permutation(len(every))[:count])]
    return _with_middle(room, every)


def _with_middle(room: Sequence[int], others: np.ndarray) -> np.ndarray:
    """Return the middle position, then the others, each once."""
    middle = middle_of(room)
    rest = [tuple(position) for position in others.tolist() if tuple(position) != middle]
    return np.array([middle, *dict.fromkeys(rest)])


def _grid(axes: Sequence[Sequence[int] | np.ndarray]) -> np.ndarray:
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
