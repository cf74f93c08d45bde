"""One object on an empty image, for experiments that move it: the letter F, 8 × 8 pixels on 24 × 24.

Shapes: images 1 × 1 × 24 × 24 in {0, 1}.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from borderless.data.drawings import LETTER, LETTER_IMAGE_PX, LETTER_MARGIN_PX


def image(shift: int = 0) -> Tensor:
    """Return the object on black, 1 × 1 × 24 × 24, moved up and to the left by `shift` pixels from the middle."""
    return scene((LETTER_MARGIN_PX - shift, LETTER_MARGIN_PX - shift))


def scene(position: tuple[int, int]) -> Tensor:
    """Return the object on black, 1 × 1 × 24 × 24, its upper left pixel at row and column `position`."""
    canvas = torch.zeros(1, 1, LETTER_IMAGE_PX, LETTER_IMAGE_PX)
    row, column = position
    canvas[0, 0, row : row + LETTER.shape[0], column : column + LETTER.shape[1]] = torch.from_numpy(LETTER)
    return canvas


def on_plane(response: Any, empty: float, shift: int = 0) -> np.ndarray:
    """Return the map, moved up and left by `shift`, on a plane that holds it, less the response to an empty plane.

    Args:
        response: The Signal that a model gives for the object; its cells lie as far apart as pixels.
        empty: The model's response to an empty plane.
        shift: In pixels.
    """
    reach = 2 * LETTER_MARGIN_PX
    plane = np.zeros((LETTER_IMAGE_PX + 2 * reach, LETTER_IMAGE_PX + 2 * reach))
    window = response.window[0, 0].double().numpy() - empty
    top, left = (reach + start - shift for start in response.start)
    plane[top : top + window.shape[0], left : left + window.shape[1]] = window
    return plane
