"""Red left of green, or green left of red? A network that is shown the two in different halves answers by the half.

The set-up of Kayhan and van Gemert (CVPR 2020), Red-Green: four 3 × 3 convolutions (strides 1, 2, 2, 2) without a bias,
global max pooling, two classes; Adadelta, batches of 200, at most 50 epochs. Tested where place agrees with training
(similar) and where it contradicts it (dissimilar). Halves are two total strides apart, so a border that gives nothing
away answers to both in the same way, image by image.

Shapes: images n × 3 × 32 × 32; predictions (test set, image).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from borderless.conversion import convert
from borderless.data.red_green import SceneProtocol, Scenes, red_green
from borderless.engine.border import BORDERS
from borderless.experiments.experiment import Cell, grid, register
from borderless.experiments.settings import Choice, Range, TrainedSettings
from borderless.models.location import RedGreenNet
from borderless.runtime.evaluation import seeded
from borderless.training import Recipe, fit

# What "patience 8" comes to in the public code: training stops with the ninth epoch that is not better.
_ADADELTA = Recipe(optimizer="adadelta", learning_rate=1.0, weight_decay=5e-5, schedule="constant")
RECIPE = replace(_ADADELTA, epochs=50, batch_size=200, stops_after=9, watch="loss", shuffles=False)


@dataclass(frozen=True)
class RedGreenConfig(TrainedSettings):
    """Settings of `red-green`; the defaults are the paper's, but for the protocol."""

    borders: Annotated[tuple[str, ...], Choice(BORDERS)] = BORDERS
    """Borders to train under."""
    seeds: Annotated[int, Range(1)] = 10
    """How many seeds (0, 1, …) of the initial weights, and of the images in the clean protocol."""
    protocol: SceneProtocol = "clean"
    """clean: no scene is in two splits. published: all splits begin with the same scenes, as in the paper's code."""
    training: Recipe = RECIPE

    DEMO: ClassVar = {"borders": ("zero", "full"), "seeds": 1, "training": replace(RECIPE, epochs=6)}


@register(
    name="red-green",
    chapter=7,
    title="Red and green: the order, or the place?",
    summary="Two coloured squares whose order a network should learn, and whose place gives the answer away.",
    Config=RedGreenConfig,
    cells=lambda config: grid("{border}-seed{seed}", seed=range(config.seeds), border=config.borders),
)
def run_cell(config: RedGreenConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train once. The predictions on both test sets go to predictions.npz."""
    border, seed = cell.parameters["border"], cell.parameters["seed"]
    data = red_green(seed, config.protocol)
    with seeded(seed):
        model = convert(RedGreenNet(), border)
    history = fit(model, _dataset(data.train), _dataset(data.validation), config.training, folder, seed)
    predictions = {name: _predictions(model, getattr(data, name)) for name in ("similar", "dissimilar")}
    np.savez_compressed(folder / "predictions.npz", allow_pickle=False, **predictions)
    right = {name: float((found == data.similar.labels.numpy()).mean()) for name, found in predictions.items()}
    return {
        **right,
        "changed": int((predictions["similar"] != predictions["dissimilar"]).sum()),
        "training_accuracy": history[-1].accuracy,
        "validation_accuracy": max(epoch.validation_accuracy for epoch in history),
        "epochs": len(history),
    }


def _dataset(split: Scenes) -> TensorDataset:
    return TensorDataset(split.images, split.labels)


@torch.no_grad()
def _predictions(model: nn.Module, split: Scenes) -> np.ndarray:
    return torch.cat([model(images).argmax(1) for images in split.images.split(200)]).to(torch.uint8).numpy()
