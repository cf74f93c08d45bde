"""A few photographs of objects that an ImageNet network knows, without a download.

They are squares cut from pictures that come inside the scikit-image package (extra `demo`), chosen so that the packaged
network recognizes them at 96 px in the middle of an empty 224 px canvas, black or gray, under its original padding: a
right class is predicted, and all of them together have the probability (black, gray) cat 95 %, 94 %; coffee 81 %, 42 %;
tripod 92 %, 93 %; motorcycle 44 %, 64 %; rocket 19 %, 59 %. ImageNet has no motorcycle and no rocket: the closest
classes count. Not recognized in this way and left out: astronaut, clock, coins, horse, page and retina.

Shapes: a photograph is 3 × size × size, values in [0, 1].
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from borderless.errors import MissingPackage


@dataclass(frozen=True)
class Photo:
    """Source and content of a photograph.

    Attributes:
        source: The function of `skimage.data`.
        square: (top, left, side) of the cut, in pixels of the source.
        right: The ImageNet classes (index: name) that count as right.
    """

    source: str
    square: tuple[int, int, int]
    right: dict[int, str]


PHOTOS = {
    "cat": Photo("chelsea", (15, 138, 285), {281: "tabby", 282: "tiger cat", 285: "Egyptian cat"}),
    "coffee": Photo("coffee", (40, 160, 360), {967: "espresso", 968: "cup", 504: "coffee mug"}),
    "tripod": Photo("camera", (103, 68, 409), {872: "tripod"}),
    "motorcycle": Photo("stereo_motorcycle", (120, 341, 340), {665: "moped", 670: "motor scooter"}),
    "rocket": Photo("rocket", (20, 140, 350), {812: "space shuttle", 657: "missile", 744: "projectile"}),
}


def load_photo(name: str, size_px: int) -> Tensor:
    """Return one photograph, (3, size_px, size_px) in [0, 1]; gray pictures have three equal channels.

    Raises:
        ValueError: The name is not in `PHOTOS`.
        MissingPackage: scikit-image is not installed.
    """
    if name not in PHOTOS:
        raise ValueError(f"Expected a photograph out of {', '.join(PHOTOS)} but got {name!r}")
    photo = PHOTOS[name]
    pixels = getattr(scikit_image(), photo.source)()
    if isinstance(pixels, tuple):  # a stereo pair and its depths: the left picture
        pixels = pixels[0]
    top, left, side = photo.square
    cut = pixels[top : top + side, left : left + side]
    if cut.shape[:2] != (side, side):
        raise ValueError(
            f"Expected a picture that holds the square {photo.square} (top, left, side) of {name!r} but got "
            f"{photo.source!r} of {pixels.shape[:2]} pixels from scikit-image; use another version of it"
        )
    resized = Image.fromarray(cut).convert("RGB").resize((size_px, size_px), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255


def square_cut(image: Image.Image, size_px: int, smallest_px: int, draw: random.Random) -> Image.Image:
    """Return a square of random position and side, `smallest_px` at least, cut from a picture, resized to `size_px`."""
    side = draw.randint(smallest_px, min(image.size))
    left, top = draw.randint(0, image.width - side), draw.randint(0, image.height - side)
    return image.resize((size_px, size_px), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))


def scikit_image() -> Any:
    """Return the module skimage.data.

    Raises:
        MissingPackage: scikit-image is not installed.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise MissingPackage(
            "Expected the package skimage (scikit-image), which holds the photographs, but got none; install it with: "
            'pip install "borderless[demo]"'
        ) from error
    return data


def load_photos(names: Iterable[str], size_px: int) -> Tensor:
    """Return several photographs, (n, 3, size_px, size_px) in [0, 1]."""
    return torch.stack([load_photo(name, size_px) for name in names])
