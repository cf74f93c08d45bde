"""A photograph, everywhere.

A pretrained network evaluated on a photograph at many positions of an empty canvas.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

from borderless.errors import ConfigError
from borderless.experiments.experiment import grid, register
from borderless.models.arms import Arm
from borderless.models.choices import SIZE_PX
from borderless.runtime.settings import Range, Settings

PhotoName = Literal["cat", "coffee", "tripod", "motorcycle", "rocket"]
Background = Literal["black", "gray", "white"]
ARMS = {
    "own": Arm("original padding"),
    "full": Arm("full", "full"),
    "infinite": Arm("infinite", "infinite"),
    "infinite-adaptive": Arm("infinite,\nadaptive phase", "infinite", "adaptive"),
    **{f"infinite-reach{n}": Arm(f"infinite,\nreach {n}", "infinite", reach=n) for n in (4, 2, 1)},
}


@register(chapter=5, cells=grid("{photo}-{background}-{arm}", background="backgrounds", photo="photos", arm=ARMS))
@dataclass(frozen=True)
class PlacedObjectConfig(Settings):
    """Settings of `placed-object`."""

    photos: tuple[PhotoName, ...] = get_args(PhotoName)
    """Photographs to place."""
    backgrounds: tuple[Background, ...] = ("black", "gray")
    """Color of the canvas, and of the background under `infinite`. Gray is the network's mean color."""
    size_px: Annotated[int, Range(1, min(SIZE_PX))] = 96
    """Height and width of a photograph on the canvas of 224 px."""
    offsets_px: Annotated[tuple[int, ...], Range(0)] = (0, 15, 32, 49, 64, 79, 96, 113, 128)
    """Rows and columns of its upper left pixel, in all pairs; outputs are compared with those at the middle one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        room = SIZE_PX[0] - self.size_px
        if len(self.offsets_px) < 2 or max(self.offsets_px) > room:
            raise ConfigError(
                f"Expected two or more offsets that put a photograph of {self.size_px} px wholly on the canvas of "
                f"{SIZE_PX[0]} px, 0 to {room}, but got offsets_px={self.offsets_px}; choose again."
            )

    DEMO: ClassVar = {"photos": ("cat", "coffee"), "backgrounds": ("black",), "offsets_px": (0, 64, 113)}
