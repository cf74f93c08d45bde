"""Data efficiency: with few images per class, does a network learn more when it cannot use location?

Kayhan and van Gemert (CVPR 2020): ResNet-50 on ImageNet with n images per class, original padding against full
convolution. Full convolution also computes more; the arm `own-padded` is the control that the paper lacks: original
padding on an image with so many zeros around it that it costs as much.

Embedded data: scikit-learn's digits, each at one random position of a 32 px canvas. `--data`: a folder of class
folders,
Fashion-MNIST's files, or CIFAR-10's.
"""

from bisect import bisect_left
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from borderless.data import imagenet
from borderless.data.imagenet import PAPER_CROP_PX
from borderless.data.labeled import Labeled, LabeledSplit, load_labeled
from borderless.data.labeled_digits import digits_anywhere
from borderless.experiments.data_efficiency import PADDED, DataEfficiencyConfig
from borderless.experiments.experiment import Cell
from borderless.explanation import explain
from borderless.models.arms import ARMS
from borderless.models.small import classifier, few_threads
from borderless.training import evaluate, fit

CANVAS_PX = 32
IMAGENET_CLASSES = 1000


def run_cell(config: DataEfficiencyConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train on a few images per class, test on all test images."""
    arm, count, seed = (cell.parameters[name] for name in ("arm", "per_class", "seed"))
    split = _data(config.data, seed)
    train = split.train.few(count, seed) if count else split.train
    size = tuple(_seen(split.test, False)[0][0].shape[1:])
    plain = classifier(config.arch, len(split.classes), seed)
    model, cost, padding_px = _arm(arm, plain, size)
    model = model.to(config.device)
    with few_threads(config.arch):
        shown, validation = _seen(train, True), _seen(split.validation, False)
        history = fit(model, shown, validation, config.training, folder, seed)
        found = evaluate(model, _seen(split.test, False), 64, workers=config.training.workers)
    return {
        "accuracy": found.accuracy,
        "training_accuracy": history[-1].accuracy,
        "training_images": len(train),
        "epochs": len(history),
        "cost": cost,
        "padding_px": padding_px,
    }


def _arm(name: str, plain: nn.Module, size: tuple[int, ...]) -> tuple[nn.Module, float, int]:
    """Return the model of an arm, its cost relative to original padding, and the zeros around the image."""
    if name != PADDED:
        arm = ARMS[name]
        return arm.apply(plain), arm.explained(plain, size).cost, 0

    def macs(padding_px: int) -> int:
        return explain(plain, tuple(n + 2 * padding_px for n in size), "zero", tiles=False).macs

    # The least padding that costs as much; on an image five times as wide, any network costs more than under `full`.
    padding_px = bisect_left(range(2 * max(size)), explain(plain, size, "full", tiles=False).macs, key=macs)
    return nn.Sequential(nn.ZeroPad2d(padding_px), plain), macs(padding_px) / macs(0), padding_px


@lru_cache(maxsize=1)
def _data(folder: Path | None, seed: int) -> LabeledSplit:
    return digits_anywhere(CANVAS_PX, seed) if folder is None else load_labeled(folder, seed=seed)


def _seen(images: Labeled, in_training: bool) -> Labeled:
    """Return the images as the network sees them: small ones whole, photographs as crops of 224 px."""
    v2, first = imagenet.transforms(), images.images[0]
    if isinstance(first, Tensor):
        return images.through(v2.RGB())
    if not isinstance(first, Path):
        return images.through(imagenet.shown_through([v2.RGB()]))
    crops = imagenet.training_crops(PAPER_CROP_PX) if in_training else imagenet.middle(PAPER_CROP_PX)
    return images.through(imagenet.shown_through([*crops, v2.RGB()]), is_random=in_training)


def is_papers(config: DataEfficiencyConfig) -> bool:
    """Return whether the paper's numbers, of ResNet-50 on ImageNet's 1,000 classes, are comparable."""
    return (
        config.data is not None and config.arch == "resnet50" and len(_data(config.data, 0).classes) == IMAGENET_CLASSES
    )
