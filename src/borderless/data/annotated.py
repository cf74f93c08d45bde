"""Annotated pictures as a network sees them: whole, with their boxes or the labels of their pixels.

Zones are about the edge of a picture, so nothing is cut off: the longer side is resized, the shorter one in proportion.

Shapes: images (C, H, W); boxes (n, 4), left, top, right, bottom in pixels of the image; labels of pixels (H, W).
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from borderless.data import imagenet
from borderless.data.annotations import read_annotations
from borderless.data.annotations.objects import Annotation, Annotations
from borderless.data.own_inputs import preprocessed
from borderless.data.pictures import Pictures, names_in, opened
from borderless.errors import DataError

# How much larger than an object a square around it is.
_AROUND = 1.25
# The shorter side is a multiple of this, which most networks need.
_MULTIPLE_PX = 32


@dataclass(frozen=True)
class AnnotatedImage:
    """One picture as a network sees it.

    Attributes:
        name: Its file.
        image: (C, H, W).
        boxes: (n, 4).
        labels: (n,), of the boxes.
        is_ignored: (n,), whether an object counts neither for nor against a detector.
        pixels: (H, W), the label of each pixel, -1 of one that counts for nothing; None without masks.
    """

    name: str
    image: Tensor
    boxes: np.ndarray
    labels: np.ndarray
    is_ignored: np.ndarray
    pixels: np.ndarray | None


@dataclass(frozen=True)
class AnnotatedPictures:
    """Some pictures of a folder with their annotations, read one after the other.

    Attributes:
        pictures: How they become the input of a network.
        annotations: All that are known.
        chosen: Those that are used.
    """

    pictures: Pictures
    annotations: Annotations
    chosen: tuple[Annotation, ...]

    def __len__(self) -> int:
        return len(self.chosen)

    def read(self, left_out: list[str], with_masks: bool = False) -> Iterator[AnnotatedImage]:
        """Yield the pictures; one that cannot be used is added to `left_out` with the reason."""
        for one in self.chosen:
            try:
                yield self._image(one, with_masks)
            except DataError as error:
                left_out.append(str(error))

    def _image(self, one: Annotation, with_masks: bool) -> AnnotatedImage:
        assert self.pictures.folder is not None
        picture = opened(self.pictures.folder / one.name)[0]
        pixels = one.mask(picture.size) if with_masks and one.mask is not None else None
        image = self._input(picture)
        height, width = image.shape[1:]
        scale = np.array([width / picture.width, height / picture.height] * 2)
        if pixels is not None and pixels.shape != (height, width):
            resized = Image.fromarray(pixels.astype(np.int32)).resize((width, height), Image.Resampling.NEAREST)
            pixels = np.asarray(resized).astype(int)
        return AnnotatedImage(one.name, image, one.boxes * scale, one.labels, one.is_ignored, pixels)

    def _input(self, picture: Image.Image) -> Tensor:
        if self.pictures.preprocess is not None:
            return preprocessed(picture, self.pictures.preprocess)
        v2 = imagenet.transforms()
        sides = _sides((picture.height, picture.width), self.pictures.size_px)
        steps = [v2.ToImage(), v2.Resize(list(sides), antialias=True)]
        steps += imagenet.normalized(self.pictures.mean, self.pictures.deviation)
        return torch.as_tensor(v2.Compose(steps)(picture)).as_subclass(Tensor)

    def objects(self, most_px: int, most: int) -> Tensor:
        """Return squares (M, C, side, side) around one object of each picture, as far as it fits into them.

        They are a quarter larger than the middle one of the objects, so that they reach far toward the border, but not
        larger than `most_px`. A square around an object near the edge lies within the picture, so that the object is
        not in its middle.
        """
        found: list[Tensor] = []
        read = list(self.read([]))
        boxes = np.concatenate([one.boxes for one in read] or [np.zeros((0, 4))])
        if not len(boxes):
            return torch.empty(0)
        longer = (boxes[:, 2:] - boxes[:, :2]).max(1)
        side = max(2, min(most_px, round(_AROUND * float(np.median(longer)))))
        for one in read:
            size = one.image.shape[1:]
            for left, top, right, bottom in one.boxes[~one.is_ignored]:
                spans = ((top, bottom), (left, right))
                fits = all(b - a <= side <= n for (a, b), n in zip(spans, size, strict=True))
                if fits:
                    starts = [
                        int(np.clip((a + b - side) // 2, 0, n - side)) for (a, b), n in zip(spans, size, strict=True)
                    ]
                    rows, columns = (slice(at, at + side) for at in starts)
                    found.append(one.image[:, rows, columns])
                    break
            if len(found) == most:
                break
        return torch.stack(found) if found else torch.empty(0)


def annotated_pictures(
    pictures: Pictures, path: Path | str, class_names: Sequence[str] = (), seed: int = 0
) -> AnnotatedPictures:
    """Draw as many annotated pictures from the folder of `pictures` as these are.

    Args:
        pictures: Of a folder; says also how pictures become inputs.
        path: Annotations, see `read_annotations`.
        class_names: In the order of the network's labels.
        seed: Draws them.

    Raises:
        DataError: The pictures are of no folder, or the annotations cannot be used.
    """
    if pictures.folder is None:
        raise DataError("Expected a folder of images with annotations but got none; give both.")
    found = read_annotations(path, names_in(pictures.folder), class_names)
    drawn = random.Random(seed).sample(found.pictures, min(len(found.pictures), len(pictures)))
    return AnnotatedPictures(pictures, found, tuple(drawn))


def _sides(size: tuple[int, int], longer_px: int) -> tuple[int, int]:
    """Return height and width, the longer side as asked for.

    >>> _sides((480, 640), 320), _sides((64, 64), 48)
    ((256, 320), (48, 48))
    """
    whole = max(size)
    height, width = (
        longer_px
        if side == whole
        else min(longer_px, max(_MULTIPLE_PX, round(longer_px * side / whole / _MULTIPLE_PX) * _MULTIPLE_PX))
        for side in size
    )
    return height, width
