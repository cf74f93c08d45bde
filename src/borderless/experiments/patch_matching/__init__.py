"""Descriptors from few pairs.

HardNet, with same and with full convolution, trained on n pairs of patches.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

from borderless.experiments.experiment import grid, register
from borderless.experiments.settings import PaperSettings
from borderless.runtime.settings import Choice, Range
from borderless.training.recipe import Recipe

ARMS = {
    "same": ("sconv_hardnet", "same, 128 numbers"),
    "full": ("fconv_hardnet", "full as published, 6,272 numbers"),
    "full-128": ("fconv_hardnet_128", "full, 128 numbers"),
}
_BASE = Recipe(epochs=10, weight_decay=1e-4, schedule="linear", monitor="loss")
PAPER = replace(_BASE, batch_size=256, learning_rate=10.0, dampening=0.9, nesterov=False)
# A few hundred pairs are too few steps for the paper's optimizer.
EMBEDDED = replace(_BASE, batch_size=32, optimizer="adamw", learning_rate=3e-3)
FEW = replace(EMBEDDED, epochs=3)


@register(chapter=10, cells=grid("{arm}-{pairs}-seed{seed}", seed="seeds", pairs="pairs", arm="arms"))
@dataclass(frozen=True)
class PatchMatchingConfig(PaperSettings):
    """Settings of `patch-matching`."""

    pairs: Annotated[tuple[int, ...], Range(2)] = (32, 64, 128)
    """Number of training pairs; a larger set holds the smaller ones."""
    arms: Annotated[tuple[str, ...], Choice(tuple(ARMS))] = tuple(ARMS)
    """Arms to train."""
    seeds: Annotated[int, Range(1, 10_000)] = 2
    test_matches: Annotated[int, Range(100)] = 500
    """Matching, and other, test pairs; a quarter as many to validate on. Brown patches have their own lists."""
    data: Path | None = None
    """Folder of the Brown patches; by default patches of photographs. With it, defaults are the paper's."""
    training: Recipe = EMBEDDED

    DEMO: ClassVar = {"pairs": (128,), "arms": ("same", "full-128"), "seeds": 1, "test_matches": 200, "training": FEW}
    FROM_PAPER: ClassVar = {"pairs": (25000, 50000, 100000, 250000, 500000), "seeds": 1, "training": PAPER}
