"""Data efficiency: with few images per class, does a network learn more when it cannot use location?

Kayhan and van Gemert (CVPR 2020): ResNet-50 on ImageNet with n images per class, original padding against full
convolution. Full convolution also computes more; the arm `own-padded` is the control that the paper lacks: original
padding on an image with so many zeros around it that it costs as much.

Embedded data: scikit-learn's digits, each at one random position of a 32 px canvas. `--data`: a folder of class
folders, Fashion-MNIST's files, or CIFAR-10's.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from borderless.data.labeled import LabeledSplit, load_labeled
from borderless.data.labeled_digits import digits_anywhere
from borderless.data.shown import shown, shown_in_training
from borderless.experiments.data_efficiency import DataEfficiencyConfig
from borderless.experiments.experiment import Cell
from borderless.models.arms import ARMS
from borderless.models.small import classifier, few_threads
from borderless.training import evaluate, fit

CANVAS_PX = 32
IMAGENET_CLASSES = 1000


def run_cell(config: DataEfficiencyConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train on a few images per class, test on all test images."""
    arm, count, seed = ARMS[cell.parameters["arm"]], cell.parameters["per_class"], cell.parameters["seed"]
    split = _data(config.data, seed)
    train = split.train.few(count, seed) if count else split.train
    size = tuple(shown(split.test)[0][0].shape[1:])
    plain = classifier(config.arch, len(split.classes), seed)
    model = arm.apply(plain, size).to(config.device)
    with few_threads(config.arch):
        training, validation = shown_in_training(train, arm.moves), shown(split.validation)
        history = fit(model, training, validation, config.training, folder, seed)
        found = evaluate(arm.deploy(model), shown(split.test), 64, workers=config.training.workers)
    return {
        "accuracy": found.accuracy,
        "training_accuracy": history[-1].accuracy,
        "training_images": len(train),
        "epochs": len(history),
        "cost": arm.cost(plain, size),
        "padding_px": arm.padding_px(plain, size),
    }


@lru_cache(maxsize=1)
def _data(folder: Path | None, seed: int) -> LabeledSplit:
    return digits_anywhere(CANVAS_PX, seed) if folder is None else load_labeled(folder, seed=seed)


def is_papers(config: DataEfficiencyConfig) -> bool:
    """Return whether the paper's numbers, of ResNet-50 on ImageNet's 1,000 classes, are comparable."""
    return (
        config.data is not None and config.arch == "resnet50" and len(_data(config.data, 0).classes) == IMAGENET_CLASSES
    )
