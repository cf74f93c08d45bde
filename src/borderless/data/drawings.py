"""The letter and the rook as arrays, and the empty images that they are put on; no import of PyTorch."""

import numpy as np

# Height and width of the image, and from the letter, in the middle, to each edge of it.
LETTER_IMAGE_PX = 24
LETTER_MARGIN_PX = 8
LETTER = np.array(
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

ROOK_IMAGE_PX = (32, 32)
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
# What the image leaves between the rook and the edges of its corner.
LARGEST_ROOK_MARGIN_PX = min(ROOK_IMAGE_PX[0] - ROOK.shape[0], ROOK_IMAGE_PX[1] - ROOK.shape[1])
