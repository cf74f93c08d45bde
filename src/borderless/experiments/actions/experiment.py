"""Actions: 3D networks from scratch on few clips, with same and with full convolution over space, and over time.

Kayhan and van Gemert (CVPR 2020), action recognition: 3D ResNets on UCF101 and HMDB51, split 1. The published temporal
variant also halves the frames in its stem; that arm is built as published.

Embedded data: generated clips whose class is a motion. `--data`: the folder of UCF101's or HMDB51's videos.

Shapes: clips n × 3 × frames × height × width; logits n × classes.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from borderless.data.items import ClipSplit
from borderless.data.motions import generated
from borderless.data.videos import from_videos
from borderless.experiments.actions import CONVERTED, ActionsConfig
from borderless.experiments.experiment import Cell
from borderless.explanation import explain
from borderless.models import arms, load
from borderless.models.choices import SMALL
from borderless.models.small import ClipNet, few_threads
from borderless.runtime.arrays import save_arrays
from borderless.runtime.evaluation import seeded
from borderless.training import fit


def network(arch: str, arm: str, classes: int, seed: int) -> nn.Module:
    """Return a 3D network with random weights, in one of the arms."""
    with seeded(seed):
        if arch == SMALL:
            space, time = (2 if arm.startswith("full") else 1), (2 if arm == "full-temporal" else 1)
            model: nn.Module = ClipNet(classes, space, time)
        else:
            is_full = arm.startswith("full")
            suffix = arm.removeprefix("full").replace("-", "_") if is_full else ""
            model = load(f"{'fconv' if is_full else 'sconv'}_{arch}{suffix}", num_classes=classes)
    return arms.ARMS[arm].apply(model) if arm in CONVERTED else model


def cost(arch: str, arm: str, classes: int, size: tuple[int, ...]) -> float:
    """Return the multiply-adds per clip of `size` (frames, height, width), relative to `same`."""
    same = network(arch, "same", classes, 0)
    if arm in CONVERTED:
        return arms.ARMS[arm].cost(same, size)
    macs, of_same = (explain(one, size, tiles=False).macs_own for one in (network(arch, arm, classes, 0), same))
    return macs / of_same


def run_cell(config: ActionsConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train, then classify the test videos by the mean over their clips. The curves go into the metrics."""
    arch, arm, seed = (cell.parameters[name] for name in ("arch", "arm", "seed"))
    split = _data(config, seed)
    model = network(arch, arm, len(split.classes), seed).to(config.device)
    with few_threads(arch):
        history = fit(model, split.train, split.validation, config.training, folder, seed)
        right = _tested(model, split.test, config.device)
    save_arrays(folder / "right.npz", right=right)
    return {
        "accuracy": right.mean(),
        "training_accuracy": history[-1].accuracy,
        "validation_accuracy": max(epoch.validation_accuracy for epoch in history),
        "training_curve": [epoch.accuracy for epoch in history],
        "validation_curve": [epoch.validation_accuracy for epoch in history],
        "epochs": len(history),
        "cost": cost(arch, arm, len(split.classes), tuple(split.train[0][0].shape[1:])),
    }


@torch.no_grad()
def _tested(model: nn.Module, test: Any, device: str) -> np.ndarray:
    """Return whether each video is right: the class of the largest mean probability over its clips."""
    predicted = [
        int(torch.cat([model(part.to(device)).softmax(1) for part in test.clips(i).split(16)]).mean(0).argmax())
        for i in range(len(test))
    ]
    return np.array([label == test[i][1] for i, label in enumerate(predicted)])


@lru_cache(maxsize=1)
def _data(config: ActionsConfig, seed: int) -> ClipSplit:
    if config.data is None:
        return generated(config.training_clips, config.test_clips, seed)
    return from_videos(config.data, config.splits, config.split, seed, config.cache)
