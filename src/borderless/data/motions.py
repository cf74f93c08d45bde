"""Generated clips with classes: a patch of random colors that moves, turns, grows or shrinks on a dim ground.

The motion is the class; appearance and position of the patch are random, and independent of it.

Shapes: clips (3, frames, height, width) in float.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from borderless.data.choices import MOTIONS
from borderless.data.items import ClipSplit

# Taken off generated clips, as their mean is off real ones: what is around a clip, 0, then looks like its ground.
MEAN_GROUND = 0.125


@dataclass
class Generated(Dataset[tuple[Tensor, int]]):
    """Clips that are drawn on access: the same number gives the same clip."""

    count: int
    seed: int
    frames: int
    size_px: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        label = index % len(MOTIONS)
        draw = torch.Generator().manual_seed(self.seed * 10_000_019 + index)
        return _moving(MOTIONS[label], self.frames, self.size_px, draw), label

    def clips(self, index: int) -> Tensor:
        """Return all of an item, as clips: (1, 3, frames, height, width)."""
        return self[index][0][None]


def generated(train: int, test: int, seed: int, frames: int = 8, size_px: int = 32) -> ClipSplit:
    """Return `train` clips, and `test` for validation and for testing each; the motions take turns."""
    made = [Generated(count, 3 * seed + i, frames, size_px) for i, count in enumerate((train, test, test))]
    return ClipSplit(made[0], made[1], made[2], MOTIONS)


def _moving(motion: str, frames: int, size_px: int, draw: torch.Generator) -> Tensor:
    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=draw))

    texture = F.interpolate(torch.rand(1, 3, 4, 4, generator=draw), (16, 16), mode="bilinear")
    rows = torch.linspace(-1, 1, 16)
    # Not round, so that a turn is seen.
    shape = ((rows[:, None] / uniform(0.4, 0.6)) ** 2 + (rows / uniform(0.9, 1.0)) ** 2 < 1).float()
    patch = torch.cat([texture, shape[None, None]], 1)
    time = torch.linspace(-1, 1, frames)
    size, angle, speed = uniform(0.25, 0.4), uniform(-math.pi, math.pi), uniform(0.15, 0.45)
    # The whole path stays in the picture; a fifth of the time may be off it at its ends.
    x, y = (uniform(-0.45, 0.45) for _ in range(2))
    dx, dy = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.get(motion, (0, 0))
    turn = {"clockwise": 1.0, "counterclockwise": -1.0}.get(motion, 0.0) * uniform(0.5, 1.2)
    growth = {"growing": 1.0, "shrinking": -1.0}.get(motion, 0.0) * uniform(0.3, 0.5)
    sizes, angles = size * torch.exp(growth * time), angle + turn * time
    at_x, at_y = x + dx * speed * time, y + dy * speed * time
    cos, sin = torch.cos(angles) / sizes, torch.sin(angles) / sizes
    # From the picture's coordinates to the patch's.
    to_patch = torch.stack(
        [torch.stack([cos, sin, -cos * at_x - sin * at_y], 1), torch.stack([-sin, cos, sin * at_x - cos * at_y], 1)], 1
    )
    grid = F.affine_grid(to_patch, [frames, 4, size_px, size_px], align_corners=False)
    shown = F.grid_sample(patch.expand(frames, -1, -1, -1), grid, align_corners=False)
    ground = uniform(0.0, 0.2) + 0.05 * torch.rand(1, 3, size_px, size_px, generator=draw)
    covered = shown[:, 3:]
    return ((1 - covered) * ground + shown[:, :3] * covered).transpose(0, 1).contiguous() - MEAN_GROUND
