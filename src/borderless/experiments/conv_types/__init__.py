"""Convolution types at the border.

The responses of valid, same and full convolution to one white pixel, in one corner or in the other.
"""

from dataclasses import dataclass
from typing import Annotated

from borderless.engine.border import BORDERS
from borderless.experiments.experiment import grid, register
from borderless.runtime.settings import Choice, Range, Settings


@register(chapter=2, cells=grid("{border}", border="borders"))
@dataclass(frozen=True)
class ConvTypesConfig(Settings):
    """Settings of `conv-types`."""

    size: Annotated[int, Range(1, 1_000)] = 7
    """Height and width of the two images, in pixels."""
    borders: Annotated[tuple[str, ...], Choice(BORDERS)] = BORDERS
    """Borders to compare; the figure shows valid, zero and full."""
