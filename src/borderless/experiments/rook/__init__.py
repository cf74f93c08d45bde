"""The rook: location from one filter.

One filter and a global max pool learn the position of a rook, unless the border is full or infinite.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from borderless.data.drawings import LARGEST_ROOK_MARGIN_PX
from borderless.engine.border import BORDERS
from borderless.experiments.experiment import grid, register
from borderless.runtime.settings import Choice, Range, Settings


@register(chapter=3, cells=grid("{border}-seed{seed}", border="borders", seed="seeds"))
@dataclass(frozen=True)
class RookConfig(Settings):
    """Settings of `rook`; the defaults are the paper's."""

    borders: Annotated[tuple[str, ...], Choice(BORDERS)] = BORDERS
    """Borders to train under."""
    seeds: Annotated[int, Range(1, 10_000)] = 5
    """Number of seeds (0, 1, …) of the initial weights, one training each."""
    epochs: Annotated[int, Range(1)] = 100
    """Passes over the two images."""
    learning_rate: Annotated[float, Range(1e-12, 1e12)] = 0.1
    """Learning rate of SGD."""
    momentum: Annotated[float, Range(0, 1)] = 0.9
    """Momentum of SGD."""
    margin: Annotated[int, Range(0, LARGEST_ROOK_MARGIN_PX)] = 0
    """Pixels between the rook and the two edges of its corner; from 2 on, zero padding has nothing to read."""

    DEMO: ClassVar = {"borders": ("valid", "zero", "circular", "full", "infinite"), "seeds": 2}
