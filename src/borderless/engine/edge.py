"""The edge of what is stored: what lies outside of it, and which outputs of a sliding operation are kept.

The rules ask the `Edge` of their pass, and its `AxisEdge` along each axis, and nothing else. `border.Border` is the one
that users choose, at the edge of an image. A pass whose Signals find the cells around a window in other maps (`Outside`
"elsewhere": their class overrides `Signal.read`) brings its own, as a placement does.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, cast

from borderless.engine.geometry import Keep, Mirroring

Outside = Literal["nothing", "zero", "original", "reflect", "replicate", "circular", "background", "elsewhere"]
Count = Literal["frame", "window"]
Around = float | Mirroring | Literal["background"]  # what a read finds outside along an axis; a number: cells of it


class AxisEdge(NamedTuple):
    """One axis of an edge.

    outside: the kind of cells that lie outside the stored part of a map; "original": the model's original padding.
    keeps: the outputs of a sliding operation that are kept. is_causal: whether all padding lies before the first cell.
    """

    outside: Outside
    keeps: Keep
    is_causal: bool = False

    @property
    def is_original(self) -> bool:
        """Whether the model's original padding lies where the model puts it."""
        return self.outside == "original" and not self.is_causal

    @property
    def ends_in_zeros(self) -> bool:
        """Whether zeros lie outside, or what is 0 once the background has been subtracted."""
        return self.outside in ("zero", "original", "background")

    @property
    def is_mirrored(self) -> bool:
        """Whether cells of the frame stand for those outside."""
        return self.outside in ("reflect", "replicate", "circular")

    def around(self, padding: float | Mirroring) -> Around:
        """Return what lies outside for an operation whose original padding is `padding`: a number or a mirroring."""
        if self.outside == "original":
            reads_ahead = self.is_causal and padding in ("reflect", "circular")
            return 0.0 if reads_ahead else padding
        if padding == -math.inf and self.outside in ("reflect", "replicate"):  # a maximum has these cells already
            return padding
        return cast(Mirroring, self.outside) if self.is_mirrored else "background"


def along(axes: tuple[AxisEdge, ...], order: tuple[int, ...] | None, count: int) -> tuple[AxisEdge, ...]:
    """Return the edge along each of `count` axes of a map; axes: one for all, or one for each axis of the image.

    order: which of the image's axes those of the map are; None: all of them.
    """
    if len(axes) == 1:
        return axes * count
    return axes if order is None else tuple(axes[i] for i in order)


class Edge(Protocol):
    """The edge of a pass, with the options that rules ask for; by default those of fixed strides."""

    @property
    def name(self) -> str | tuple[str, ...]:
        """The border, as error texts name it: one for all axes, or one for each."""
        ...

    @property
    def axes(self) -> tuple[AxisEdge, ...]:
        """The edge along all axes, one, or along each axis of the image."""
        ...

    @property
    def reach(self) -> int | None:
        """The number of cells that a map may grow beyond its frame; None: unlimited."""
        return None

    @property
    def background(self) -> float | tuple[float, ...]:
        """The values around the input where the background lies outside: a number, or one per channel."""
        return 0.0

    @property
    def count(self) -> Count:
        """The cells that a mean over space is divided by, as in `Border`."""
        return "frame"

    @property
    def at(self) -> str | None:
        """The point at which functions without a rule run: "boundary", as in `Border`, or None."""
        return None

    @property
    def is_own(self) -> bool:
        """Whether the unmodified model already has this edge: every operation then runs as it is."""
        return False

    @property
    def has_background(self) -> bool:
        """Whether the background lies outside, along some axis."""
        return any(axis.outside == "background" for axis in self.axes)

    @property
    def is_adaptive(self) -> bool:
        """Whether each sample chooses the phase of its strides."""
        return False


@dataclass(frozen=True, repr=False)
class EdgeWithin(Edge):
    """An edge inside of what has the edge `whole`, in whose name it speaks; a subclass says what is different."""

    whole: Edge

    @property
    def name(self) -> str | tuple[str, ...]:
        """The border of the whole."""
        return self.whole.name

    @property
    def axes(self) -> tuple[AxisEdge, ...]:
        """The edge of the whole along its axes."""
        return self.whole.axes

    @property
    def reach(self) -> int | None:
        """The cells by which the whole map may grow."""
        return self.whole.reach

    @property
    def background(self) -> float | tuple[float, ...]:
        """The background of the whole image."""
        return self.whole.background

    @property
    def count(self) -> Count:
        """The cells that a mean over the whole is divided by."""
        return self.whole.count

    @property
    def at(self) -> str | None:
        """The parts of a model in which functions without a rule run."""
        return self.whole.at

    def __repr__(self) -> str:
        return repr(self.whole)
