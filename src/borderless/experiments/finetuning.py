"""A pretrained network under another border: what conversion takes away, and what fine-tuning gives back.

A network that was trained with zeros around its maps counts on them. Converted, it sees emptiness where it saw zeros,
and its answers are worth less until it is fine-tuned. Here a pretrained network first learns new classes under its own
padding, on objects in the middle of an empty canvas. From these weights every arm goes on for as long again: under its
own padding, or converted. Then the same objects stand at the edge of the canvas, where none stood in training.

Embedded data: tiles of photographs, see `data/objects.py`.
"""

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from borderless.data.labelled import Labelled, LabelledSplit
from borderless.data.objects import OBJECT_PX, edges, on_canvas, photograph_tiles
from borderless.experiments import finetuning_figures
from borderless.experiments.arms import ARMS, Arm, check_arms, check_device
from borderless.experiments.runner import Cell, ConfigError, Experiment, Result, write_table
from borderless.models.head import with_classes
from borderless.models.packaged import ARCHITECTURE
from borderless.models.request import NetworkRequest
from borderless.report import Section
from borderless.runtime.evaluation import evaluating
from borderless.training import Recipe, fit

RECIPE = Recipe(epochs=20, batch_size=16, optimizer="adamw", learning_rate=5e-4, weight_decay=0.01, schedule="linear")
COMPARED = ("own", "infinite-adaptive")


@dataclass(frozen=True)
class Config:
    """Settings of `finetune`."""

    arch: str = ARCHITECTURE
    """The network: any of torchvision, timm/NAME, or of the paper."""
    weights: str = "packaged"
    """Its weights: packaged, default (torchvision's, downloaded), pretrained (timm's), random, or a file."""
    arms: tuple[str, ...] = COMPARED
    """What the network goes on as."""
    reach: int | None = 2
    """How many cells a map of a converted network may grow beyond its frame; none: as many as it needs."""
    canvas_px: int = 96
    """Height and width of the canvas; objects have 48 px."""
    seeds: int = 1
    """How many seeds (0, 1, …) of the tiles' splits, the new layer's weights and the order."""
    device: str = "cpu"
    """Where the networks run: cpu, cuda, cuda:1, …"""
    training: Recipe = field(default_factory=lambda: RECIPE)
    """How the network is trained, both times."""

    def __post_init__(self) -> None:
        check_arms(self.arms, tuple(ARMS))
        if self.seeds < 1 or self.canvas_px < OBJECT_PX + 2 or (self.reach is not None and self.reach < 0):
            raise ConfigError(
                f"got seeds={self.seeds}, canvas_px={self.canvas_px}, reach={self.reach}; needed: one seed at least, a "
                f"canvas of {OBJECT_PX + 2} px or more, and a reach that is not negative"
            )
        check_device(self.device)

    @classmethod
    def small(cls) -> "Config":
        return cls(seeds=1, arms=("own", "infinite-adaptive"), reach=1, training=replace(RECIPE, epochs=2))


def cells(config: Config) -> list[Cell]:
    return [Cell(f"seed{seed}", {"seed": seed}) for seed in range(config.seeds)]


def run_cell(config: Config, cell: Cell, folder: Path) -> dict[str, Any]:
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
        model = arm.of(copy.deepcopy(network))
        before = start if name == "own" else _tested(model, split.test, config.canvas_px)
        fit(model, middle.train, middle.validation, config.training, folder / name, seed)
        after = _tested(model, split.test, config.canvas_px)
        found |= {f"{name} before {key}": value for key, value in before.items()}
        found |= {f"{name} {key}": value for key, value in after.items()}
        found[f"{name} cost"] = arm.explained(network, size).cost
    return found


def arm_of(name: str, reach: int | None) -> Arm:
    """An arm, its border bounded by `reach`."""
    arm = ARMS[name]
    return replace(arm, reach=reach) if arm.border in ("full", "infinite") else arm


def _tested(model: nn.Module, objects: Labelled, canvas_px: int) -> dict[str, float]:
    """Accuracy with the objects in the middle, at the edges, at the worst of these places; answers that change."""
    with evaluating(model):
        middle = _answers(model, on_canvas(objects, canvas_px))
        outside = np.stack([_answers(model, on_canvas(objects, canvas_px, corner)) for corner in edges(canvas_px)])
    labels = np.asarray(objects.labels)
    right = outside == labels
    return {
        "middle": float((middle == labels).mean()),
        "edges": float(right.mean()),
        "worst": float(right.mean(1).min()),
        "changed": float((outside != middle).mean()),
    }


def _answers(model: nn.Module, images: Labelled) -> np.ndarray:
    device = next(model.parameters()).device
    found: list[Tensor] = [model(batch.to(device)).argmax(1).cpu() for batch, _ in DataLoader(images, 32)]
    return torch.cat(found).numpy()


def draw(config: Config, results: list[Result], folder: Path) -> Section:
    write_table(results, folder)
    return finetuning_figures.section(config.arch, config.arms, config.reach, results, folder)


EXPERIMENT = Experiment(
    name="finetune",
    title="Fine-tuned under another border",
    summary="A pretrained network, converted: accuracy before and after fine-tuning, in the middle and at the edge.",
    Config=Config,
    cells=cells,
    run_cell=run_cell,
    draw=draw,
)
