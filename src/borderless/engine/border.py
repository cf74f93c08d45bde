"""Borders and phases: which values lie outside an image, and which outputs of a sliding operation are kept.

A border decides *what lies outside* the edge of an image and *which outputs are kept*; a phase decides *which
sublattice is kept* at a stride. The borders `valid`, `zero` and `full` are V-, S- and F-Conv of Kayhan and van Gemert
(CVPR 2020); `infinite` pads with the layer's own response to an unlimited background. The adaptive phase follows Chaman
and Dokmanic (CVPR 2021).
"""

import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

from borderless.engine.edge import Count, Outside
from borderless.engine.geometry import Keep
from borderless.errors import BorderError

BorderName = Literal["valid", "zero", "reflect", "replicate", "circular", "full", "infinite"]
Phase = Literal["fixed", "adaptive"]
At = Literal["boundary"]

BORDERS: tuple[str, ...] = get_args(BorderName)
PHASES: tuple[str, ...] = get_args(Phase)
COUNTS: tuple[str, ...] = get_args(Count)

_EDGES: dict[str, tuple[Outside, Keep]] = {
    "valid": ("nothing", "inside"),
    "zero": ("zero", "frame"),
    "reflect": ("reflect", "frame"),
    "replicate": ("replicate", "frame"),
    "circular": ("circular", "frame"),
    "full": ("zero", "touching"),
    "infinite": ("background", "touching"),
}


@dataclass(frozen=True)
class Border:
    """A border with its options, for `convert` and all functions that take a border.

    Args:
        name: One of `BORDERS`.
        phase: "fixed" keeps the model's own sublattice at every stride; "adaptive" keeps, for each sample, the
            sublattice with the most energy.
        reach: Number of cells that a feature map may grow beyond its frame, for `full` and `infinite`; None: unlimited.
        background: Value around the input under `infinite`, in input units: a number, or a tuple with one per channel.
        count: Number of cells that a mean over space is divided by under `infinite`. "frame" suits small objects on a
            large, uniform background: means equal the unmodified model's, however far feature maps grow. "window" suits
            images that fill the frame, above all training from random weights: it divides by the number of cells of the
            grown window that the content of a full frame fills (`geometry.filled_cells`), so that means keep the
            unmodified model's scale.
        at: "boundary" runs functions without a rule (attention over space, recurrent layers, STFT) on feature maps
            cropped to their frames, and warns that they are position dependent; None refuses them.

    Raises:
        BorderError: An option does not exist, or would have no effect with this border.

    Example:
        >>> Border("infinite", phase="adaptive", reach=2)
        Border('infinite', phase='adaptive', reach=2)
    """

    name: BorderName
    phase: Phase = "fixed"
    reach: int | None = None
    background: float | tuple[float, ...] = 0.0
    count: Count = "frame"
    at: At | None = None

    def __post_init__(self) -> None:
        if self.name not in BORDERS:
            raise BorderError(f"Expected a border out of {', '.join(BORDERS)} but got {self.name!r}.")
        if self.phase not in PHASES:
            raise BorderError(f"Expected a phase out of {', '.join(PHASES)} but got {self.phase!r}.")
        if self.reach is not None:
            reach = cast(object, self.reach)  # whoever does not check types may give anything
            if isinstance(reach, bool) or not isinstance(reach, int) or reach < 0:
                raise BorderError(
                    f"Expected reach to be an integer number of cells, 0 or more, or None, but got {self.reach!r}."
                )
            if self.keeps != "touching":
                raise BorderError(
                    f"Expected reach with 'full' or 'infinite' but got reach={self.reach} with {self.name!r}, where it "
                    "has no effect because feature maps do not grow; leave reach out."
                )
        if self.count not in COUNTS:
            raise BorderError(f"Expected count to be one of {', '.join(COUNTS)} but got {self.count!r}.")
        if self.count != "frame" and self.outside != "background":
            raise BorderError(
                f"Expected count with the border 'infinite' but got count={self.count!r} with {self.name!r}, where it "
                "has no effect because means are divided by the number of stored cells; leave count out."
            )
        if self.at not in (None, "boundary"):
            raise BorderError(f"Expected at to be 'boundary' or None but got {self.at!r}.")
        self._check_background()

    def _check_background(self) -> None:
        given = self.background if isinstance(self.background, tuple) else (self.background,)
        values = cast(tuple[object, ...], given)
        if not values or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
            raise BorderError(
                "Expected background to be a finite number, or a tuple with one per input channel, but got "
                f"{self.background!r}."
            )
        if any(values) and self.outside != "background":
            raise BorderError(
                f"Expected background with the border 'infinite' but got background={self.background!r} with "
                f"{self.name!r}, where it has no effect; leave background out."
            )

    @property
    def outside(self) -> Outside:
        """The kind of cells that lie outside the stored part of a map."""
        return _EDGES[self.name][0]

    @property
    def keeps(self) -> Keep:
        """The outputs of a sliding operation that are kept."""
        return _EDGES[self.name][1]

    @property
    def is_own(self) -> bool:
        """Whether the unmodified model already has this border: every operation then runs as it is."""
        return self.name == "zero"

    @property
    def has_own_padding(self) -> bool:
        """Whether the model's original padding lies outside."""
        return self.is_own

    @property
    def is_adaptive(self) -> bool:
        """Whether each sample chooses the phase of its strides."""
        return self.phase == "adaptive"

    @property
    def phase_is_exact(self) -> bool:
        """Whether an adaptive phase gives exact equivariance (circular: for circular shifts)."""
        return self.name in ("infinite", "circular")

    def __repr__(self) -> str:
        options = [
            f"{key}={value!r}"
            for key, value, default in (
                ("phase", self.phase, "fixed"),
                ("reach", self.reach, None),
                ("background", self.background, 0.0),
                ("count", self.count, "frame"),
                ("at", self.at, None),
            )
            if value != default
        ]
        return f"Border({', '.join([repr(self.name), *options])})"
