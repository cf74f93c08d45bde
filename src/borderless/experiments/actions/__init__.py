"""What happens in a clip?

3D networks trained from scratch on few clips, with same and full convolution and infinite borders.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

from borderless.data.choices import MOTIONS
from borderless.errors import ConfigError
from borderless.experiments.experiment import grid, register
from borderless.experiments.settings import PaperSettings
from borderless.models import arms
from borderless.models.choices import SMALL
from borderless.runtime.settings import Choice, Range
from borderless.training.recipe import SMALL_IMAGES, Recipe

# `same` under these arms of the other experiments; `full` is built, as in the paper.
CONVERTED = ("infinite", "infinite-adaptive")
ARMS = {
    "same": "same",
    "full": "full over space",
    "full-temporal": "full over space and time",
    **{name: arms.ARMS[name].title for name in CONVERTED},
}
NETWORKS = (SMALL, "resnet3d18", "resnet3d34", "resnet3d50")
EMBEDDED = replace(SMALL_IMAGES, epochs=12, learning_rate=3e-3)
FEW = replace(EMBEDDED, epochs=3)
# PyTorch's "patience 10" acts on the eleventh.
_PLATEAU = Recipe(monitor="loss", patience=11, min_learning_rate=0.0, restore_best=False, workers=4)
_SGD = replace(_PLATEAU, learning_rate=0.1, dampening=0.9, nesterov=False, weight_decay=1e-3)
PAPER = replace(_SGD, epochs=150, batch_size=32)


@register(chapter=11, cells=grid("{arch}-{arm}-seed{seed}", seed="seeds", arch="archs", arm="arms"))
@dataclass(frozen=True)
class ActionsConfig(PaperSettings):
    """Settings of `actions`."""

    archs: Annotated[tuple[str, ...], Choice(NETWORKS)] = (SMALL,)
    """Networks: small, resnet3d18, resnet3d34, resnet3d50."""
    arms: Annotated[tuple[str, ...], Choice(tuple(ARMS))] = tuple(ARMS)
    """Arms to train."""
    training_clips: Annotated[int, Range(len(MOTIONS))] = 512
    """Number of generated training clips, at least one of each motion."""
    test_clips: Annotated[int, Range(len(MOTIONS))] = 400
    """Number of generated clips to validate on, and to test on."""
    data: Path | None = None
    """Folder of UCF101's or HMDB51's videos; by default generated clips. With it, defaults are the paper's."""
    splits: Path | None = None
    """Folder of the official split files; by default looked for in --data and beside it."""
    split: Annotated[int, Range(1)] = 1
    """Number of the official split."""
    cache: Path = Path("runs/frames")
    """Folder for decoded frames of videos."""
    training: Recipe = EMBEDDED

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.splits is not None and self.data is None:
            raise ConfigError(
                f"Expected the folder of the videos but got splits={str(self.splits)!r} without --data; add it."
            )

    DEMO: ClassVar = {"arms": ("same", "full"), "training_clips": 96, "test_clips": 48, "training": FEW}
    FROM_PAPER: ClassVar = {"archs": ("resnet3d18",), "training": PAPER}
