"""How far from the border?

The position of a picture on a canvas, read from a network's features, inside a growing border of zeros.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from borderless.data.choices import BORDERS_PX, SplitProtocol
from borderless.errors import ConfigError
from borderless.experiments.experiment import grid, register
from borderless.experiments.settings import PaperSettings
from borderless.models.choices import FeaturePool, Init
from borderless.runtime.settings import Range
from borderless.training.recipe import Recipe

Policy = Literal["own", "full", "infinite", "infinite-adaptive"]
FEW = Recipe(epochs=2)


@register(
    chapter=6,
    cells=grid(
        "{arch}-{init}-{policy}-border{border_px}-seed{seed}",
        seed="seeds",
        arch="archs",
        init="inits",
        policy="policies",
        border_px="sorted_borders_px",
    ),
)
@dataclass(frozen=True)
class QuadrantConfig(PaperSettings):
    """Settings of `quadrant`; sizes are the paper's."""

    archs: tuple[str, ...] = ("bagnet33", "resnet18")
    """Networks: of torchvision, timm/NAME, or of the paper."""
    inits: tuple[Init, ...] = ("random",)
    """Frozen random weights, frozen pretrained ones, or trained from scratch (whole canvases: a GPU is advisable)."""
    borders_px: Annotated[tuple[int, ...], Range(0)] = BORDERS_PX
    """Widths of the border of zeros, in pixels."""
    policies: tuple[Policy, ...] = ("own",)
    """Border policies: the model's original padding, or a border of borderless."""
    pictures: Annotated[int, Range(2)] = 100
    """Pictures in each of the three splits; each is used at both positions."""
    data: Path | None = None
    """Folder of images, such as ImageNet's; by default cuts from scikit-image's. With it, defaults are the paper's."""
    weights: Path | None = None
    """File of weights for the pretrained network, if there is only one; by default its library's."""
    protocol: SplitProtocol = "split"
    """split: no image in two splits, one network for all borders. published: data, networks, training of the paper."""
    pool: FeaturePool = "paper"
    """Pool over space: paper (maximum for ResNets and BagNets, own for others), own (the network's), or max."""

    @property
    def sorted_borders_px(self) -> list[int]:
        """The widths of the border, least first."""
        return sorted(self.borders_px)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.protocol == "published" and self.policies != ("own",):
            raise ConfigError(
                f"Expected the policy own with the published protocol but got {', '.join(self.policies)}; leave "
                "policies out, or take the protocol split."
            )
        if self.weights is not None and (len(self.archs) > 1 or "pretrained" not in self.inits):
            raise ConfigError(
                f"Expected weights for a single network, with pretrained among inits, but got "
                f"weights={str(self.weights)!r} for {', '.join(self.archs)}, {', '.join(self.inits)}; choose again."
            )

    DEMO: ClassVar = {
        "archs": ("resnet18",),
        "borders_px": (32, 128, 256),
        "policies": ("own", "infinite"),
        "pictures": 16,
        "training": FEW,
    }
    FROM_PAPER: ClassVar = {"archs": ("bagnet33", "resnet18", "densenet121"), "pictures": 1000}
