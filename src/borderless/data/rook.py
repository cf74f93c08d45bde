"""Two 32 × 32 gray-scale images with one identical chess rook: upper left (class 0) and lower right (class 1).

The paper's first demonstration (Kayhan and van Gemert, CVPR 2020, figure 1), with a rook of our own drawing. The
background is 0, the very value with which `zero` and `full` pad: to a convolution without a bias the plane around the
frame then looks like the image's own background, and the frame's edge shows only in which outputs a border keeps.
"""

import torch
from torch import Tensor

from borderless.data.drawings import LARGEST_ROOK_MARGIN_PX, ROOK, ROOK_IMAGE_PX

BACKGROUND = 0.0
CLASSES = ("upper left", "lower right")


def images(margin: int = 0) -> Tensor:
    """Return the two images, 2 × 1 × 32 × 32, values in [0, 1].

    margin: pixels between the rook and the two edges of its corner.
    """
    height, width = ROOK.shape
    if not 0 <= margin <= LARGEST_ROOK_MARGIN_PX:
        raise ValueError(
            f"Expected margin from 0 to {LARGEST_ROOK_MARGIN_PX} px, which the frame leaves, but got {margin}"
        )
    rook = torch.from_numpy(ROOK).float() / 9
    canvas_height, canvas_width = ROOK_IMAGE_PX
    both = torch.full((2, 1, canvas_height, canvas_width), BACKGROUND)
    bottom, right = canvas_height - margin, canvas_width - margin
    both[0, 0, margin : margin + height, margin : margin + width] = rook
    both[1, 0, bottom - height : bottom, right - width : right] = rook
    return both


def labels() -> Tensor:
    """Return the class of each of the two images: 0 and 1."""
    return torch.tensor([0, 1])
