"""Tile sizes for a bound on memory, from a plan."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from torch import nn

from borderless.engine.geometry import Interval
from borderless.errors import ImageError
from borderless.partition.cost import Cost, cost, cost_alone, whole_cost
from borderless.partition.plan import read_by
from borderless.partition.record import Recording, record

# A run holds more than its maps and rims: padded copies, and results before they are cut. Measured: up to 1.8 times.
HEADROOM = 2
_SMALLEST = 16  # pixels


def choose_tile(
    model: nn.Module,
    shape: Sequence[int],
    memory: int,
    *,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> tuple[int, ...]:
    """Return the largest tile, in pixels an axis, with which carried tiles of `model` stay within a bound on memory.

    It may be the whole image, or strips of full width. The bound is for feature maps and what is kept from tile to
    tile; the model, the image and the whole output come on top, and so do maps that wait at operations over all of
    space, which can be put on disk.

    Args:
        model: in evaluation mode.
        shape: of the image, (N, C, *space).
        memory: in bytes.
        args: what the model takes after the image.
        kwargs: what it takes by name.

    Raises:
        ImageError: the bound is too tight for any tile; the text says what the smallest takes.
        UnsupportedOperation: no part of an image is exact; the text names the module.
    """
    recording = record(model, shape, args, kwargs)
    needs = 0
    for tile in tiles_by_size(recording.size):
        found = tile_cost(recording, tile)
        needs = HEADROOM * (found.maps + found.rims)
        if needs <= memory:
            return tile
    raise ImageError(
        f"Expected memory for at least a tile of {' × '.join(map(str, tile))} pixels of an image of "
        f"{' × '.join(map(str, recording.size))}, which takes {needs:,} bytes, but got {memory:,} bytes; give more"
    )


def tiles_by_size(size: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield the whole image, strips along the first axis and cubes, of steps that are powers of two, largest first."""
    steps = [2**k for k in range(_SMALLEST.bit_length() - 1, max(size).bit_length())]
    strips = [(min(step, size[0]), *size[1:]) for step in steps]
    cubes = [tuple(min(step, n) for n in size) for step in steps]
    yield from sorted({tuple(size), *strips, *cubes}, key=lambda tile: (prod(tile), tile), reverse=True)


def tile_cost(recording: Recording, tile: Sequence[int]) -> Cost:
    """Return what carried tiles of a size cost."""
    if all(step >= n for step, n in zip(tile, recording.size, strict=True)):
        return whole_cost(recording)
    return cost(recording, [_regular(n, step) for n, step in zip(recording.size, tile, strict=True)])


def parts_cost(recording: Recording, tile: Sequence[int]) -> Cost:
    """Return what tiles of a size cost that run each by itself, with the pixels around them that their outputs read."""
    cuts = [_regular(n, step) for n, step in zip(recording.size, tile, strict=True)]
    reads = [[read_by(recording, axis, interval) for interval in along] for axis, along in enumerate(cuts)]
    return cost_alone(recording, reads)


def _regular(size: int, step: int) -> list[Interval]:
    return [(a, min(size, a + step)) for a in range(0, size, step)]
