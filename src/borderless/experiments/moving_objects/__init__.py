"""Objects that move.

Objects anywhere on a canvas, or on one side in training: accuracy and consistency at all positions.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from borderless.data.choices import Behind, TrainedAt
from borderless.errors import ConfigError
from borderless.experiments.experiment import grid, register
from borderless.experiments.settings import DeviceSettings
from borderless.models.arms import ARMS
from borderless.models.choices import SMALL
from borderless.runtime.settings import Choice, Range
from borderless.training.recipe import SMALL_IMAGES, Recipe

OWN, MOVED = "own", "own-moved"
COMPARED = (OWN, MOVED, "own-padded-moved", "infinite-adaptive", "recipe")
TRAINING = replace(SMALL_IMAGES, epochs=40, monitor="loss")
FEW = replace(TRAINING, epochs=10)


@register(
    chapter=13,
    cells=grid(
        "{behind}-{at}-{arm}-{per_class}-seed{seed}",
        {"per_class": {0: "all"}},
        seed="seeds",
        behind="behind",
        at="at",
        per_class="per_class",
        arm="arms",
    ),
)
@dataclass(frozen=True)
class MovingObjectsConfig(DeviceSettings):
    """Settings of `moving-objects`."""

    objects: Literal["digits", "tiles"] = "digits"
    """Objects: scikit-learn's digits, or tiles of its photographs, whose class is the photograph."""
    data: Path | None = None
    """Folder of other objects: Fashion-MNIST's files, CIFAR-10's, or a folder of classes."""
    behind: tuple[Behind, ...] = ("black",)
    """Background of the objects."""
    at: tuple[TrainedAt, ...] = ("anywhere", "left")
    """Positions in training: anywhere, or in the left quarter of the columns."""
    per_class: Annotated[tuple[int, ...], Range(0)] = (10,)
    """Training images per class; a larger set holds the smaller ones. 0: all."""
    arms: Annotated[tuple[str, ...], Choice(tuple(ARMS))] = COMPARED
    """Arms to train."""
    arch: str = SMALL
    """Network: "small", or any of torchvision, timm/NAME, or of the paper."""
    rates: Annotated[tuple[float, ...], Range(1e-6, 10)] = (2e-3, 8e-3)
    """Learning rates to try for each arm; the least loss on the validation images chooses."""
    translation_px: Annotated[int, Range(1)] = 48
    """Largest random translation along each axis, in arms that have them; a scene stays whole."""
    canvas_px: Annotated[int, Range(32)] = 48
    """Height and width of the canvas; digits have 20 px, other objects 28."""
    seeds: Annotated[int, Range(1, 10_000)] = 3
    validation_images: Annotated[int, Range(1)] = 100
    """Number of validation images."""
    test_images: Annotated[int, Range(1)] = 300
    """Number of test images, each tested at 25 positions."""
    training: Recipe = TRAINING

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objects == "tiles" and self.data is None and "photographs" in self.behind:
            raise ConfigError(
                "Expected a black background for tiles of photographs but got photographs, which are their classes; "
                "take --behind black, or other objects."
            )

    DEMO: ClassVar = {"arms": (MOVED, "recipe"), "seeds": 1, "test_images": 60, "training": FEW}
