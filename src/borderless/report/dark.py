"""Turn a figure that is dark on white into one for dark screens: lightness is mirrored, hues stay, images are kept.

Where images and color bars are is written into the figure's file, under the key `BOXES`, as (left, top, right, bottom)
in shares of the figure's sides.
"""

import io
import math
from typing import Any

import numpy as np
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from PIL import Image

BOXES = "Boxes"
# The page's background on dark screens, and white of the figure there.
_PAPER, _INK = (23, 23, 26), 235


def boxes(fig: Figure) -> list[list[float]]:
    """Return (left, top, right, bottom) of images and color bars, in shares of the figure's sides."""
    found: list[list[float]] = []
    for ax in fig.axes:
        inside = ax.get_window_extent()
        extents = [image.get_window_extent() for image in ax.images]
        if any(isinstance(collection, QuadMesh) for collection in ax.collections):  # a color bar
            extents.append(inside)
        for extent in extents:
            left, right = max(extent.x0, inside.x0) / fig.bbox.width, min(extent.x1, inside.x1) / fig.bbox.width
            top, bottom = (1 - y / fig.bbox.height for y in (min(extent.y1, inside.y1), max(extent.y0, inside.y0)))
            found.append([round(value, 5) for value in (left, top, right, bottom)])
    return found


def darkened(image: Any, boxes: list[list[float]]) -> Any:
    """Return the picture for dark screens.

    Args:
        image: A figure, dark on white.
        boxes: What stays as it is: (left, top, right, bottom) in shares of the figure's sides.
    """
    light = np.asarray(image.convert("RGB"), dtype=np.float32)
    # Mirrors the lightness (max + min) / 2, and keeps hue and chroma.
    mirrored = light + 255 - light.max(2, keepdims=True) - light.min(2, keepdims=True)
    paper = np.array(_PAPER, dtype=np.float32)
    dark = paper + mirrored * (_INK - paper) / 255
    height, width = light.shape[:2]
    for left, top, right, bottom in boxes:
        # Pixels on an edge are partly paper.
        rows = slice(max(0, math.ceil(top * height)), max(0, math.floor(bottom * height)))
        columns = slice(max(0, math.ceil(left * width)), max(0, math.floor(right * width)))
        dark[rows, columns] = light[rows, columns]
    return Image.fromarray(dark.round().astype(np.uint8))


def packed(image: Any) -> bytes:
    """Return a lossless WebP, half as large as the PNG."""
    data = io.BytesIO()
    image.convert("RGB").save(data, format="WEBP", lossless=True)
    return data.getvalue()
