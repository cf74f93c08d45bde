"""Names and pixels of the embedded data that settings choose from and default to; no import of PyTorch."""

from typing import Literal

# Of `motions`.
MOTIONS = ("left", "right", "up", "down", "clockwise", "counterclockwise", "growing", "shrinking")

# Of `quadrant`: the paper's widths of the border around the canvas, and how the pictures are split.
BORDERS_PX = (0, 16, 32, 64, 128, 256, 512)
SplitProtocol = Literal["split", "published"]

# Of `red_green`.
SceneProtocol = Literal["clean", "published"]

# Of `moving_objects`: what is behind the objects, and where they are in training.
Behind = Literal["black", "photographs"]
TrainedAt = Literal["anywhere", "left"]

# Of `objects`: the height and width of one.
OBJECT_PX = 48
