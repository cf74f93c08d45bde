"""The edge of an object's window on a canvas: around it lie the maps of the empty canvas."""

from dataclasses import dataclass

from borderless.engine.edge import Edge, Outside
from borderless.engine.geometry import Keep


@dataclass(frozen=True, repr=False)
class CanvasEdge(Edge):
    """Outside lie the maps of the empty canvas; whatever touches the object is kept, as far as these maps reach.

    canvas: the edge of the canvas itself, in whose name the pass speaks.
    """

    canvas: Edge

    @property
    def name(self) -> str:
        """The border of the canvas."""
        return self.canvas.name

    @property
    def outside(self) -> Outside:
        """The canvas's maps."""
        return "elsewhere"

    @property
    def keeps(self) -> Keep:
        """All that the object can have changed."""
        return "touching"

    @property
    def reach(self) -> int | None:
        """How far the canvas's maps grow beyond their frame."""
        return 0 if self.canvas.keeps == "frame" else self.canvas.reach

    @property
    def at(self) -> str | None:
        """Where functions without a rule run."""
        return self.canvas.at

    def __repr__(self) -> str:
        return repr(self.canvas)
