"""Objects with classes at any position of a canvas, on black or on photographs.

The objects are real images: handwritten digits, tiles of photographs, or a labeled data set. The scenes are made: an
object lies at a position of a black canvas, or of a photograph, which shows through where the object is black. The
photographs behind training, validation and test scenes are different ones.

A scene moves in two ways. As a *crop*, the photograph moves with the object, as when a camera turns: random
translations of training are such crops. In a *motion*, the object moves over a photograph that stays. On black both are
the same.

Shapes: objects (n, channels, side, side) in [0, 1]; positions (row, column) of an object's upper left pixel; images
(3, canvas, canvas).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from borderless.data import imagenet
from borderless.data.choices import Behind, TrainedAt
from borderless.data.digits import load_digits, split_digits
from borderless.data.items import ClassSplit, DrawnByEpoch
from borderless.data.labeled import Labeled, LabeledSplit, load_labeled
from borderless.data.objects import photograph_tiles
from borderless.data.photos import square_cut
from borderless.data.pictures import PHOTOGRAPHS, photograph

DIGIT_PX, OBJECT_PX = 20, 28
# Positions per axis at which an object is tested: both edges, and every position relative to a stride of 4.
TESTED = 5
# Of the photographs; the rest is behind test scenes.
_TRAINING, _VALIDATION = 8, 4
# Of the columns that an object may have, with a location bias.
_LEFT = 1 / 4


@dataclass
class PlacedObjects(DrawnByEpoch, Dataset[tuple[Tensor, int]]):
    """Items (image, label): each object at its own position.

    Attributes:
        objects: Images of the objects.
        labels: The class of each (n,).
        positions: The position of each (n, 2).
        canvas_px: Height and width of the scenes.
        photographs: What is behind each object (n, 3, wide, wide), where wide is twice the canvas less the object;
            None: black.
        translation_px: Largest random translation along each axis, drawn for each item and epoch; 0: none.
    """

    objects: Tensor
    labels: Tensor
    positions: Tensor
    canvas_px: int
    photographs: Tensor | None = None
    translation_px: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        position = self._translated(index) if self.translation_px else self.positions[index]
        return self._image(index, position, position), int(self.labels[index])

    @property
    def room_px(self) -> int:
        """The last position along each axis."""
        return self.canvas_px - self.objects.shape[-1]

    def tested_positions(self) -> Tensor:
        """Return TESTED × TESTED positions, row by row, from edge to edge."""
        along = torch.linspace(0, self.room_px, TESTED).round().long()
        return torch.cartesian_prod(along, along)

    def moved(self, position: Tensor) -> Tensor:
        """Return all scenes with the object at `position`, over the photograph as it is: (n, 3, canvas, canvas)."""
        return torch.stack([self._image(i, position, own) for i, own in enumerate(self.positions)])

    def cropped(self, position: Tensor) -> Tensor:
        """Return all scenes with the object at `position`, and the photograph moved with it: (n, 3, canvas, canvas)."""
        return torch.stack([self._image(i, position, position) for i in range(len(self))])

    def _image(self, index: int, position: Tensor, anchor: Tensor) -> Tensor:
        """Return a scene; anchor: the object's position in the crop of the photograph that is shown."""
        thing, side, canvas = self.objects[index], self.objects.shape[-1], self.canvas_px
        if self.photographs is None:
            image = thing.new_zeros(3, canvas, canvas)
        else:
            top, left = (self.room_px - anchor).tolist()
            image = self.photographs[index, :, top : top + canvas, left : left + canvas].clone()
        row, column = position.tolist()
        behind = image[:, row : row + side, column : column + side]
        behind.copy_(torch.where(thing.amax(0) > 0, thing, behind))
        return image

    def _translated(self, index: int) -> Tensor:
        draw = torch.Generator().manual_seed(self.item_seed(index))
        low = (self.positions[index] - self.translation_px).clamp(min=0)
        high = (self.positions[index] + self.translation_px).clamp(max=self.room_px)
        return low + (torch.rand(2, generator=draw) * (high - low + 1)).long()


def load_objects(kind: str, data: Path | None, seed: int) -> LabeledSplit:
    """Return objects with classes: "digits", "tiles", or the images of the data set in the folder `data`.

    Tiles of training and test are different parts of the same photographs, which are their classes.
    """
    if data is not None:
        return load_labeled(data, seed=seed)
    if kind == "tiles":
        return photograph_tiles(seed)
    split = split_digits(load_digits(DIGIT_PX), seed)
    train, validation, test = (
        Labeled(part.images[:, None], part.labels.tolist()) for part in (split.train, split.validation, split.test)
    )
    return ClassSplit(train, validation, test, tuple("0123456789"))


def scenes(
    objects: Labeled,
    canvas_px: int,
    seed: int,
    *,
    at: TrainedAt = "anywhere",
    behind: Behind = "black",
    names: Sequence[str] = (),
    translation_px: int = 0,
) -> PlacedObjects:
    """Return a scene for each object.

    Args:
        objects: Images with labels.
        canvas_px: Height and width of the scenes.
        seed: Draws positions, cuts of photographs, and translations.
        at: "left" draws columns from the left quarter of all positions.
        behind: What is behind the objects.
        names: The photographs that they may be on.
        translation_px: Largest random translation along each axis.
    """
    images = torch.stack([_object(image) for image in objects.images])
    room_px = canvas_px - images.shape[-1]
    draw = torch.Generator().manual_seed(seed)
    last = torch.tensor([room_px, int(room_px * _LEFT) if at == "left" else room_px])
    positions = (torch.rand(len(images), 2, generator=draw) * (last + 1)).long()
    photographs = None if behind == "black" else _cuts(names, len(images), canvas_px + room_px, seed)
    labels = torch.as_tensor(objects.labels)
    return PlacedObjects(images, labels, positions, canvas_px, photographs, translation_px, seed=seed)


def photograph_split(seed: int) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the photographs behind training, validation and test scenes."""
    names = random.Random(seed).sample(PHOTOGRAPHS, len(PHOTOGRAPHS))
    second = _TRAINING + _VALIDATION
    return tuple(names[:_TRAINING]), tuple(names[_TRAINING:second]), tuple(names[second:])


def _object(image: object) -> Tensor:
    """Return an image as an object: in [0, 1], of OBJECT_PX unless it is a tensor, which stays as it is."""
    if isinstance(image, Tensor):
        return image
    v2 = imagenet.transforms()
    steps = [v2.ToImage(), v2.Resize(OBJECT_PX, antialias=True), v2.CenterCrop(OBJECT_PX)]
    opened = Labeled([image], [0], v2.Compose([*steps, v2.ToDtype(torch.float32, scale=True)]))[0][0]
    return torch.as_tensor(opened)


def _cuts(names: Sequence[str], count: int, size_px: int, seed: int) -> Tensor:
    """Return squares cut at random from photographs, in turn: (count, 3, size_px, size_px) in [0, 1]."""
    draw, v2 = random.Random(seed), imagenet.transforms()
    images = [photograph(name) for name in names]
    shown = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    return torch.stack(
        [torch.as_tensor(shown(square_cut(images[i % len(images)], size_px, size_px, draw))) for i in range(count)]
    )
