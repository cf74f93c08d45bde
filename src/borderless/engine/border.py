"""Borders and phases: which values lie outside an image, and which outputs of a sliding operation are kept.

A border decides, along each axis, *what lies outside* the edge of an image and *which outputs are kept*; a phase
decides *which sublattice is kept* at a stride. The borders `valid`, `zero` and `full` are V-, S- and F-Conv of Kayhan
and van Gemert (CVPR 2020); `infinite` pads with the layer's own response to an unlimited background. The adaptive phase
follows Chaman and Dokmanic (CVPR 2021).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast, get_args

from borderless.engine.edge import AxisEdge, Count
from borderless.errors import BorderError

BorderName = Literal["valid", "zero", "reflect", "replicate", "circular", "full", "infinite", "causal"]
Borders = BorderName | Sequence[BorderName]  # one for all axes, or one for each
Phase = Literal["fixed", "adaptive"]
At = Literal["boundary"]

NAMES: tuple[str, ...] = get_args(BorderName)
# Those of images, which treat both ends of an axis alike; "causal" is for time.
BORDERS: tuple[str, ...] = tuple(name for name in NAMES if name != "causal")
PHASES: tuple[str, ...] = get_args(Phase)
COUNTS: tuple[str, ...] = get_args(Count)

_EDGES: dict[str, AxisEdge] = {
    "valid": AxisEdge("nothing", "inside"),
    "zero": AxisEdge("original", "frame"),
    "reflect": AxisEdge("reflect", "frame"),
    "replicate": AxisEdge("replicate", "frame"),
    "circular": AxisEdge("circular", "frame"),
    "full": AxisEdge("zero", "touching"),
    "infinite": AxisEdge("background", "touching"),
    "causal": AxisEdge("original", "frame", is_causal=True),
}
# Beside which a background stays the same along the other axis, whatever the network computes.
_BESIDE_INFINITE = ("infinite", "circular", "valid")


@lru_cache
def _edges_of(names: tuple[str, ...]) -> tuple[AxisEdge, ...]:
    return tuple(_EDGES[name] for name in names)


@dataclass(frozen=True)
class Border:
    """A border with its options, for `convert` and all functions that take a border.

    Args:
        name: One of `BORDERS` or "causal", or a tuple with one for each axis, ("zero", "circular") for (height, width).
            "causal" is for time: the original padding, all of it before the first cell; a mirrored padding, which would
            read later cells, becomes zeros. "infinite" goes with "circular" and "valid" along the other axes.
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
        >>> Border(("reflect", "circular"))
        Border(('reflect', 'circular'))
    """

    name: BorderName | tuple[BorderName, ...]
    phase: Phase = "fixed"
    reach: int | None = None
    background: float | tuple[float, ...] = 0.0
    count: Count = "frame"
    at: At | None = None

    def __post_init__(self) -> None:
        if isinstance(self.name, list | tuple):
            names = tuple(self.name)
            object.__setattr__(self, "name", names[0] if len(names) == 1 else names)
        self._check_names()
        if self.phase not in PHASES:
            raise BorderError(f"Expected a phase out of {', '.join(PHASES)} but got {self.phase!r}.")
        if self.reach is not None:
            reach = cast(object, self.reach)  # whoever does not check types may give anything
            if isinstance(reach, bool) or not isinstance(reach, int) or reach < 0:
                raise BorderError(
                    f"Expected reach to be an integer number of cells, 0 or more, or None, but got {self.reach!r}."
                )
            if all(axis.keeps != "touching" for axis in self.axes):
                raise BorderError(
                    f"Expected reach with 'full' or 'infinite' but got reach={self.reach} with {self.name!r}, where it "
                    "has no effect because feature maps do not grow; leave reach out."
                )
        if self.count not in COUNTS:
            raise BorderError(f"Expected count to be one of {', '.join(COUNTS)} but got {self.count!r}.")
        if self.count != "frame" and not self.has_background:
            raise BorderError(
                f"Expected count with the border 'infinite' but got count={self.count!r} with {self.name!r}, where it "
                "has no effect because means are divided by the number of stored cells; leave count out."
            )
        if self.at not in (None, "boundary"):
            raise BorderError(f"Expected at to be 'boundary' or None but got {self.at!r}.")
        self._check_background()

    def _check_names(self) -> None:
        names = self.names
        for axis, name in enumerate(names):
            if name not in NAMES:
                where = f" along axis {axis}" if len(names) > 1 else ""
                raise BorderError(
                    f"Expected a border out of {', '.join(NAMES)} but got {name!r}{where}; for one per axis write a "
                    "tuple, ('zero', 'circular')."
                )
        if not names:
            raise BorderError("Expected a border, or a tuple with one for each spatial axis, but got an empty tuple.")
        beside = [name for name in names if name not in _BESIDE_INFINITE]
        if "infinite" in names and beside:
            raise BorderError(
                f"Expected 'infinite' along every axis, or beside 'circular' or 'valid', but got {names!r}: beside "
                f"{beside[0]!r} the response to the background differs from cell to cell. Use one of these, or 'full'."
            )
        if "causal" in names and self.is_adaptive:
            raise BorderError(
                f"Expected a fixed phase with 'causal' but got phase='adaptive' with {self.name!r}: the energy of the "
                "whole input, later samples included, would choose the phase. Leave phase out."
            )

    def _check_background(self) -> None:
        given = self.background if isinstance(self.background, tuple) else (self.background,)
        values = cast(tuple[object, ...], given)
        if not values or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
            raise BorderError(
                "Expected background to be a finite number, or a tuple with one per input channel, but got "
                f"{self.background!r}."
            )
        if any(values) and not self.has_background:
            raise BorderError(
                f"Expected background with the border 'infinite' but got background={self.background!r} with "
                f"{self.name!r}, where it has no effect; leave background out."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The borders by their names: one for all axes, or one for each."""
        return self.name if isinstance(self.name, tuple) else (self.name,)

    @property
    def axes(self) -> tuple[AxisEdge, ...]:
        """The edge along all axes, one, or along each."""
        return _edges_of(self.names)

    @property
    def has_background(self) -> bool:
        """Whether the background lies outside, along some axis."""
        return "infinite" in self.names

    @property
    def is_own(self) -> bool:
        """Whether the unmodified model already has this border: every operation then runs as it is."""
        return self.name == "zero" or all(name == "zero" for name in self.names)

    @property
    def is_adaptive(self) -> bool:
        """Whether each sample chooses the phase of its strides."""
        return self.phase == "adaptive"

    @property
    def phase_is_exact(self) -> bool:
        """Whether an adaptive phase gives exact equivariance (circular: for circular shifts)."""
        return all(name in ("infinite", "circular") for name in self.names)

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
