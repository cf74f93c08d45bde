"""The edge of what is stored: what lies outside of it, and which outputs of a sliding operation are kept.

The rules ask the `Edge` of their pass and nothing else. `border.Border` is the one that users choose, at the edge of an
image. A pass whose Signals find the cells around a window in other maps (`Outside` "elsewhere": their class overrides
`Signal.read`) brings its own, as a placement does.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from borderless.engine.geometry import Keep

Outside = Literal["nothing", "zero", "reflect", "replicate", "circular", "background", "elsewhere"]
Count = Literal["frame", "window"]


class Edge(Protocol):
    """The edge of a pass, with the options that rules ask for; by default those of fixed strides."""

    @property
    def name(self) -> str:
        """The border, as error texts name it."""
        ...

    @property
    def outside(self) -> Outside:
        """The kind of cells that lie outside the stored part of a map."""
        ...

    @property
    def keeps(self) -> Keep:
        """The outputs of a sliding operation that are kept."""
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
    def has_own_padding(self) -> bool:
        """Whether the model's original padding lies outside, as at the edge of a part of an unmodified map too."""
        return self.is_own

    @property
    def is_adaptive(self) -> bool:
        """Whether each sample chooses the phase of its strides."""
        return False


@dataclass(frozen=True, repr=False)
class EdgeWithin(Edge):
    """An edge inside of what has the edge `whole`, in whose name it speaks; a subclass says what is different."""

    whole: Edge

    @property
    def name(self) -> str:
        """The border of the whole."""
        return self.whole.name

    @property
    def outside(self) -> Outside:
        """The cells outside of the whole."""
        return self.whole.outside

    @property
    def keeps(self) -> Keep:
        """The outputs that are kept of the whole."""
        return self.whole.keeps

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
    def has_own_padding(self) -> bool:
        """Whether the model's original padding lies outside of the whole."""
        return self.whole.has_own_padding

    @property
    def at(self) -> str | None:
        """The parts of a model in which functions without a rule run."""
        return self.whole.at

    def __repr__(self) -> str:
        return repr(self.whole)
