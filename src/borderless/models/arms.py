"""Arms of the comparisons: what a network is trained under, what it is used under, and how its images are shown."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from borderless.engine.border import Border, BorderName, Phase
from borderless.engine.edge import Count

if TYPE_CHECKING:
    from torch import nn

    from borderless.explanation import Explanation


@dataclass(frozen=True)
class Arm:
    """A way to train and use a network.

    Attributes:
        title: Its name in tables.
        border: Border of the network; None: its original padding.
        phase: Phase of the border in training.
        reach: Number of cells that a feature map may grow beyond its frame, here or under `full`, which an arm that
            pads costs as much as; None: unlimited.
        count: What a mean over space is divided by, under `infinite`.
        deployed: Phase of the trained network, when it is tested and used; None: as in training.
        lifted: Whether the reach is unlimited when the trained network is tested and used; only with `deployed`.
        moves: Whether training images are translated at random, anew in each epoch. How, the experiment says.
        pads: Whether as many zeros lie around the image as make the original padding cost what `full` costs.
        blurs: Whether strides are anti-aliased.
        paper: Its name in the paper.
    """

    title: str
    border: BorderName | None = None
    phase: Phase = "fixed"
    reach: int | None = None
    count: Count = "frame"
    deployed: Phase | None = None
    lifted: bool = False
    moves: bool = False
    pads: bool = False
    blurs: bool = False
    paper: str | None = None

    def apply(self, model: "nn.Module", size: tuple[int, ...] = (), background: float = 0.0) -> "nn.Module":
        """Return `model` as this arm trains it, with the same weights; a copy unless the arm leaves it as it is.

        Args:
            model: A network under its original padding.
            size: Height and width of its images, for an arm that pads them.
            background: Value around the image, under `infinite`.
        """
        # Settings name arms without PyTorch.
        from torch import nn

        from borderless.antialiasing import blur
        from borderless.conversion import convert

        if self.pads:
            model = nn.Sequential(nn.ZeroPad2d(self.padding_px(model, size)), model)
        model = blur(model) if self.blurs else model
        return model if self.border is None else convert(model, self._bordered(background))

    def deploy(self, trained: "nn.Module", background: float = 0.0) -> "nn.Module":
        """Return a network that `apply` gave and that was trained, as this arm uses it."""
        from borderless.conversion import convert

        return trained if self.deployed is None else convert(trained, self._bordered(background, in_use=True))

    def padding_px(self, model: "nn.Module", size: tuple[int, ...]) -> int:
        """Return the least number of zeros around images of `size` with which `model` costs as much as under `full`.

        That has the reach of this arm. 0 for an arm that does not pad.
        """
        if not self.pads:
            return 0
        full = replace(ARMS["full"], reach=self.reach).explained(model, size)
        # Where multiply-adds grow as the area does, this is the number; elsewhere it is near.
        found_px = int(min(size) * (math.sqrt(full.cost) - 1) / 2)
        while _padded_macs(model, size, found_px) < full.macs:
            found_px += 1
        while found_px and _padded_macs(model, size, found_px - 1) >= full.macs:
            found_px -= 1
        return found_px

    def cost(self, model: "nn.Module", size: tuple[int, ...]) -> float:
        """Return the multiply-adds of `model`, without blur, in this arm, relative to its original padding."""
        if self.pads:
            return _padded_macs(model, size, self.padding_px(model, size)) / _padded_macs(model, size, 0)
        return self.explained(model, size).cost

    def explained(self, model: "nn.Module", size: tuple[int, ...]) -> "Explanation":
        """Return the report of `explain` on `model`, without blur and padding, in this arm for images of `size`."""
        from borderless.explanation import explain

        return explain(model, size, self._bordered(in_use=True), tiles=False)

    def _bordered(self, background: float = 0.0, in_use: bool = False) -> Border:
        if self.border is None:
            return Border("zero")
        phase = (self.deployed or self.phase) if in_use else self.phase
        reach = None if in_use and self.lifted else self.reach
        around = background if self.border == "infinite" else 0.0
        return Border(self.border, phase=phase, reach=reach, background=around, count=self.count)


def _padded_macs(model: "nn.Module", size: tuple[int, ...], padding_px: int) -> int:
    """Return the multiply-adds of `model` on images of `size` with zeros around, under its original padding."""
    from borderless.explanation import explain

    return explain(model, tuple(n + 2 * padding_px for n in size), "zero", tiles=False).macs


# Original padding and the borders, as they are trained, so they are used.
_BORDERS = {
    "own": Arm("original padding", paper="S"),
    "own-padded": Arm("original padding on a padded image of equal cost", pads=True),
    "full": Arm("full", "full", paper="F"),
    "infinite": Arm("infinite", "infinite"),
    "infinite-adaptive": Arm("infinite, adaptive phase", "infinite", "adaptive"),
    "infinite-window": Arm("infinite, means by window", "infinite", count="window"),
    "infinite-reach1": Arm("infinite, reach 1", "infinite", reach=1),
    "infinite-reach2": Arm("infinite, reach 2", "infinite", reach=2),
}
_BLURRED = {
    "own-blur": Arm("original padding, blur", blurs=True, paper="S+Blur"),
    "full-blur": Arm("full, blur", "full", blurs=True, paper="F+Blur"),
    "infinite-adaptive-blur": Arm("infinite, adaptive phase, blur", "infinite", "adaptive", blurs=True),
}
# The documented way: train with the fixed phase, which learns from fewer images under random translations, and use the
# adaptive phase, which keeps a prediction at every position.
_RECIPE = Arm("recipe: infinite, random translations; then adaptive phase", "infinite", deployed="adaptive", moves=True)

ARMS: dict[str, Arm] = {
    **_BORDERS,
    **_BLURRED,
    **{
        f"{name}-moved": replace(arm, title=f"{arm.title}, random translations", moves=True)
        for name, arm in (_BORDERS | _BLURRED).items()
    },
    "recipe": _RECIPE,
    "recipe-window": replace(_RECIPE, title="recipe, means by window", count="window"),
    "recipe-reach1": replace(_RECIPE, title="recipe, reach 1", reach=1),
    "recipe-reach2": replace(_RECIPE, title="recipe, reach 2", reach=2),
    "recipe-lifted": replace(_RECIPE, title="recipe, reach 1 in training only", reach=1, lifted=True),
    "recipe-blur": replace(_RECIPE, title="recipe, blur", blurs=True),
}
