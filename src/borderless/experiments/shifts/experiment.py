"""Shifts: consistency and accuracy of classifiers that were trained under a border, for moved images.

The shift experiment of Kayhan and van Gemert (CVPR 2020), after Zhang (ICML 2019): networks trained from scratch, with
and without anti-aliased strides, under original padding, `full`, `infinite`, and an adaptive phase. Four ways to move
an image: crops of two sizes, rolls, and positions on an empty canvas.

Embedded data: digits among pieces of other digits, 48 px, trained on random crops of 32 px. `--data`: any folder of
class folders, ImageNet as in the paper: images of 288 px, trained on random resized crops of 224 px.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import nn

from borderless.data import imagenet
from borderless.data.imagenet import PAPER_CROP_PX
from borderless.data.imagenet_a import load_imagenet_a
from borderless.data.labeled import Labeled, LabeledSplit, load_labeled
from borderless.data.labeled_digits import digits_in_clutter
from borderless.experiments.experiment import Cell
from borderless.experiments.shifts import ShiftsConfig
from borderless.measures.shift_consistency import PROTOCOLS, RANGE_PX, consistency, diagonal
from borderless.models.arms import ARMS
from borderless.models.small import classifier, few_threads
from borderless.training import evaluate, fit

SCENE_PX, CROP_PX = 48, 32
SHORTER_SIDE_PX = 256
CROPPED = ("zhang2019", "kayhan2020")


def run_cell(config: ShiftsConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train, then move the test images by every protocol."""
    arch, arm, seed = cell.parameters["arch"], ARMS[cell.parameters["arm"]], cell.parameters["seed"]
    split = _data(config, seed)
    plain = classifier(arch, len(split.classes), seed)
    size = (_crop_px(config),) * 2
    stride_px = int(max(arm.explained(plain, size).total_stride))
    model = arm.apply(plain, size).to(config.device)
    test = split.test.some(config.test_images, seed) if config.test_images else split.test
    with few_threads(arch):
        train, validation = _seen(config, split.train, "training"), _seen(config, split.validation, "center")
        history = fit(model, train, validation, config.training, folder, seed)
        model = arm.deploy(model)
        right = evaluate(model, _seen(config, test, "center"), 64, workers=config.training.workers)
        moved = _moved(config, model, test, seed, stride_px)
    return {
        "accuracy": right.accuracy,
        **moved,
        "training_accuracy": history[-1].accuracy,
        "epochs": len(history),
        "cost": arm.cost(plain, size),
    }


def _moved(config: ShiftsConfig, model: nn.Module, test: Labeled, seed: int, stride_px: int) -> dict[str, Any]:
    """Return consistency by every protocol, on `canvas` also at multiples of the stride; accuracy along diagonals."""
    metrics: dict[str, Any] = {"stride_px": stride_px}
    for protocol in PROTOCOLS:
        images, range_px = _seen(config, test, protocol), _range_px(config, protocol)
        how: Any = {"protocol": protocol, "range_px": range_px, "seed": seed, "workers": config.training.workers}
        kinds = {protocol: 1}
        if protocol == "canvas" and stride_px < range_px:
            kinds["canvas_stride"] = stride_px
        for name, multiple_px in kinds.items():
            found = consistency(model, images, multiple_px=multiple_px, passes=config.passes, **how)
            metrics |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
            metrics[f"{name}_fidelity"] = found.fidelity
        if protocol in CROPPED:
            along = diagonal(model, images, **how)
            metrics |= {f"{protocol}_diagonal": along.value, f"{protocol}_along": along.at.tolist()}
    return metrics


@lru_cache(maxsize=1)
def _data(config: ShiftsConfig, seed: int) -> LabeledSplit:
    if config.data is None:
        return digits_in_clutter(SCENE_PX, seed)
    if config.classes == "imagenet-a":
        return load_imagenet_a(config.data, seed)
    return load_labeled(config.data, seed=seed)


def _crop_px(config: ShiftsConfig) -> int:
    return CROP_PX if config.data is None else PAPER_CROP_PX


def _range_px(config: ShiftsConfig, protocol: str) -> int:
    return SCENE_PX - CROP_PX if config.data is None else RANGE_PX[protocol]


def _seen(config: ShiftsConfig, images: Labeled, purpose: str) -> Labeled:
    """Return the images for a purpose: "training", "center" (one crop), or to be moved by a protocol."""
    v2, crop_px, is_random = imagenet.transforms(), _crop_px(config), purpose == "training"
    whole_px = crop_px + _range_px(config, purpose) if purpose in CROPPED else crop_px
    if config.data is None:
        crop = v2.RandomCrop(crop_px) if is_random else v2.CenterCrop(whole_px)
        return images.through(v2.Compose([crop, v2.RGB()]), is_random)
    shown = [v2.Resize(max(whole_px, SHORTER_SIDE_PX), antialias=True), v2.CenterCrop(whole_px)]
    return images.through(imagenet.shown_through(imagenet.training_crops(crop_px) if is_random else shown), is_random)
