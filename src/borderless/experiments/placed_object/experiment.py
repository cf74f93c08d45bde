"""Placed object: the predictions of an ImageNet network for a photograph at many positions of an empty canvas.

The network is EfficientNet-Lite0 with packaged weights, not changed and not trained any further: only the border
differs from arm to arm. Offsets on and off the multiples of its total stride, 32 px, separate the effects of border and
stride.

Shapes: photographs 3 × 96 × 96; images n × 3 × 224 × 224; logits n × 1000; maps over positions rows × columns.
"""

import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from borderless.data.photos import PHOTOS, load_photo
from borderless.experiments.experiment import Cell
from borderless.experiments.placed_object import ARMS, PlacedObjectConfig
from borderless.explanation import Explanation
from borderless.measures.object_outputs import canvases
from borderless.measures.over_positions import changes_of_logits
from borderless.models.arms import Arm
from borderless.models.choices import SIZE_PX
from borderless.models.packaged import MEAN, TOTAL_STRIDE_PX, class_names, load_packaged, normalize
from borderless.runtime.arrays import save_arrays

# Brightness in [0, 1]; gray is what normalization turns into 0.
BRIGHTNESS = {"black": 0.0, "gray": MEAN, "white": 1.0}
# Larger batches are slower on a CPU: every feature map is then new memory from the system.
BATCH = 2


def run_cell(config: PlacedObjectConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Return the network's outputs at every position; probabilities and top-1 classes also go to maps.npz."""
    arm, photo = ARMS[cell.parameters["arm"]], cell.parameters["photo"]
    color = normalize(torch.tensor(BRIGHTNESS[cell.parameters["background"]])).item()
    model = arm.apply(_network(), background=color)
    explanation = _explanation(arm)
    positions = torch.cartesian_prod(torch.tensor(config.offsets_px), torch.tensor(config.offsets_px))
    logits, seconds_per_image = logits_at(model, normalize(load_photo(photo, config.size_px)), positions, color)
    n = len(config.offsets_px)
    right = torch.tensor(sorted(PHOTOS[photo].right))
    probability = logits.softmax(1)[:, right].sum(1)
    first = logits.argmax(1)
    is_right = torch.isin(first, right)
    found = {"probability": probability, "first": first, "is_right": is_right}
    save_arrays(folder / "maps.npz", **{name: values.reshape(n, n).numpy() for name, values in found.items()})
    return {
        **changes_of_logits(logits, positions, (n // 2) * n + n // 2, TOTAL_STRIDE_PX),
        "probability_min": probability.min(),
        "probability_mean": probability.mean(),
        "probability_max": probability.max(),
        "right_share": is_right.double().mean(),
        "predictions": {class_names()[i]: int((first == i).sum()) for i in first.unique().tolist()},
        "macs": explanation.macs,
        "cost": explanation.cost,
        "receptive_field_px": max(explanation.receptive_field),
        "ms_per_image": 1000 * seconds_per_image,
    }


@cache
def _network() -> nn.Module:
    """Load the network once for all cells; each arm converts a copy."""
    return load_packaged().requires_grad_(False)


@cache
def _explanation(arm: Arm) -> Explanation:
    """Return the report of an arm, whose costs are the same for every photograph and background."""
    return arm.explained(_network(), SIZE_PX)


@torch.inference_mode()
def logits_at(model: nn.Module, photo: Tensor, positions: Tensor, color: float) -> tuple[Tensor, float]:
    """Return logits with `photo` at each of `positions` on a canvas of `color`, and the median time per image in s.

    Shape:
        photo 3 × side × side; positions n × 2, (row, column) of its upper left pixel; logits n × classes.
    """
    logits, seconds = [], []
    for batch in positions.split(BATCH):
        images = canvases(photo[None], batch.numpy(), SIZE_PX, color)
        begin = time.perf_counter()
        logits.append(model(images))
        seconds.append((time.perf_counter() - begin) / len(batch))
    return torch.cat(logits), float(np.median(seconds))
