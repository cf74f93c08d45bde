"""One position: a small CNN learns digits that are all in one corner, and is tested at all positions.

Every training digit lies at row 0, column 0 of a 32 × 32 canvas; test digits are put at each of the 19 × 19 = 361
positions. Two things make the network depend on the position: the border, and the strides, which keep every fourth cell
in the end and so sample a digit differently at the positions between. Two arms train at random positions: under the
original padding, and by the recipe, under `infinite`, and are then tested with an adaptive phase.

Shapes: digits n × 14 × 14; images n × 1 × 32 × 32; predictions (position, digit); maps over positions 19 × 19.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from borderless.data import digits
from borderless.data.digits import Digits, PlacedDigits, all_positions
from borderless.experiments.experiment import Cell
from borderless.experiments.one_place import ARMS, OnePlaceConfig
from borderless.measures.over_positions import accuracy_by_stride
from borderless.models.small import STRIDE_PX, network
from borderless.runtime.arrays import save_arrays
from borderless.runtime.evaluation import one_thread
from borderless.training import fit

IMAGES_AT_ONCE = 360


def run_cell(config: OnePlaceConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train one arm under its border, then predict at every position; the predictions go to predictions.npz."""
    arm, seed = ARMS[cell.parameters["arm"]], cell.parameters["seed"]
    split = digits.split_digits(digits.load_digits(), seed)
    plain = network(seed)
    model = arm.apply(plain)
    train, validation = (PlacedDigits(part, arm.moves, seed=seed) for part in (split.train, split.validation))
    with one_thread():
        history = fit(model, train, validation, config.training, folder, seed)
    test = Digits(split.test.images[: config.test_digits], split.test.labels[: config.test_digits])
    predictions = predict_everywhere(arm.deploy(model), test.images)
    save_arrays(folder / "predictions.npz", predictions=predictions.to(torch.uint8).numpy(), labels=test.labels.numpy())
    return {
        **accuracy_by_stride(predictions, test.labels, all_positions(), STRIDE_PX, digits.TRAINED_AT),
        "validation_accuracy": min(history, key=lambda epoch: epoch.validation_loss).validation_accuracy,
        "parameters": sum(p.numel() for p in model.parameters()),
        "cost": arm.cost(plain, digits.CANVAS_PX),
    }


@torch.inference_mode()
def predict_everywhere(model: nn.Module, images: Tensor) -> Tensor:
    """Return the predicted class of every digit at every position: (positions, digits)."""
    positions = all_positions()
    pairs = torch.cartesian_prod(torch.arange(len(positions)), torch.arange(len(images)))
    found = [
        model(digits.place_digits(images[digit], positions[position])).argmax(1)
        for position, digit in (batch.unbind(1) for batch in pairs.split(IMAGES_AT_ONCE))
    ]
    return torch.cat(found).reshape(len(positions), len(images))
