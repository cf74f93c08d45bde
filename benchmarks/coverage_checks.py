"""Checks one network of the coverage benchmark: what the engine makes of it, and how exactly.

The same object is shown at two positions in an image of zeros. Under `zero` the network must return what it does
without this library; under `infinite` its outputs for both positions must agree, where the object moves by a multiple
of the total stride (fixed phase) and by any number of pixels (adaptive phase, the samples of one batch at odd
distances). A dense output must move with the object; it is compared on the cells that both have.

Shapes: images [N, 3, H, W], clips [N, 3, T, H, W]; positions and shifts one number an axis, in pixels and frames.
"""

import itertools
import math
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import borderless as bl
from borderless.errors import BorderlessError, PositionDependentWarning
from borderless.report.provenance import commit
from coverage_networks import CLIP_FRAMES, Network, build

# The weights and objects of the tests, so that both speak of the same networks; tests are no package of the wheel.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from support.networks import patch, randomised, relative_change

LARGEST_ERROR = 1e-4
LEAST_POWER = 1e-4
CHECKS = ("zero", "infinite", "adaptive")


def check(network: Network) -> dict[str, Any]:
    """The row of `network`: its category, the largest relative errors, and what the engine said."""
    row: dict[str, Any] = {"key": network.key, "network": vars(network), "commit": commit(), "messages": []}
    started = time.perf_counter()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = randomised_network(network)
            for name, value in _errors(model, network):
                row[name] = value
            row["category"] = _category(row, [w for w in caught if issubclass(w.category, PositionDependentWarning)])
            if row["category"] == "inexact":  # a wrong rule, or roundings that the network makes grow?
                double = dict(_errors(model.double(), network, torch.float64))
                row["messages"].append("in float64: " + ", ".join(f"{name} {double[name]:.0e}" for name in CHECKS))
    except BorderlessError as error:
        row["category"] = "refused"
        row["messages"].append(f"{type(error).__name__}: {error}")
    except Exception as error:  # anything else is a bug, of the engine or of this benchmark: it goes into the table
        row["category"] = "failed"
        row["messages"].append(f"{type(error).__name__}: {error}"[:1000])
    row["messages"] += _once_a_module(w for w in caught if issubclass(w.category, PositionDependentWarning))
    row["duration_s"] = round(time.perf_counter() - started, 1)
    return row


def _once_a_module(position_reads: Iterable[warnings.WarningMessage]) -> list[str]:
    """The texts; a module warns in each pass, with the shapes of that pass."""
    texts = [str(warning.message) for warning in position_reads]
    return list({text.partition(" reads absolute position")[0]: text for text in texts}.values())


def _category(row: dict[str, Any], position_reads: list[warnings.WarningMessage]) -> str:
    if position_reads:
        return "position dependent"
    if not all(row[name] <= LARGEST_ERROR for name in CHECKS):  # a NaN is not exact either
        return "inexact"
    return "exact" if row["own_adaptive"] > LEAST_POWER and row["another"] > LEAST_POWER else "without power"


