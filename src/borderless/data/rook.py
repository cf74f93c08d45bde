"""Two 32 × 32 grey-scale images with one identical chess rook: upper left (class 0) and lower right (class 1).

The paper's first demonstration (Kayhan and van Gemert, CVPR 2020, figure 1), with a rook of our own drawing. The
background is 0, the very value with which `zero` and `full` pad: to a convolution without a bias the plane around the
frame then looks like the image's own background, and the frame's edge shows only in which outputs a border keeps.
"""

import numpy as np
import torch
from torch import Tensor

SIZE = (32, 32)
BACKGROUND = 0.0
CLASSES = ("upper left", "lower right")

# Ninths of full white, 15 × 13 pixels.
ROOK = np.array(
    [
        [9, 9, 9, 0, 0, 9, 9, 9, 0, 0, 9, 9, 9],
        [9, 9, 9, 0, 0, 9, 9, 9, 0, 0, 9, 9, 9],
        [9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
        [4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4],
        [0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0],
        [0, 0, 4, 4, 4, 4, 4, 4, 4, 4, 4, 0, 0],
        [0, 0, 8, 9, 9, 9, 9, 9, 9, 9, 8, 0, 0],
        [0, 0, 8, 9, 9, 9, 9, 9, 9, 9, 8, 0, 0],
        [0, 0, 8, 9, 9, 9, 9, 9, 9, 9, 8, 0, 0],
        [0, 0, 8, 9, 9, 9, 9, 9, 9, 9, 8, 0, 0],
        [0, 0, 8, 9, 9, 9, 9, 9, 9, 9, 8, 0, 0],
        [0, 0, 4, 4, 4, 4, 4, 4, 4, 4, 4, 0, 0],
        [0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0],
        [4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4],
        [9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9],
    ]
)


# Pixels that the frame leaves between the rook and the edges of its corner.
LARGEST_MARGIN = min(SIZE[0] - ROOK.shape[0], SIZE[1] - ROOK.shape[1])


def images(margin: int = 0) -> Tensor:
    """The two images, 2 × 1 × 32 × 32, values in [0, 1].

    margin: pixels between the rook and the two edges of its corner.
    """
    height, width = ROOK.shape
    if not 0 <= margin <= LARGEST_MARGIN:
        raise ValueError(f"got margin={margin}; the frame leaves 0 to {LARGEST_MARGIN} px; choose one of these")
    rook = torch.from_numpy(ROOK).float() / 9
    both = torch.full((2, 1, *SIZE), BACKGROUND)
    both[0, 0, margin : margin + height, margin : margin + width] = rook
    both[1, 0, SIZE[0] - margin - height : SIZE[0] - margin, SIZE[1] - margin - width : SIZE[1] - margin] = rook
    return both


def labels() -> Tensor:
    """The class of each of the two images: 0 and 1."""
    return torch.tensor([0, 1])
