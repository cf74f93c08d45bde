"""One object on an empty image, for experiments that move it: the letter F, 8 × 8 pixels on 24 × 24.

Shapes: images 1 × 1 × 24 × 24 in {0, 1}.
"""

import numpy as np
import torch
from torch import Tensor

SIZE = 24
MARGIN = 8  # from the object, in the middle, to each edge of the frame
OBJECT = np.array(
    [
        [1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
    ],
    dtype=np.float32,
)


def image(shift: int = 0) -> Tensor:
    """Return the object on black, 1 × 1 × 24 × 24, moved up and to the left by `shift` pixels from the middle."""
    return scene((MARGIN - shift, MARGIN - shift))


def scene(place: tuple[int, int]) -> Tensor:
    """Return the object on black, 1 × 1 × 24 × 24, its upper left pixel at row and column `place`."""
    canvas = torch.zeros(1, 1, SIZE, SIZE)
    row, column = place
    canvas[0, 0, row : row + OBJECT.shape[0], column : column + OBJECT.shape[1]] = torch.from_numpy(OBJECT)
    return canvas
