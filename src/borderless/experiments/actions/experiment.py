"""What happens in a clip? 3D networks from scratch, with same and with full convolution over space, and over time.

Kayhan and van Gemert (CVPR 2020), action recognition: 3D ResNets on UCF101 and HMDB51, split 1. The published temporal
variant also halves the frames in its stem; that arm is built as published.

Embedded data: generated clips whose class is a motion. `--data`: the folder of UCF101's or HMDB51's videos.

Shapes: clips n × 3 × frames × height × width; logits n × classes.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import nn

from borderless.data.items import ClipSplit
from borderless.data.motions import MOTIONS, generated
from borderless.data.videos import from_videos
from borderless.errors import ConfigError
from borderless.experiments import arms
from borderless.experiments.experiment import Cell, grid, register
from borderless.experiments.settings import Choice, PaperSettings, Range
from borderless.explanation import explain
from borderless.models import load
from borderless.models.small import SMALL, ClipNet, few_threads
from borderless.runtime.evaluation import seeded
from borderless.training import Recipe, fit

# `same` under these arms of the other experiments; `full` is built, as in the paper.
CONVERTED = ("infinite", "infinite-adaptive")
ARMS = {
    "same": "same",
    "full": "full over space",
    "full-temporal": "full over space and time",
    **{name: arms.ARMS[name].title for name in CONVERTED},
}
NETWORKS = (SMALL, "resnet3d18", "resnet3d34", "resnet3d50")
EMBEDDED = Recipe(epochs=12, batch_size=32, optimizer="adamw", learning_rate=3e-3, weight_decay=1e-2, schedule="linear")
FEW = replace(EMBEDDED, epochs=3)
# PyTorch's "patience 10" acts on the eleventh.
_PLATEAU = Recipe(watch="loss", patience=11, smallest_learning_rate=0.0, restores_best=False, workers=4)
_SGD = replace(_PLATEAU, learning_rate=0.1, dampening=0.9, nesterov=False, weight_decay=1e-3)
PAPER = replace(_SGD, epochs=150, batch_size=32)


@dataclass(frozen=True)
class ActionsConfig(PaperSettings):
    """Settings of `actions`."""

    archs: Annotated[tuple[str, ...], Choice(NETWORKS)] = (SMALL,)
    """Networks: small, resnet3d18, resnet3d34, resnet3d50."""
    arms: Annotated[tuple[str, ...], Choice(tuple(ARMS))] = tuple(ARMS)
    """What each network is trained as."""
    training_clips: Annotated[int, Range(len(MOTIONS))] = 512
    """Generated clips to train on, one of each motion at least."""
    test_clips: Annotated[int, Range(len(MOTIONS))] = 400
    """Generated clips to validate on, and as many to test on."""
    data: Path | None = None
    """The folder of UCF101's or HMDB51's videos; without it, generated clips. With it, what no option says is as in the
    paper."""
    splits: Path | None = None
    """The folder of the official split files; by default looked for in --data and beside it."""
    split: Annotated[int, Range(1)] = 1
    """Which of the official splits."""
    cache: Path = Path("runs/frames")
    """Where decoded frames of videos are kept."""
    training: Recipe = EMBEDDED

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.splits is not None and self.data is None:
            raise ConfigError(
                f"Expected the folder of the videos but got splits={str(self.splits)!r} without --data; add it."
            )

    DEMO: ClassVar = {"arms": ("same", "full"), "training_clips": 96, "test_clips": 48, "training": FEW}
    FROM_PAPER: ClassVar = {"archs": ("resnet3d18",), "training": PAPER}


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
    """Return the multiply-adds for a clip of `size` (frames, height, width), relative to `same`."""
    same = network(arch, "same", classes, 0)
    if arm in CONVERTED:
        return arms.ARMS[arm].explained(same, size).cost
    return explain(network(arch, arm, classes, 0), size).macs_own / explain(same, size).macs_own


@register(
    name="actions",
    chapter=11,
    title="What happens in a clip?",
    summary="3D networks trained from scratch on few clips, with same and full convolution and infinite borders.",
    Config=ActionsConfig,
    cells=lambda config: grid("{arch}-{arm}-seed{seed}", seed=range(config.seeds), arch=config.archs, arm=config.arms),
)
def run_cell(config: ActionsConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train, then classify the test videos by the mean over their clips. The curves go into the metrics."""
    arch, arm, seed = (cell.parameters[name] for name in ("arch", "arm", "seed"))
    split = _data(config, seed)
    model = network(arch, arm, len(split.classes), seed).to(config.device)
    with few_threads(arch):
        history = fit(model, split.train, split.validation, config.training, folder, seed)
        right = _tested(model, split.test, config.device)
    np.savez_compressed(folder / "right.npz", right=right)
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
    """Whether each video is right: the class of the largest mean probability over its clips."""
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
