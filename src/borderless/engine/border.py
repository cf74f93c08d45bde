"""Borders and phases: the two questions that every sliding operation must answer, and the answers to choose from.

At the edge of an image: *what lies outside* and *which outputs are kept*. At a stride: *which sublattice is kept*.
The borders `valid`, `zero` and `full` are V-, S- and F-Conv of Kayhan and van Gemert (CVPR 2020); `infinite` pads with
the layer's own response to an endless background. The adaptive phase follows Chaman and Dokmanic (CVPR 2021).
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

_ANSWERS: dict[str, tuple[Outside, Keep]] = {
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
    """A border with its options: what a model is converted to.

    name: one of `BORDERS`. phase: "fixed" keeps the model's own sublattice at every stride; "adaptive" keeps, for each
    sample, the one with the most energy. reach: how many cells a map may grow beyond its frame (None: all that it
    needs), for `full` and `infinite`. background: what surrounds the input under `infinite`, in input units: a number,
    or one number per channel. count: the cells that a mean over space is divided by under `infinite`. "frame" suits
    small objects in a large, empty frame: the unmodified model's values, however far maps grow. "window" suits images
    that fill the frame, above all to train from random weights: it divides by as many cells of the grown window as the
    content of a full frame fills (`geometry.filled_cells`), so that means keep the unmodified model's scale. at:
    "boundary" lets functions that have no rule (attention over space, recurrent layers, STFT) run at the boundary of
    what a border covers: on maps cropped to their frames, named as position dependent; None refuses them.

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
            raise BorderError(f"got the border {self.name!r}; a border is one of {', '.join(BORDERS)}")
        if self.phase not in PHASES:
            raise BorderError(f"got phase={self.phase!r}; a phase is one of {', '.join(PHASES)}")
        if self.reach is not None:
            reach = cast(object, self.reach)  # whoever does not check types may give anything
            if isinstance(reach, bool) or not isinstance(reach, int) or reach < 0:
                raise BorderError(f"got reach={self.reach!r}; it is a number of cells: an integer, 0 or more, or None")
            if self.keeps != "touching":
                raise BorderError(
                    f"got reach={self.reach} with the border {self.name!r}, where it would have no effect: "
                    "maps only grow under 'full' and 'infinite'; leave reach out"
                )
        if self.count not in COUNTS:
            raise BorderError(f"Expected count to be one of {', '.join(COUNTS)} but got {self.count!r}")
        if self.count != "frame" and self.outside != "background":
            raise BorderError(
                f"Expected count={self.count!r} with the border 'infinite' but got {self.name!r}, where it would have "
                "no effect: other borders divide by the cells that they store; leave it out"
            )
        if self.at not in (None, "boundary"):
            raise BorderError(f"Expected at to be 'boundary' or None but got {self.at!r}")
        self._check_background()

    def _check_background(self) -> None:
        given = self.background if isinstance(self.background, tuple) else (self.background,)
        values = cast(tuple[object, ...], given)
        if not values or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
            raise BorderError(
                f"got background={self.background!r}; it is a finite number, or a tuple with one per input channel"
            )
        if any(values) and self.outside != "background":
            raise BorderError(
                f"got background={self.background!r} with the border {self.name!r}, where it would have no effect: "
                "only 'infinite' has a background; leave it out"
            )

    @property
    def outside(self) -> Outside:
        """What lies outside the stored part of a map."""
        return _ANSWERS[self.name][0]

    @property
    def keeps(self) -> Keep:
        """Which outputs of a sliding operation are kept."""
        return _ANSWERS[self.name][1]

    @property
    def is_own(self) -> bool:
        """Whether the unmodified model already has this border: every operation then runs as it is."""
        return self.name == "zero"

    @property
    def has_own_padding(self) -> bool:
        """Whether the model's own padding lies outside."""
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
