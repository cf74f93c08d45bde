"""Moved images.

Consistency and accuracy of classifiers when an image moves, by crops, rolls, or over an empty canvas.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from borderless.errors import ConfigError
from borderless.experiments.experiment import grid, register
from borderless.experiments.settings import PaperSettings
from borderless.models.arms import ARMS
from borderless.models.choices import SMALL
from borderless.runtime.settings import Choice, Range
from borderless.training.recipe import IMAGENET, SMALL_IMAGES, Recipe

EMBEDDED = replace(SMALL_IMAGES, epochs=20, batch_size=64, learning_rate=4e-3)
FEW = replace(EMBEDDED, epochs=5)
_UNBLURRED = ("own", "full", "infinite", "infinite-adaptive", "recipe")
COMPARED = (*_UNBLURRED, "own-blur", "full-blur", "infinite-adaptive-blur", "recipe-blur")
PAPERS_NETWORKS = ("resnet18", "resnet34", "resnet50", "resnet101")


@register(chapter=8, cells=grid("{arch}-{arm}-seed{seed}", seed="seeds", arch="archs", arm="arms"))
@dataclass(frozen=True)
class ShiftsConfig(PaperSettings):
    """Settings of `shifts`."""

    archs: tuple[str, ...] = (SMALL,)
    """Networks: "small", or any of torchvision, timm/NAME, or of the paper."""
    arms: Annotated[tuple[str, ...], Choice(tuple(ARMS))] = COMPARED
    """Arms to train; every arm trains on random crops, so random translations change nothing."""
    seeds: Annotated[int, Range(1, 10_000)] = 2
    data: Path | None = None
    """Folder of classes, or of train and val with classes; by default digits. With it, defaults are the paper's."""
    classes: Literal["all", "imagenet-a"] = "all"
    """Classes of --data: all, or the 200 that the paper took from ImageNet."""
    test_images: Annotated[int, Range(0)] = 0
    """Number of test images to move; 0: all."""
    passes: Annotated[int, Range(1)] = 5
    """Pairs of views per image."""
    training: Recipe = EMBEDDED

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.classes != "all" and self.data is None:
            raise ConfigError(
                f"Expected a folder of ImageNet's classes but got classes={self.classes!r} without --data; add it."
            )

    DEMO: ClassVar = {"arms": ("own", "infinite-adaptive"), "seeds": 1, "test_images": 40, "passes": 2, "training": FEW}
    FROM_PAPER: ClassVar = {"archs": PAPERS_NETWORKS, "seeds": 1, "training": IMAGENET}
