"""A pretrained network under another border: what conversion takes away, and what fine-tuning gives back.

A network that was trained with zeros around its feature maps relies on them: converted, it is less accurate until it is
fine-tuned. Here a pretrained network first learns new classes under its original padding, on objects in the middle of
an empty canvas. From these weights every arm is trained for as long again, under the original padding or converted.
Then the same objects are put at the edge of the canvas, where none was in training.

Embedded data: tiles of photographs, see `data/objects.py`.
"""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from borderless.data.labelled import Labelled, LabelledSplit
from borderless.data.objects import OBJECT_PX, edges, on_canvas, photograph_tiles
from borderless.experiments.arms import ARMS, Arm
from borderless.experiments.experiment import Cell, grid, register
from borderless.experiments.settings import Choice, DeviceSettings, Range
from borderless.models.head import with_classes
from borderless.models.packaged import ARCHITECTURE
from borderless.models.request import NetworkRequest
from borderless.runtime.evaluation import evaluating
from borderless.training import Recipe, fit

RECIPE = Recipe(epochs=20, batch_size=16, optimizer="adamw", learning_rate=5e-4, weight_decay=0.01, schedule="linear")
FEW = replace(RECIPE, epochs=2)
COMPARED = ("own", "infinite-adaptive")


@dataclass(frozen=True)
class FinetuningConfig(DeviceSettings):
    """Settings of `finetune`."""

    arch: str = ARCHITECTURE
    """The network: any of torchvision, timm/NAME, or of the paper."""
    weights: str = "packaged"
    """Its weights: packaged, default (torchvision's, downloaded), pretrained (timm's), random, or a file."""
    arms: Annotated[tuple[str, ...], Choice(tuple(ARMS))] = COMPARED
    """What the network goes on as."""
    reach: Annotated[int | None, Range(0)] = 2
    """How many cells a map of a converted network may grow beyond its frame; none: as many as it needs."""
    canvas_px: Annotated[int, Range(OBJECT_PX + 2)] = 96
    """Height and width of the canvas; objects have 48 px."""
    training: Recipe = RECIPE
    """How the network is trained, both times."""

    DEMO: ClassVar = {"seeds": 1, "arms": ("own", "infinite-adaptive"), "reach": 1, "training": FEW}


@register(
    name="finetune",
    chapter=12,
    title="Fine-tuned under another border",
    summary="A pretrained network, converted: accuracy before and after fine-tuning, in the middle and at the edge.",
    Config=FinetuningConfig,
    cells=lambda config: grid("seed{seed}", seed=range(config.seeds)),
)
def run_cell(config: FinetuningConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Learn the classes, convert, go on; each training has a folder of its own and can be resumed."""
    seed = cell.parameters["seed"]
    split = photograph_tiles(seed)
    middle = LabelledSplit(
        on_canvas(split.train, config.canvas_px, in_training=True),
        on_canvas(split.validation, config.canvas_px),
        on_canvas(split.test, config.canvas_px),
        split.classes,
    )
    network = NetworkRequest(config.arch, weights=config.weights, seed=seed).load()
    network = with_classes(network, len(split.classes), middle.test[0][0][None], seed).to(config.device)
    fit(network, middle.train, middle.validation, config.training, folder / "start", seed)
    size = (config.canvas_px, config.canvas_px)
    start = _tested(network, split.test, config.canvas_px)
    found: dict[str, float] = {}
    for name in config.arms:
        arm = arm_of(name, config.reach)
        model = arm.apply(copy.deepcopy(network))
        before = start if name == "own" else _tested(model, split.test, config.canvas_px)
        fit(model, middle.train, middle.validation, config.training, folder / name, seed)
        after = _tested(model, split.test, config.canvas_px)
        found |= {f"{name} before {key}": value for key, value in before.items()}
        found |= {f"{name} {key}": value for key, value in after.items()}
        found[f"{name} cost"] = arm.explained(network, size).cost
    return found


def arm_of(name: str, reach: int | None) -> Arm:
    """Return an arm, its border bounded by `reach`."""
    arm = ARMS[name]
    return replace(arm, reach=reach) if arm.border in ("full", "infinite") else arm


def _tested(model: nn.Module, objects: Labelled, canvas_px: int) -> dict[str, float]:
    """Accuracy with the objects in the middle, at the edges, at the worst of these places; predictions that change."""
    with evaluating(model):
        middle = _predictions(model, on_canvas(objects, canvas_px))
        outside = np.stack([_predictions(model, on_canvas(objects, canvas_px, corner)) for corner in edges(canvas_px)])
    labels = np.asarray(objects.labels)
    right = outside == labels
    return {
        "middle": float((middle == labels).mean()),
        "edges": float(right.mean()),
        "worst": float(right.mean(1).min()),
        "changed": float((outside != middle).mean()),
    }


def _predictions(model: nn.Module, images: Labelled) -> np.ndarray:
    device = next(model.parameters()).device
    found: list[Tensor] = [model(batch.to(device)).argmax(1).cpu() for batch, _ in DataLoader(images, 32)]
    return torch.cat(found).numpy()
