"""A heat map over a picture: the picture in gray, red where a value is positive, blue where it is negative."""

import matplotlib
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from borderless.report import plots

_STRONGEST = 0.75  # the share of color at the largest value, so that the picture stays visible


def overlay(picture: ArrayLike, heat: ArrayLike, limit: float) -> Image.Image:
    """Return the values `heat` (height, width) over a `picture` (height, width, 3 or 1) in [0, 1].

    limit: the size of a value with the full color; values of NaN leave the picture as it is.
    """
    gray = np.asarray(picture, dtype=float).mean(-1, keepdims=True).repeat(3, -1)
    shares = np.nan_to_num(np.clip(np.asarray(heat, dtype=float) / max(limit, 1e-12), -1, 1))
    colors = matplotlib.colormaps[plots.DIVERGING]((shares + 1) / 2)[..., :3]
    strength = _STRONGEST * np.abs(shares)[..., None]
    return Image.fromarray((255 * np.clip(gray * (1 - strength) + colors * strength, 0, 1)).round().astype(np.uint8))
