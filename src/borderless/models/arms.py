"""Arms of the comparisons: a network as it is, and the same network under other borders and with blurred strides."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from borderless.engine.border import Border, BorderName, Phase

if TYPE_CHECKING:
    from torch import nn

    from borderless.explanation import Explanation


@dataclass(frozen=True)
class Arm:
    """A border for a network (None: as it is). blurs: with anti-aliased strides. paper: its name in the paper."""

    title: str
    border: BorderName | None = None
    phase: Phase = "fixed"
    reach: int | None = None
    blurs: bool = False
    paper: str | None = None

    def apply(self, model: "nn.Module", background: float = 0.0) -> "nn.Module":
        """Return `model` in this arm, with the same weights; a copy unless the arm leaves it as it is.

        Args:
            model: A network under its original padding.
            background: Value around the image, under `infinite`.
        """
        # Settings name arms without PyTorch.
        from borderless.antialiasing import blur
        from borderless.conversion import convert

        model = blur(model) if self.blurs else model
        if self.border is None:
            return model
        around = background if self.border == "infinite" else 0.0
        return convert(model, Border(self.border, phase=self.phase, reach=self.reach, background=around))

    def explained(self, model: "nn.Module", size: tuple[int, ...]) -> "Explanation":
        """Return the report of `explain` on `model`, without blur, in this arm for images of `size`."""
        from borderless.explanation import explain

        return explain(model, size, self.border or "zero", phase=self.phase, reach=self.reach, tiles=False)


ARMS: dict[str, Arm] = {
    "own": Arm("original padding", paper="S"),
    "full": Arm("full", "full", paper="F"),
    "infinite": Arm("infinite", "infinite"),
    "infinite-adaptive": Arm("infinite, adaptive phase", "infinite", "adaptive"),
    "own-blur": Arm("original padding, blur", blurs=True, paper="S+Blur"),
    "full-blur": Arm("full, blur", "full", blurs=True, paper="F+Blur"),
    "infinite-adaptive-blur": Arm("infinite, adaptive phase, blur", "infinite", "adaptive", blurs=True),
}
