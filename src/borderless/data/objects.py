"""Small objects with classes, on an empty canvas: tiles of photographs, whose class is the photograph they come from.

Each photograph inside scikit-image is cut into 6 × 6 tiles; a tile is in one of the three splits alone. In training a
window of the tile is drawn anew in each epoch, elsewhere it is the tile's middle. Nothing is downloaded.

Shapes: tiles (TILE_PX, TILE_PX, 3) in uint8; items (image (3, canvas, canvas), label), 0 around the object.
"""

import itertools

import numpy as np

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


def on_canvas(
    objects: Labeled, canvas_px: int, corner: tuple[int, int] | None = None, in_training: bool = False
) -> Labeled:
    """Return tiles as objects of OBJECT_PX, their upper left pixel at `corner` of an empty canvas; None: the middle."""
    room = canvas_px - OBJECT_PX
    top, left = corner or (room // 2, room // 2)
    v2 = imagenet.transforms()
    window = [v2.RandomCrop(OBJECT_PX), v2.RandomHorizontalFlip()] if in_training else [v2.CenterCrop(OBJECT_PX)]
    steps = [
        v2.ToImage(),
        *window,
        *imagenet.normalized(),
        v2.Pad([left, top, room - left, room - top]),
    ]
    return objects.through(v2.Compose(steps), is_random=in_training)


def edges(canvas_px: int) -> list[tuple[int, int]]:
    """Return the corners of objects that touch the canvas's edge: at its corners and the middle of its sides."""
    positions = (0, (canvas_px - OBJECT_PX) // 2, canvas_px - OBJECT_PX)
    return [(row, column) for row in positions for column in positions if (row, column) != (positions[1], positions[1])]


def _tiles(name: str) -> list[np.ndarray]:
    image = photograph(name)
    rows, columns = (np.linspace(0, side, ACROSS + 1).round().astype(int).tolist() for side in image.size[::-1])
    return [
        np.asarray(image.crop((left, top, right, bottom)).resize((TILE_PX, TILE_PX)))
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)
    ]
