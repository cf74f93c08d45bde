"""Events of a forward pass, for observers."""

from dataclasses import dataclass
from typing import Any

from borderless.engine.geometry import Box, Slide


@dataclass(frozen=True)
class Event:
    """Something that happened in a pass, for `explain` and the measures.

    kind: "slide" (a sliding operation), "position" (absolute position was read), "mean" (a mean or sum over space),
    "window" (the value depends on how many cells the window has), "leaves" (a map becomes an ordinary tensor). signal:
    the Signal that a sliding operation has made, or None. macs: multiply-adds, bias not counted. slides: a sliding
    operation's numbers along each axis, where it has them. source: the frame that it reads; window: the cells that a
    mean over space reads; shape: of the tensor that a map becomes.
    """

    kind: str
    operation: str
    module: str
    signal: Any
    macs: int = 0
    reason: str = ""
    slides: tuple[Slide, ...] = ()
    source: tuple[int, ...] = ()
    window: Box = ()
    shape: tuple[int, ...] = ()
