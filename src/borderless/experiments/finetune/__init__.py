"""Fine-tuned under another border.

A pretrained network, converted: accuracy before and after fine-tuning, in the middle and at the edge.
"""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from borderless.data.choices import OBJECT_PX
from borderless.experiments.experiment import grid, register
from borderless.experiments.settings import DeviceSettings
from borderless.models.arms import ARMS
from borderless.models.choices import ARCHITECTURE
from borderless.runtime.settings import Choice, Range
from borderless.training.recipe import SMALL_IMAGES, Recipe

RECIPE = replace(SMALL_IMAGES, epochs=20, batch_size=16, learning_rate=5e-4)
FEW = replace(RECIPE, epochs=2)
COMPARED = ("own", "infinite-adaptive")


@register(chapter=12, cells=grid("seed{seed}", seed="seeds"))
@dataclass(frozen=True)
class FinetuningConfig(DeviceSettings):
    """Settings of `finetune`."""

    arch: str = ARCHITECTURE
    """Network: any of torchvision, timm/NAME, or of the paper."""
    weights: str = "packaged"
    """Weights: packaged, default (torchvision's, downloaded), pretrained (timm's), random, or a file."""
    arms: Annotated[tuple[str, ...], Choice(tuple(ARMS))] = COMPARED
    """Arms to fine-tune."""
    reach: Annotated[int | None, Range(0)] = 2
    """Number of cells that a feature map of a converted network may grow beyond its frame; none: unlimited."""
    canvas_px: Annotated[int, Range(OBJECT_PX + 2)] = 96
    """Height and width of the canvas; objects have 48 px."""
    training: Recipe = RECIPE
    """Settings of both trainings."""

    DEMO: ClassVar = {"seeds": 1, "arms": ("own", "infinite-adaptive"), "reach": 1, "training": FEW}
