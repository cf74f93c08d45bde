"""Descriptors of patches, learned from few pairs: HardNet with same and with full convolution.

Kayhan and van Gemert (CVPR 2020), data efficiency on the Brown patches. The published full-convolution HardNet has a
descriptor of 6,272 numbers instead of 128; a third arm has full convolution and 128 numbers, which separates the
effects of size and border. Hardest-in-batch triplets, SGD with a linearly falling rate; the result is the false
positive rate at 95 % recall.

Embedded data: patches of photographs inside scikit-image under random homographies. `--data`: the Brown patches.

Shapes: patches n × 1 × 32 × 32; descriptors n × numbers.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from borderless.data.patches import PATCH_PX, Pairs, Patches, from_photographs, from_phototour
from borderless.experiments.experiment import Cell
from borderless.experiments.patch_matching import ARMS, PatchMatchingConfig
from borderless.explanation import explain
from borderless.models import load
from borderless.runtime.evaluation import seeded
from borderless.training import evaluate, fit
from borderless.training.hardest_in_batch import HardestInBatch


def run_cell(config: PatchMatchingConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train a descriptor, then match the test pairs with it and with its initial weights."""
    arm, count, seed = (cell.parameters[name] for name in ("arm", "pairs", "seed"))
    data = _data(config.data, max(config.pairs), config.test_matches, seed)
    with seeded(seed):
        model = load(ARMS[arm][0]).to(config.device)
    objective = HardestInBatch()
    size = (PATCH_PX, PATCH_PX)
    macs, of_same = (explain(one, size, "zero", channels=1, tiles=False).macs for one in (model, load("sconv_hardnet")))
    untrained = evaluate(model, data.test, 256, objective).loss
    train = Pairs(data.train.anchors[:count], data.train.positives[:count], data.train.turns, seed=seed)
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
