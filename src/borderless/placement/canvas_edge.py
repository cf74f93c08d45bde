"""The edge of an object's window on a canvas: around it lie the maps of the empty canvas."""

from dataclasses import dataclass

from borderless.engine.edge import AxisEdge, Edge


@dataclass(frozen=True, repr=False)
class CanvasEdge(Edge):
    """The edge of a window: outside are the maps of the empty canvas, and all outputs that touch the object are kept.

    canvas: the edge of the canvas itself, whose name errors and warnings use.
    """

    canvas: Edge

    @property
    def name(self) -> str | tuple[str, ...]:
        """The border of the canvas."""
        return self.canvas.name

    @property
    def axes(self) -> tuple[AxisEdge, ...]:
        """The canvas's maps lie outside, and all is kept that the object can have changed."""
        return (AxisEdge("elsewhere", "touching"),)

    @property
    def reach(self) -> int | None:
        """The number of cells that the canvas's maps grow beyond their frame."""
        return 0 if self.canvas.is_own else self.canvas.reach

    @property
    def at(self) -> str | None:
        """The point at which functions without a rule run."""
        return self.canvas.at

    def __repr__(self) -> str:
        return repr(self.canvas)
