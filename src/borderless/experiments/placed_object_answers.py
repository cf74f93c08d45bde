"""What a network says about a photograph at each of many positions, and how much that differs.

Shapes: photograph 3 × side × side; positions n × 2, (row, column) of its upper left pixel; logits n × classes.
"""

import time

import numpy as np
import torch
from torch import Tensor, nn

from borderless.models.packaged import SIZE_PX, TOTAL_STRIDE_PX

# Larger batches are slower on a CPU: every feature map is then new memory from the system.
BATCH = 2


@torch.inference_mode()
def answers(model: nn.Module, photo: Tensor, positions: Tensor, colour: float) -> tuple[Tensor, float]:
    """Logits with `photo` at each of `positions` on a canvas of `colour`, and the median time an image takes."""
    side = photo.shape[-1]
    logits, seconds = [], []
    for batch in positions.split(BATCH):
        images = torch.full((len(batch), 3, *SIZE_PX), colour)
        for image, (row, column) in zip(images, batch.tolist(), strict=True):
            image[:, row : row + side, column : column + side] = photo
        begin = time.perf_counter()
        logits.append(model(images))
        seconds.append((time.perf_counter() - begin) / len(batch))
    return torch.cat(logits), float(np.median(seconds))


def summarise(logits: Tensor, positions: Tensor, reference: int) -> dict[str, float | int | None]:
    """How much the answers differ from place to place.

    Changes are the largest difference of a logit from those at the reference position, relative to the largest of
    these: over positions that are whole strides away, and over all others (None if there is no such position).
    """
    change = (logits - logits[reference]).abs().amax(1) / logits[reference].abs().max()
    whole = ((positions - positions[reference]) % TOTAL_STRIDE_PX == 0).all(1)
    return {
        "distinct_first_places": len(logits.argmax(1).unique()),
        "change_whole_strides": change[whole].max().item(),
        "change_between": change[~whole].max().item() if bool((~whole).any()) else None,
    }
