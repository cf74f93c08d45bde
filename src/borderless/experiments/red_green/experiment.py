"""Red-green: red left of green, or green left of red? A network may learn the half of the image instead of the order.

The set-up of Kayhan and van Gemert (CVPR 2020), Red-Green: four 3 × 3 convolutions (strides 1, 2, 2, 2) without a bias,
global max pooling, two classes; Adadelta, batches of 200, at most 50 epochs. Tested on images whose position agrees
with training (similar) and on images whose position contradicts it (dissimilar). Halves are two total strides apart, so
under a border that carries no position the predictions for both are equal, image by image.

Shapes: images n × 3 × 32 × 32; predictions (test set, image).
"""

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import TensorDataset

from borderless.conversion import convert
from borderless.data.red_green import red_green
from borderless.experiments.experiment import Cell
from borderless.experiments.red_green import RedGreenConfig
from borderless.measures.batches import predicted_classes
from borderless.models.location import RedGreenNet
from borderless.runtime.arrays import save_arrays
from borderless.runtime.evaluation import seeded
from borderless.training import fit


def run_cell(config: RedGreenConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train once. The predictions on both test sets go to predictions.npz."""
    border, seed = cell.parameters["border"], cell.parameters["seed"]
    data = red_green(seed, config.protocol)
    with seeded(seed):
        model = convert(RedGreenNet(), border)
    train, validation = (TensorDataset(split.images, split.labels) for split in (data.train, data.validation))
    history = fit(model, train, validation, config.training, folder, seed)
    tested = {"similar": data.similar, "dissimilar": data.dissimilar}
    predictions = {
        name: predicted_classes(model, scenes.images, 200).to(torch.uint8).numpy() for name, scenes in tested.items()
    }
    save_arrays(folder / "predictions.npz", **predictions)
    right = {name: float((found == data.similar.labels.numpy()).mean()) for name, found in predictions.items()}
    return {
        **right,
        "changed": int((predictions["similar"] != predictions["dissimilar"]).sum()),
        "training_accuracy": history[-1].accuracy,
        "validation_accuracy": max(epoch.validation_accuracy for epoch in history),
        "epochs": len(history),
    }
