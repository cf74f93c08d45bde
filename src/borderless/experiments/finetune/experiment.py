"""Fine-tuning: the accuracy of a pretrained network right after conversion, and after fine-tuning.

A network that was trained with zeros around its feature maps relies on them: converted, it is less accurate until it is
fine-tuned. Here a pretrained network first learns new classes under its original padding, on objects in the middle of
an empty canvas. From these weights every arm is trained for as long again, under the original padding or converted,
on objects in the middle or, with random translations, anywhere. Then the same objects are put at the edge of the
canvas.

Embedded data: tiles of photographs, see `data/objects.py`.
"""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from borderless.data.labeled import Labeled
from borderless.data.objects import edges, on_canvas, photograph_tiles, training_objects
from borderless.experiments.experiment import Cell
from borderless.experiments.finetune import FinetuningConfig
from borderless.measures.batches import predicted_classes
from borderless.models.arms import ARMS, Arm
from borderless.models.head import with_classes
from borderless.models.request import NetworkRequest
from borderless.training import fit


def run_cell(config: FinetuningConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Learn the classes, convert, fine-tune; each training has its own folder and can be resumed."""
    seed = cell.parameters["seed"]
    split = photograph_tiles(seed)
    train, moved = (training_objects(split.train, config.canvas_px, moves) for moves in (False, True))
    validation, test = (on_canvas(part, config.canvas_px) for part in (split.validation, split.test))
    network = NetworkRequest(config.arch, weights=config.weights, seed=seed).load()
    network = with_classes(network, len(split.classes), test[0][0][None], seed).to(config.device)
    fit(network, train, validation, config.training, folder / "start", seed)
    size = (config.canvas_px, config.canvas_px)
    found: dict[str, float] = {}
    for name in config.arms:
        arm = arm_of(name, config.reach)
        model = arm.apply(copy.deepcopy(network), size)
        before = _tested(arm.deploy(model), split.test, config.canvas_px)
        fit(model, moved if arm.moves else train, validation, config.training, folder / name, seed)
        after = _tested(arm.deploy(model), split.test, config.canvas_px)
        found |= {f"{name} before {key}": value for key, value in before.items()}
        found |= {f"{name} {key}": value for key, value in after.items()}
        found[f"{name} cost"] = arm.cost(network, size)
    return found


def arm_of(name: str, reach: int | None) -> Arm:
    """Return an arm, its border bounded by `reach`; one that pads costs as much as that."""
    arm = ARMS[name]
    return replace(arm, reach=reach) if arm.pads or arm.border in ("full", "infinite") else arm


def _tested(model: nn.Module, objects: Labeled, canvas_px: int) -> dict[str, float]:
    """Return the accuracy with the objects in the middle, at the edges, at the worst edge; predictions that change."""
    middle, *outer = (
        predicted_classes(model, on_canvas(objects, canvas_px, corner), 32).numpy()
        for corner in (None, *edges(canvas_px))
    )
    labels, outside = np.asarray(objects.labels), np.stack(outer)
    right = outside == labels
    return {
        "middle": float((middle == labels).mean()),
        "edges": float(right.mean()),
        "worst": float(right.mean(1).min()),
        "changed": float((outside != middle).mean()),
    }
