"""Descriptors of patches, learnt from few pairs: HardNet with same and with full convolution.

Kayhan and van Gemert (CVPR 2020), data efficiency on the Brown patches. The published full-convolution HardNet has a
descriptor of 6,272 numbers instead of 128; a third arm has full convolution and 128 numbers, so that size and border
can be told apart. Hardest-in-batch triplets, SGD whose rate falls linearly; the false positive rate at 95 %
recall is what counts.

Embedded data: patches of photographs inside scikit-image under random homographies. `--data`: the Brown patches.

Shapes: patches n × 1 × 32 × 32; descriptors n × numbers.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

from borderless.data.patches import PATCH_PX, Pairs, Patches, from_photographs, from_phototour
from borderless.experiments.experiment import Cell, grid, register
from borderless.experiments.settings import Choice, PaperSettings, Range
from borderless.explanation import explain
from borderless.models import load
from borderless.runtime.evaluation import seeded
from borderless.training import Recipe, evaluate, fit
from borderless.training.hardest_in_batch import HardestInBatch

ARMS = {
    "same": ("sconv_hardnet", "same, 128 numbers"),
    "full": ("fconv_hardnet", "full as published, 6,272 numbers"),
    "full-128": ("fconv_hardnet_128", "full, 128 numbers"),
}
_BASE = Recipe(epochs=10, weight_decay=1e-4, schedule="linear", watch="loss")
PAPER = replace(_BASE, batch_size=256, learning_rate=10.0, dampening=0.9, nesterov=False)
# A few hundred pairs are too few steps for the paper's optimizer.
EMBEDDED = replace(_BASE, batch_size=32, optimizer="adamw", learning_rate=3e-3)
FEW = replace(EMBEDDED, epochs=3)


@dataclass(frozen=True)
class PatchMatchingConfig(PaperSettings):
    """Settings of `patch-matching`."""

    pairs: Annotated[tuple[int, ...], Range(2)] = (32, 64, 128)
    """How many training pairs; a larger set holds the smaller ones."""
    arms: Annotated[tuple[str, ...], Choice(tuple(ARMS))] = tuple(ARMS)
    """Which descriptors to train."""
    seeds: Annotated[int, Range(1)] = 2
    test_matches: Annotated[int, Range(100)] = 500
    """Matches, and as many others, to test on; a quarter to validate on. The Brown patches have lists of their own."""
    data: Path | None = None
    """A folder with the Brown patches (yosemite, notredame, liberty); without it, patches of photographs. With it, what
    no option says is as in the paper."""
    training: Recipe = EMBEDDED

    DEMO: ClassVar = {"pairs": (128,), "arms": ("same", "full-128"), "seeds": 1, "test_matches": 200, "training": FEW}
    FROM_PAPER: ClassVar = {"pairs": (25000, 50000, 100000, 250000, 500000), "seeds": 1, "training": PAPER}


@register(
    name="patch-matching",
    chapter=10,
    title="Descriptors from few pairs",
    summary="HardNet, with same and with full convolution, trained on n pairs of patches.",
    Config=PatchMatchingConfig,
    cells=lambda config: grid(
        "{arm}-{pairs}-seed{seed}", seed=range(config.seeds), pairs=config.pairs, arm=config.arms
    ),
)
def run_cell(config: PatchMatchingConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train a descriptor, then match the test pairs with it and with its weights of before."""
    arm, count, seed = (cell.parameters[name] for name in ("arm", "pairs", "seed"))
    data = _data(config.data, max(config.pairs), config.test_matches, seed)
    with seeded(seed):
        model = load(ARMS[arm][0]).to(config.device)
    objective = HardestInBatch()
    size = (PATCH_PX, PATCH_PX)
    macs, of_same = (explain(one, size, "zero", channels=1).macs for one in (model, load("sconv_hardnet")))
    untrained = evaluate(model, data.test, 256, objective).loss
    train = Pairs(data.train.anchors[:count], data.train.positives[:count], seed, turns=data.train.turns)
    history = fit(model, train, data.validation, config.training, folder, seed, objective=objective)
    return {
        "fpr95": evaluate(model, data.test, 256, objective).loss,
        "untrained_fpr95": untrained,
        "validation_fpr95": min(epoch.validation_loss for epoch in history),
        "training_accuracy": history[-1].accuracy,
        "cost": macs / of_same,
        "epochs": len(history),
    }


@lru_cache(maxsize=1)
def _data(folder: Path | None, train: int, test: int, seed: int) -> Patches:
    return from_photographs(train, test, seed) if folder is None else from_phototour(folder, train, seed)


def examples(config: PatchMatchingConfig) -> Pairs:
    """Return the training pairs of the first seed."""
    return _data(config.data, max(config.pairs), config.test_matches, 0).train
