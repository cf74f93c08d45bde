"""Red left of green in the upper half (class 0), or green left of red in the lower half (class 1): 32 × 32 pixels.

The task is the order of two squares, which their position predicts as well. The dissimilar set is the test set with the
halves swapped, so that position contradicts order. Kayhan and van Gemert (CVPR 2020), Red-Green experiment: every
number below is that of their public code.

Shapes: images n × 3 × 32 × 32 in {0, 1}; labels n.
"""

from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from borderless.data.choices import SceneProtocol
from borderless.errors import DataError

PROTOCOLS: tuple[str, ...] = get_args(SceneProtocol)

SIZE_PX, SQUARE_PX = 32, 4
# The upper edge of a square: its half's middle and what is drawn around it, the last exclusive.
MIDDLES, AROUND = (7, 23), (-4, 4)
# The left edges: of the left square, exclusive; how much further right the other is at least; exclusive.
LEFT_BELOW, APART_PX, RIGHT_BELOW = 10, 5, SIZE_PX - SQUARE_PX
# Half the image, and two strides of the network: what the halves are swapped by.
SWAP_PX = 16
SIZES = {"train": 2000, "validation": 1000, "test": 1000}
# The seed that every one of the published generators starts from.
PUBLISHED_SEED = 1988

Scene = tuple[int, tuple[int, int], tuple[int, int]]
"""label, and (row, column) of the left and of the right square."""


@dataclass(frozen=True)
class Scenes:
    """Images (n, 3, height, width) and labels (n,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class RedGreen:
    """The splits; `similar` and `dissimilar` hold the same scenes, in the same order, in opposite halves."""

    train: Scenes
    validation: Scenes
    similar: Scenes
    dissimilar: Scenes


def red_green(seed: int = 0, protocol: SceneProtocol = "clean") -> RedGreen:
    """Return 2,000, 1,000 and 1,000 images, classes in turn.

    protocol: "clean": no scene is in two splits, and the seed decides. "published": as in the public code all splits
    begin
    with the same scenes, so validation and test are the first half of the training set; `seed` changes nothing.

    Raises:
        DataError: The protocol is unknown.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"Expected protocol to be one of {', '.join(PROTOCOLS)} but got {protocol!r}")
    draw = np.random.RandomState(PUBLISHED_SEED if protocol == "published" else seed)
    taken: set[Scene] = set()
    splits: dict[str, list[Scene]] = {}
    for name, count in SIZES.items():
        if protocol == "published":
            draw = np.random.RandomState(PUBLISHED_SEED)
            splits[name] = [_scene(draw, index % 2) for index in range(count)]
        else:
            splits[name] = _fresh(draw, count, taken)
            taken.update(splits[name])
    return RedGreen(
        _drawn(splits["train"]),
        _drawn(splits["validation"]),
        _drawn(splits["test"]),
        _drawn([_swapped(scene) for scene in splits["test"]]),
    )


def _fresh(draw: np.random.RandomState, count: int, taken: set[Scene]) -> list[Scene]:
    """Return scenes that are not taken; within a split one may come twice."""
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = _scene(draw, len(scenes) % 2)
        if scene not in taken:
            scenes.append(scene)
    return scenes


def _scene(draw: np.random.RandomState, label: int) -> Scene:
    """Draw a scene in the order of the published draws, so that its seed gives its images."""
    left, row = int(draw.randint(LEFT_BELOW)), _row(draw, label)
    while True:
        right, right_row = int(draw.randint(left, RIGHT_BELOW)), _row(draw, label)
        if right - left >= APART_PX:
            return label, (row, left), (right_row, right)


def _row(draw: np.random.RandomState, label: int) -> int:
    return int(draw.randint(*AROUND)) + MIDDLES[label]


def _swapped(scene: Scene) -> Scene:
    label, left, right = scene
    down = SWAP_PX if label == 0 else -SWAP_PX
    return label, (left[0] + down, left[1]), (right[0] + down, right[1])


def _drawn(scenes: list[Scene]) -> Scenes:
    images = torch.zeros(len(scenes), 3, SIZE_PX, SIZE_PX)
    for image, (label, left, right) in zip(images, scenes, strict=True):
        # Red left of green is class 0: the left square's channel is the label.
        for channel, (row, column) in ((label, left), (1 - label, right)):
            image[channel, row : row + SQUARE_PX, column : column + SQUARE_PX] = 1
    return Scenes(images, torch.tensor([label for label, _, _ in scenes]))
