"""What happens in a clip? 3D networks from scratch, with same and with full convolution over space, and over time.

Kayhan and van Gemert (CVPR 2020), action recognition: 3D ResNets on UCF101 and HMDB51, split 1. The published temporal
variant also halves the frames in its stem; that arm is built as published.

Embedded data: generated clips whose class is a motion. `--data`: the folder of UCF101's or HMDB51's videos.

Shapes: clips n × 3 × frames × height × width; logits n × classes.
"""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import borderless as bl
from borderless.data.items import ClipSplit
from borderless.data.motions import generated
from borderless.data.videos import from_videos
from borderless.experiments import actions_figures, arms
from borderless.experiments.arms import SMALL, check_arms, check_device
from borderless.experiments.runner import Cell, ConfigError, Experiment, Result, write_table
from borderless.models import load
from borderless.report import Section
from borderless.runtime.evaluation import one_thread, seeded
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
PAPER = Recipe(
    epochs=150,
    batch_size=32,
    learning_rate=0.1,
    dampening=0.9,
    nesterov=False,
    weight_decay=1e-3,
    patience=11,  # PyTorch's "patience 10" acts on the eleventh
    smallest_learning_rate=0.0,
    restores_best=False,
    watch="loss",
    workers=4,
)


@dataclass(frozen=True)
class Config:
    """Settings of `actions`."""

    archs: tuple[str, ...] = (SMALL,)
    """Networks: small, resnet3d18, resnet3d34, resnet3d50."""
    arms: tuple[str, ...] = tuple(ARMS)
    """What each network is trained as."""
    seeds: int = 1
    """How many seeds (0, 1, …) of the clips, the weights and the order."""
    training_clips: int = 512
    """Generated clips to train on."""
    test_clips: int = 400
    """Generated clips to validate on, and as many to test on."""
    data: Path | None = None
    """The folder of UCF101's or HMDB51's videos; without it, generated clips. With it, what no option says is as in the
    paper."""
    splits: Path | None = None
    """The folder of the official split files; by default looked for in --data and beside it."""
    split: int = 1
    """Which of the official splits."""
    cache: Path = Path("runs/frames")
    """Where decoded frames of videos are kept."""
    device: str = "cpu"
    """Where the networks run: cpu, cuda, cuda:1, …"""
    training: Recipe = field(default_factory=lambda: EMBEDDED)
    """How networks are trained."""

    def __post_init__(self) -> None:
        check_arms(self.arms, tuple(ARMS))
        if not self.archs or not set(self.archs) <= set(NETWORKS):
            raise ConfigError(f"got archs={self.archs}; needed: some of {', '.join(NETWORKS)}")
        if self.seeds < 1 or min(self.training_clips, self.test_clips) < 8 or self.split < 1:
            raise ConfigError(
                f"got seeds={self.seeds}, training_clips={self.training_clips}, test_clips={self.test_clips}, "
                f"split={self.split}; needed: one seed, split 1 and a clip for each of the 8 motions at least"
            )
        if self.splits is not None and self.data is None:
            raise ConfigError(f"got splits={str(self.splits)!r} without --data; needed: the folder of the videos")
        check_device(self.device)

    @classmethod
    def small(cls) -> "Config":
        few = replace(EMBEDDED, epochs=3)
        return cls(arms=("same", "full"), training_clips=96, test_clips=48, training=few)

    @classmethod
    def paper(cls) -> "Config":
        """What --data starts from."""
        return cls(archs=("resnet3d18",), training=PAPER)


class SmallNet(nn.Module):
    """Three 3D convolutions with strides, global average; `padding` is how many cells space and time are padded by."""

    def __init__(self, classes: int, space: int, time: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs, stride in ((16, (1, 2, 2)), (32, 2), (64, 2)):
            convolution = nn.Conv3d(inputs, outputs, 3, stride, (time, space, space), bias=False)
            layers += [convolution, nn.BatchNorm3d(outputs), nn.ReLU()]
            inputs = outputs
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, clips: Tensor) -> Tensor:
        return self.classifier(self.features(clips))


def network(arch: str, arm: str, classes: int, seed: int) -> nn.Module:
    """A 3D network with random weights, in one of the arms."""
    with seeded(seed):
        if arch == SMALL:
            space, time = (2 if arm.startswith("full") else 1), (2 if arm == "full-temporal" else 1)
            model: nn.Module = SmallNet(classes, space, time)
        else:
            prefix, suffix = (
                ("fconv" if arm.startswith("full") else "sconv"),
                arm.removeprefix("full").replace("-", "_"),
            )
            model = load(f"{prefix}_{arch}{suffix if arm.startswith('full') else ''}", num_classes=classes)
    return arms.ARMS[arm].of(model) if arm in CONVERTED else model


def cost(arch: str, arm: str, classes: int, size: tuple[int, ...]) -> float:
    """Multiply-adds of one clip of `size` (frames, height, width), relative to `same`."""
    same = network(arch, "same", classes, 0)
    if arm in CONVERTED:
        return arms.ARMS[arm].explained(same, size).cost
    return bl.explain(network(arch, arm, classes, 0), size).macs_own / bl.explain(same, size).macs_own


def cells(config: Config) -> list[Cell]:
    return [
        Cell(f"{arch}-{arm}-seed{seed}", {"arch": arch, "arm": arm, "seed": seed})
        for seed in range(config.seeds)
        for arch in config.archs
        for arm in config.arms
    ]


def run_cell(config: Config, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train, then classify the test videos by the mean over their clips. The curves go into the metrics."""
    arch, arm, seed = (cell.parameters[name] for name in ("arch", "arm", "seed"))
    split = _data(config, seed)
    model = network(arch, arm, len(split.classes), seed).to(config.device)
    with one_thread() if arch == SMALL else nullcontext():
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
    answers = [
        int(torch.cat([model(part.to(device)).softmax(1) for part in test.clips(i).split(16)]).mean(0).argmax())
        for i in range(len(test))
    ]
    return np.array([answer == test[i][1] for i, answer in enumerate(answers)])


@lru_cache(maxsize=1)
def _data(config: Config, seed: int) -> ClipSplit:
    if config.data is None:
        return generated(config.training_clips, config.test_clips, seed)
    return from_videos(config.data, config.splits, config.split, seed, config.cache)


def draw(config: Config, results: list[Result], folder: Path) -> Section:
    write_table(results, folder)
    titles = {arm: ARMS[arm] for arm in config.arms}
    example = None if config.data is not None else generated(16, 8, 0).train
    return actions_figures.section(config.archs, titles, example, results, folder)


EXPERIMENT = Experiment(
    name="actions",
    title="What happens in a clip?",
    summary="3D networks trained from scratch on few clips, with same and full convolution and infinite borders.",
    Config=Config,
    cells=cells,
    run_cell=run_cell,
    draw=draw,
)
