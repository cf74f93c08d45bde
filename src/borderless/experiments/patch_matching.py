"""Descriptors of patches, learnt from few pairs: HardNet with same and with full convolution.

Kayhan and van Gemert (CVPR 2020), data efficiency on the Brown patches. The published full-convolution HardNet has a
descriptor of 6,272 numbers instead of 128; a third arm has full convolution and 128 numbers, so that size and border
can be told apart. Hardest-in-batch triplets (Mishchuk et al., NeurIPS 2017), SGD whose rate falls linearly; the false
positive rate at 95 % recall is what counts.

Embedded data: patches of photographs inside scikit-image under random homographies. `--data`: the Brown patches.

Shapes: patches n × 1 × 32 × 32; descriptors n × numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import borderless as bl
from borderless.data.patches import PATCH_PX, Matches, Pairs, Patches, from_photographs, from_phototour
from borderless.experiments import patch_matching_figures
from borderless.experiments.arms import check_arms, check_device
from borderless.experiments.runner import Cell, ConfigError, Experiment, Result, write_table
from borderless.measures.fpr95 import fpr95
from borderless.models import load
from borderless.report import Section
from borderless.runtime.distributed import ProcessGroup
from borderless.runtime.evaluation import seeded
from borderless.training import Recipe, Score, evaluate, fit

ARMS = {
    "same": ("sconv_hardnet", "same, 128 numbers"),
    "full": ("fconv_hardnet", "full as published, 6,272 numbers"),
    "full-128": ("fconv_hardnet_128", "full, 128 numbers"),
}
PAPER = Recipe(
    epochs=10,
    batch_size=256,
    learning_rate=10.0,
    dampening=0.9,
    nesterov=False,
    weight_decay=1e-4,
    schedule="linear",
    watch="loss",
)
# A few hundred pairs are too few steps for the paper's optimiser.
EMBEDDED = Recipe(
    epochs=10,
    batch_size=32,
    optimizer="adamw",
    learning_rate=3e-3,
    weight_decay=1e-4,
    schedule="linear",
    watch="loss",
)
MARGIN = 1.0
# Patches of a batch that are closer than this are taken for the same spot, so not for a wrong match.
_SAME = 0.008
_FAR = 10.0


@dataclass(frozen=True)
class Config:
    """Settings of `patch-matching`."""

    pairs: tuple[int, ...] = (32, 64, 128)
    """How many training pairs; a larger set holds the smaller ones."""
    arms: tuple[str, ...] = tuple(ARMS)
    """Which descriptors to train."""
    seeds: int = 2
    """How many seeds (0, 1, …) of the patches, the weights and the order."""
    test_matches: int = 500
    """Matches, and as many others, to test on; a quarter to validate on. The Brown patches have lists of their own."""
    data: Path | None = None
    """A folder with the Brown patches (yosemite, notredame, liberty); without it, patches of photographs. With it, what
    no option says is as in the paper."""
    device: str = "cpu"
    """Where the networks run: cpu, cuda, cuda:1, …"""
    training: Recipe = field(default_factory=lambda: EMBEDDED)
    """How descriptors are trained."""

    def __post_init__(self) -> None:
        check_arms(self.arms, tuple(ARMS))
        if self.seeds < 1 or not self.pairs or min(self.pairs) < 2 or self.test_matches < 100:
            raise ConfigError(
                f"got seeds={self.seeds}, pairs={self.pairs}, test_matches={self.test_matches}; needed: one seed, one "
                "number of pairs, two pairs and 100 test matches at least"
            )
        check_device(self.device)

    @classmethod
    def small(cls) -> "Config":
        few = replace(EMBEDDED, epochs=3)
        return cls(pairs=(128,), arms=("same", "full-128"), seeds=1, test_matches=200, training=few)

    @classmethod
    def paper(cls) -> "Config":
        """What --data starts from."""
        return cls(pairs=(25_000, 50_000, 100_000, 250_000, 500_000), seeds=1, training=PAPER)


class HardestInBatch:
    """Triplet loss in which the wrong match of a pair is the closest one of its batch, to either of its patches."""

    needs_whole_batch = True

    def loss(self, model: nn.Module, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        anchors, positives = batch
        descriptors = model(torch.cat([anchors, positives]))
        distances = _distances(*descriptors.chunk(2))
        own = distances.diagonal()
        others = distances + _FAR * torch.eye(len(own), device=own.device) + _FAR * (distances.detach() < _SAME)
        closest = torch.minimum(others.amin(0), others.amin(1))
        return (MARGIN + own - closest).clamp(min=0).mean(), (own.detach() < closest.detach()).sum()

    def score(self, model: nn.Module, data: Matches, batch_size: int, group: ProcessGroup, workers: int) -> Score:
        rate = fpr95(distances_of(model, data, batch_size), data.is_match)
        return Score(rate, 1 - rate)


def _distances(one: Tensor, other: Tensor) -> Tensor:
    """Between all descriptors of length 1: (n, n)."""
    return (2 - 2 * one @ other.T).clamp(min=0).add(1e-6).sqrt()


def distances_of(model: nn.Module, data: Matches, batch_size: int) -> np.ndarray:
    """Between the two patches of each pair."""
    device = next(model.parameters()).device
    found = [
        (model(first.to(device)) - model(second.to(device))).square().sum(1).sqrt().cpu()
        for first, second in zip(data.first.split(batch_size), data.second.split(batch_size), strict=True)
    ]
    return torch.cat(found).numpy()


def cells(config: Config) -> list[Cell]:
    return [
        Cell(f"{arm}-{count}-seed{seed}", {"arm": arm, "pairs": count, "seed": seed})
        for seed in range(config.seeds)
        for count in config.pairs
        for arm in config.arms
    ]


def run_cell(config: Config, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train a descriptor, then match the test pairs with it and with its weights of before."""
    arm, count, seed = (cell.parameters[name] for name in ("arm", "pairs", "seed"))
    data = _data(config.data, max(config.pairs), config.test_matches, seed)
    with seeded(seed):
        model = load(ARMS[arm][0]).to(config.device)
    objective = HardestInBatch()
    size = (PATCH_PX, PATCH_PX)
    cost = (
        bl.explain(model, size, "zero", channels=1).macs
        / bl.explain(load("sconv_hardnet"), size, "zero", channels=1).macs
    )
    untrained = evaluate(model, data.test, 256, objective).loss
    train = Pairs(data.train.anchors[:count], data.train.positives[:count], seed, turns=data.train.turns)
    history = fit(model, train, data.validation, config.training, folder, seed, objective=objective)
    return {
        "fpr95": evaluate(model, data.test, 256, objective).loss,
        "untrained_fpr95": untrained,
        "validation_fpr95": min(epoch.validation_loss for epoch in history),
        "training_accuracy": history[-1].accuracy,
        "cost": cost,
        "epochs": len(history),
    }


@lru_cache(maxsize=1)
def _data(folder: Path | None, train: int, test: int, seed: int) -> Patches:
    return from_photographs(train, test, seed) if folder is None else from_phototour(folder, train, seed)


def draw(config: Config, results: list[Result], folder: Path) -> Section:
    write_table(results, folder)
    titles = {arm: ARMS[arm][1] for arm in config.arms}
    examples = _data(config.data, max(config.pairs), config.test_matches, 0).train
    return patch_matching_figures.section(
        titles, tuple(sorted(config.pairs)), examples, results, folder, config.data is not None
    )


EXPERIMENT = Experiment(
    name="patch-matching",
    title="Descriptors from few pairs",
    summary="HardNet, with same and with full convolution, trained on n pairs of patches.",
    Config=Config,
    cells=cells,
    run_cell=run_cell,
    draw=draw,
)