def randomised_network(network: Network) -> nn.Module:
    """As in the tests; parameters that start as a constant (layer scales of 1e-6, gains of 0) get values that count."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(network.library, network.name)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.min() == parameter.max():
                parameter.copy_(torch.rand(parameter.shape, generator=generator) + 0.5)
    scene = Scene(network)
    return randomised(model, 0, scene.images([0, 1], scene.any_places))


def _errors(model: nn.Module, network: Network, dtype: torch.dtype = torch.float32) -> Iterator[tuple[str, Any]]:
    """Largest relative errors, one after the other, so that a later failure leaves the earlier ones in the row."""
    scene = Scene(network, dtype)
    with torch.inference_mode():
        shift, any_shift = scene.shift, scene.any_shift
        images, anywhere = scene.pair_and_another(shift), scene.images([0, 0], scene.any_places)
        own = model(images)
        yield "own", moved_error(own, shift, scene.size)
        yield "own_adaptive", moved_error(model(anywhere), any_shift, scene.size)
        answers = bl.convert(model, "zero")(images)
        yield "zero", max(itertools.starmap(relative_change, zip(_tensors(own), _tensors(answers), strict=True)))

        strides = {(1,) * len(shift)}
        with bl.bordered(model, "infinite", observer=lambda event: strides.update(_stride(event, len(shift)))):
            answers = model(images)
        total_stride = tuple(math.lcm(*along) for along in zip(*strides, strict=True))
        yield "total_stride", total_stride
        if any(step % stride for step, stride in zip(shift, total_stride, strict=True)):
            shift = scene.multiple_of(total_stride)
            with bl.bordered(model, "infinite"):
                answers = model(scene.pair_and_another(shift))
        yield "shift", shift
        yield "infinite", moved_error(answers, shift, scene.size)
        yield "another", max(relative_change(leaf[:1], leaf[2:]) for leaf in _tensors(answers))

        with bl.bordered(model, "infinite", phase="adaptive"):
            answers = model(anywhere)
        yield "adaptive", moved_error(answers, any_shift, scene.size)


def _stride(event: Any, axes: int) -> list[tuple[int, ...]]:
    """Of the lattice that a sliding operation came to, in pixels; the Signal itself is not kept, which saves memory."""
    if event.signal is None or len(event.signal.lattice.stride) != axes:  # position was read; or an axis is gone
        return []
    return [tuple(int(step) for step in event.signal.lattice.stride)]


class Scene:
    """Objects on the network's canvas: 48 pixels on images, 24 pixels for 4 frames in clips of 16."""

    def __init__(self, network: Network, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype
        self.is_clip = network.family.startswith("video")
        self.object_px = 24 if self.is_clip else 48
        canvas = (network.canvas_px, network.canvas_px)
        self.size = (CLIP_FRAMES, *canvas) if self.is_clip else canvas
        self.extent = (4, 24, 24) if self.is_clip else (48, 48)
        self.first = (0, 0, 8) if self.is_clip else (0, 16)
        self.shift = (8, 32, 32) if self.is_clip else (64, 64)
        self.any_places = [(1, 3, 30), (6, 20, 11)] if self.is_clip else [(3, 40), (60, 21)]

    @property
    def any_shift(self) -> tuple[int, ...]:
        return tuple(b - a for a, b in zip(*self.any_places, strict=True))

    def pair_and_another(self, shift: Sequence[int]) -> Tensor:
        """An object, the same one moved by `shift`, and another one where the first stands."""
        moved = tuple(a + step for a, step in zip(self.first, shift, strict=True))
        return self.images([0, 0, 1], [self.first, moved, self.first])

    def multiple_of(self, stride: Sequence[int]) -> tuple[int, ...]:
        """The largest shift by multiples of `stride` that leaves the object on the canvas."""
        rooms = [n - e - a for n, e, a in zip(self.size, self.extent, self.first, strict=True)]
        shift = tuple(room // s * s for room, s in zip(rooms, stride, strict=True))
        if not any(shift):
            raise ValueError(f"the total stride {tuple(stride)} is more than the canvas {self.size} leaves room for")
        return shift

    def images(self, objects: Sequence[int], positions: Sequence[tuple[int, ...]]) -> Tensor:
        """[N, 3, *size]: sample i is object i at position i, on an empty canvas."""
        images = torch.zeros(len(objects), 3, *self.size, dtype=self.dtype)
        for image, seed, position in zip(images, objects, positions, strict=True):
            here = tuple(slice(a, a + e) for a, e in zip(position, self.extent, strict=True))
            # Frames that repeat would tie the energies of the phases in time.
            frames = [patch(self.object_px, 10 * seed + i, self.dtype) for i in range(self.extent[0])]
            image[(slice(None), *here)] = (
                torch.stack(frames, 1) if self.is_clip else patch(self.object_px, seed, self.dtype)
            )
        return images


def moved_error(answers: Any, shift: Sequence[int], size: Sequence[int]) -> float:
    """Largest relative difference between samples 0 and 1, the second moved back by `shift`, over all outputs."""
    return max(_moved_error(leaf, shift, size) for leaf in _tensors(answers))


def _moved_error(answer: Tensor, shift: Sequence[int], size: Sequence[int]) -> float:
    first, second = answer[:1], answer[1:2]
    if answer.ndim != len(size) + 2 or max(answer.shape[2:]) == 1:
        return relative_change(first, second)
    # On a coarse output an adaptive phase takes up the rest of a division: the object moves by one of two counts.
    strides = [round(n / cells) for n, cells in zip(size, answer.shape[2:], strict=True)]
    steps = [{step // s, -(-step // s)} for step, s in zip(shift, strides, strict=True)]
    return min(relative_change(*_overlap(first, second, counts)) for counts in itertools.product(*steps))


def _overlap(first: Tensor, second: Tensor, cells: Sequence[int]) -> tuple[Tensor, Tensor]:
    for axis, step in enumerate(cells, start=2):
        count = first.shape[axis] - abs(step)
        first, second = first.narrow(axis, max(-step, 0), count), second.narrow(axis, max(step, 0), count)
    return first, second


def _tensors(answers: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(answers) if isinstance(leaf, Tensor)]
