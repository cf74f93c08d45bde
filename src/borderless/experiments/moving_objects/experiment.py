"""Moving objects: what does an arm gain where the object may lie anywhere, and where training shows one side only?

Objects are real images, scenes are made (`data/moving_objects.py`). Every arm starts from the same weights, sees the
same objects at the same positions, and has the same budget of tuning: it is trained with each learning rate, and the
validation scenes, which are like those of training, choose one. Then every test object is shown at 5 × 5 positions from
edge to edge, which meet a stride of 4 px in every way.

Shapes: predictions (positions, objects).
"""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from borderless.data.labeled import LabeledSplit
from borderless.data.moving_objects import PlacedObjects, load_objects, photograph_split, scenes
from borderless.experiments.experiment import Cell
from borderless.experiments.moving_objects import MovingObjectsConfig
from borderless.measures.batches import predicted_classes
from borderless.measures.over_positions import accuracy_on_grid
from borderless.models.arms import ARMS, Arm
from borderless.models.small import classifier, few_threads
from borderless.runtime.arrays import save_arrays
from borderless.training import fit

IMAGES_AT_ONCE = 100


def run_cell(config: MovingObjectsConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train with every learning rate, test the best; the predictions go to predictions.npz."""
    arm, seed = ARMS[cell.parameters["arm"]], cell.parameters["seed"]
    split = _objects(config, seed)
    train, validation, test = _scenes(config, cell, arm, split)
    size = (config.canvas_px, config.canvas_px)
    with few_threads(config.arch):
        tried: list[tuple[float, float, float, nn.Module]] = []
        for rate in config.rates:
            model = arm.apply(classifier(config.arch, len(split.classes), seed), size).to(config.device)
            training = replace(config.training, learning_rate=rate)
            history = fit(model, train, validation, training, folder / f"rate{rate:g}", seed)
            loss = min(epoch.validation_loss for epoch in history)
            tried.append((loss, rate, history[-1].accuracy, model))
        loss, rate, training_accuracy, model = min(tried, key=lambda one: one[0])
        used = arm.deploy(model)
        positions = test.tested_positions()
        shown = {"moved": test.moved} if test.photographs is None else {"moved": test.moved, "cropped": test.cropped}
        kept = {
            name: torch.stack([predicted_classes(used, scenes_at(position), IMAGES_AT_ONCE) for position in positions])
            for name, scenes_at in shown.items()
        }
    arrays: dict[str, Any] = {name: found.numpy() for name, found in kept.items()}
    save_arrays(folder / "predictions.npz", labels=test.labels.numpy(), **arrays)
    crops = {"crops_changed": accuracy_on_grid(kept["cropped"], test.labels)["changed"]} if "cropped" in kept else {}
    return {
        **accuracy_on_grid(kept["moved"], test.labels),
        **crops,
        "validation_loss": loss,
        "training_accuracy": training_accuracy,
        "learning_rate": rate,
        "training_images": len(train),
        "cost": arm.cost(classifier(config.arch, len(split.classes), seed), size),
    }


def _scenes(
    config: MovingObjectsConfig, cell: Cell, arm: Arm, split: LabeledSplit
) -> tuple[PlacedObjects, PlacedObjects, PlacedObjects]:
    """Return scenes to train on, to validate on, both with the cell's bias, and to test."""
    count, seed = cell.parameters["per_class"], cell.parameters["seed"]
    names = photograph_split(seed)
    behind: Any = {"canvas_px": config.canvas_px, "behind": cell.parameters["behind"]}
    at = cell.parameters["at"]
    few = split.train.few(count, seed) if count else split.train
    parts = (few, split.validation.some(config.validation_images, seed), split.test.some(config.test_images, seed))
    translation_px = config.translation_px if arm.moves else 0
    return (
        scenes(parts[0], seed=3 * seed, at=at, names=names[0], translation_px=translation_px, **behind),
        scenes(parts[1], seed=3 * seed + 1, at=at, names=names[1], **behind),
        scenes(parts[2], seed=3 * seed + 2, names=names[2], **behind),
    )


@lru_cache(maxsize=1)
def _objects(config: MovingObjectsConfig, seed: int) -> LabeledSplit:
    return load_objects(config.objects, config.data, seed)
