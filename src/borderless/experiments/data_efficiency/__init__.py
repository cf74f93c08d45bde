"""Few images per class.

Accuracy with n training images per class, under each border, and on more pixels at the same cost.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

from borderless.experiments.experiment import grid, register
from borderless.experiments.settings import PaperSettings
from borderless.models.arms import ARMS
from borderless.models.choices import SMALL
from borderless.runtime.settings import Choice, Range
from borderless.training.recipe import IMAGENET, SMALL_IMAGES, Recipe

OWN = "own"
COMPARED = (OWN, "own-moved", "full", "infinite", "infinite-adaptive", "own-padded", "recipe")
EMBEDDED = replace(SMALL_IMAGES, epochs=40, learning_rate=4e-3)
FEW = replace(EMBEDDED, epochs=15)
PAPERS_COUNTS = (50, 100, 250, 500)


@register(
    chapter=9,
    cells=grid(
        "{arm}-{per_class}-seed{seed}", {"per_class": {0: "all"}}, seed="seeds", per_class="per_class", arm="arms"
    ),
)
@dataclass(frozen=True)
class DataEfficiencyConfig(PaperSettings):
    """Settings of `data-efficiency`."""

    arch: str = SMALL
    """Network: "small", or any of torchvision, timm/NAME, or of the paper."""
    per_class: Annotated[tuple[int, ...], Range(0)] = (5, 10, 20)
    """Training images per class; a larger set holds the smaller ones. 0: all."""
    arms: Annotated[tuple[str, ...], Choice(tuple(ARMS))] = COMPARED
    """Arms to train."""
    seeds: Annotated[int, Range(1, 10_000)] = 3
    data: Path | None = None
    """Folder of classes, or of Fashion-MNIST or CIFAR-10; by default digits. With it, defaults are the paper's."""
    training: Recipe = EMBEDDED

    DEMO: ClassVar = {"per_class": (5, 20), "arms": ("own", "full"), "seeds": 1, "training": FEW}
    FROM_PAPER: ClassVar = {"arch": "resnet50", "per_class": (*PAPERS_COUNTS, 0), "seeds": 1, "training": IMAGENET}
