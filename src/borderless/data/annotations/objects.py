"""Hold what people annotated on pictures, and find the picture that an annotation is about.

Shapes: boxes (n, 4), left, top, right, bottom in pixels of the picture; masks (height, width), a label for each pixel.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

import numpy as np

from borderless.errors import DataError
from borderless.runtime.files import printable

Kind = Literal["COCO", "VOC", "masks"]
# The label of a pixel that counts for nothing, such as a contour of VOC.
IGNORED = -1


@dataclass(frozen=True)
class Annotation:
    """Known facts of one picture.

    Attributes:
        name: Its file, relative to the folder of pictures.
        boxes: (n, 4), of its objects.
        labels: (n,), their labels.
        is_ignored: (n,), whether an object counts neither for nor against a detector: a crowd, or a difficult one.
        mask: Reads the label of each pixel, given the width and height of the picture; None without masks.
    """

    name: str
    boxes: np.ndarray
    labels: np.ndarray
    is_ignored: np.ndarray
    mask: Callable[[tuple[int, int]], np.ndarray] | None = None


@dataclass(frozen=True)
class Annotations:
    """Known facts of the pictures of a folder.

    Attributes:
        kind: The format.
        pictures: One for each annotated picture that is there.
        class_names: Of each label.
        left_out: What could not be used, with the reason.
    """

    kind: Kind
    pictures: tuple[Annotation, ...]
    class_names: Mapping[int, str]
    left_out: tuple[str, ...] = ()

    @property
    def has_boxes(self) -> bool:
        """Whether objects have boxes."""
        return self.kind != "masks"

    @property
    def has_masks(self) -> bool:
        """Whether pixels have labels."""
        return any(one.mask is not None for one in self.pictures)


@dataclass
class PictureNames:
    """Find a picture by the name that an annotation has for it: its path, its file name, or that without a suffix."""

    names: Sequence[str]
    known: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in reversed(self.names):
            parts = PurePosixPath(name)
            self.known |= {parts.stem: name, parts.name: name}
        self.known |= {name: name for name in self.names}

    def find(self, name: str) -> str | None:
        """Return the picture, None if it is not there."""
        parts = PurePosixPath(name)
        return next((self.known[key] for key in (name, parts.name, parts.stem) if key in self.known), None)


@dataclass
class BoxedObjects:
    """Collect the objects of one picture; a box is clipped to it, or left out where nothing of it is left."""

    name: str
    size: tuple[float, float]
    left_out: list[str]
    boxes: list[list[float]] = field(default_factory=list[list[float]])
    labels: list[int] = field(default_factory=list[int])
    is_ignored: list[bool] = field(default_factory=list[bool])

    def add(self, box: Sequence[float], label: int, is_ignored: bool) -> None:
        """Add an object, its box (left, top, right, bottom)."""
        clipped = [float(np.clip(at, 0, self.size[i % 2])) for i, at in enumerate(box)]
        told = " ".join(f"{at:g}" for at in box)
        inside = f"the picture of {self.size[0]:g} × {self.size[1]:g} px"
        if not np.isfinite(box).all() or clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
            self.left_out.append(f"{printable(self.name)}: box {told} has no pixel in {inside}; left out")
            return
        if max(abs(a - b) for a, b in zip(clipped, box, strict=True)) > 1:
            self.left_out.append(f"{printable(self.name)}: box {told} reaches beyond {inside}; clipped")
        self.boxes.append(clipped)
        self.labels.append(label)
        self.is_ignored.append(is_ignored)

    def found(self, mask: Callable[[tuple[int, int]], np.ndarray] | None = None) -> Annotation:
        """Return the objects."""
        return Annotation(
            self.name,
            np.array(self.boxes, float).reshape(-1, 4),
            np.array(self.labels, int),
            np.array(self.is_ignored, bool),
            mask,
        )


def check_size(name: str, size: tuple[int, int], annotated: tuple[int, int]) -> None:
    """Check that a picture has the width and height that it was annotated at.

    Raises:
        DataError: It does not.
    """
    if size != annotated:
        raise DataError(
            f"{printable(name)}: {size[0]} × {size[1]} px but annotated at {annotated[0]} × {annotated[1]} px"
        )


def numbers_of(known: Mapping[int, str], class_names: Sequence[str]) -> dict[int, int]:
    """Return the network's label for each number of a class; as it is where the network's names are not given."""
    if not class_names:
        return {i: i for i in known}
    missing = [name for name in known.values() if name not in class_names]
    if missing:
        raise DataError(
            f"Expected the annotated classes among the network's but got {missing[0]}, which is not in "
            f"{', '.join(class_names[:6])}{' …' if len(class_names) > 6 else ''}; name every class, in the order of "
            "the network's labels."
        )
    return {i: list(class_names).index(name) for i, name in known.items()}
