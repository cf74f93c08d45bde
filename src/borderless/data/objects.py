"""Small objects with classes, on an empty canvas: tiles of photographs, whose class is the photograph they come from.

Each photograph inside scikit-image is cut into 6 × 6 tiles; a tile is in one of the three splits alone. In training a
window of the tile is drawn anew in each epoch, elsewhere it is the tile's middle. Nothing is downloaded.

Shapes: tiles (TILE_PX, TILE_PX, 3) in uint8; items (image (3, canvas, canvas), label), 0 around the object.
"""

import itertools
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.data import imagenet
from borderless.data.choices import OBJECT_PX
from borderless.data.items import ClassSplit
from borderless.data.labeled import Labeled, LabeledSplit
from borderless.data.pictures import PHOTOGRAPHS, photograph

ACROSS, TILE_PX = 6, 60
# Of a photograph's 36 tiles; the rest is for testing.
_TRAINING, _VALIDATION = 20, 6


def photograph_tiles(seed: int) -> LabeledSplit:
    """Return 320 tiles for training, 96 for validation and 160 for testing, of 16 classes.

    Raises:
        MissingPackage: scikit-image is not installed.
    """
    parts: list[tuple[list[np.ndarray], list[int]]] = [([], []), ([], []), ([], [])]
    draw = np.random.default_rng(seed)
    for label, name in enumerate(PHOTOGRAPHS):
        tiles = _tiles(name)
        order = draw.permutation(len(tiles))
        chosen = np.split(order, [_TRAINING, _TRAINING + _VALIDATION])
        for (images, labels), indices in zip(parts, chosen, strict=True):
            images.extend(tiles[i] for i in indices)
            labels.extend([label] * len(indices))
    train, validation, test = (Labeled(np.stack(images), labels, seed=seed) for images, labels in parts)
    return ClassSplit(train, validation, test, PHOTOGRAPHS)


def on_canvas(objects: Labeled, canvas_px: int, corner: tuple[int, int] | None = None) -> Labeled:
    """Return tiles as objects of OBJECT_PX, their upper left pixel at `corner` of an empty canvas; None: the middle."""
    v2 = imagenet.transforms()
    placed = partial(F.pad, pad=_around(canvas_px, *(corner or _middle(canvas_px))))
    return objects.through(v2.Compose([v2.ToImage(), v2.CenterCrop(OBJECT_PX), *imagenet.normalized(), placed]))


def training_objects(objects: Labeled, canvas_px: int, moves: bool) -> Labeled:
    """Return windows of tiles, drawn and flipped at random, in the middle of an empty canvas; `moves`: anywhere."""
    v2 = imagenet.transforms()
    window = [v2.ToImage(), v2.RandomCrop(OBJECT_PX), v2.RandomHorizontalFlip(), *imagenet.normalized()]
    placed = partial(_anywhere, canvas_px) if moves else partial(F.pad, pad=_around(canvas_px, *_middle(canvas_px)))
    return objects.through(v2.Compose([*window, placed]), is_random=True)


def edges(canvas_px: int) -> list[tuple[int, int]]:
    """Return the corners of objects that touch the canvas's edge: at its corners and the middle of its sides."""
    positions = (0, (canvas_px - OBJECT_PX) // 2, canvas_px - OBJECT_PX)
    return [(row, column) for row in positions for column in positions if (row, column) != (positions[1], positions[1])]


def _anywhere(canvas_px: int, image: Tensor) -> Tensor:
    """Pad an object to the canvas, at a random position."""
    return F.pad(image, _around(canvas_px, *torch.randint(canvas_px - OBJECT_PX + 1, (2,)).tolist()))


def _middle(canvas_px: int) -> tuple[int, int]:
    return (canvas_px - OBJECT_PX) // 2, (canvas_px - OBJECT_PX) // 2


def _around(canvas_px: int, top: int, left: int) -> list[int]:
    """Return the zeros left of, right of, above and below an object, the order of PyTorch."""
    room = canvas_px - OBJECT_PX
    return [left, room - left, top, room - top]


def _tiles(name: str) -> list[np.ndarray]:
    image = photograph(name)
    rows, columns = (np.linspace(0, side, ACROSS + 1).round().astype(int).tolist() for side in image.size[::-1])
    return [
        np.asarray(image.crop((left, top, right, bottom)).resize((TILE_PX, TILE_PX)))
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)
    ]
