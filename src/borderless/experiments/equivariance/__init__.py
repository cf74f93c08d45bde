"""Shift, then convolve; convolve, then shift.

Difference between shifting before a convolution and shifting after it, for each border.
"""

from dataclasses import dataclass
from typing import Annotated

from borderless.data.drawings import LETTER_MARGIN_PX
from borderless.engine.border import BORDERS
from borderless.experiments.experiment import grid, register
from borderless.runtime.settings import Choice, Range, Settings

BIASES = (False, True)


@register(
    chapter=1, cells=grid("{border}-{bias}", {"bias": {False: "no-bias", True: "bias"}}, bias=BIASES, border="borders")
)
@dataclass(frozen=True)
class EquivarianceConfig(Settings):
    """Settings of `equivariance`."""

    borders: Annotated[tuple[str, ...], Choice(BORDERS)] = BORDERS
    """Borders to compare."""
    largest_shift: Annotated[int, Range(1, LETTER_MARGIN_PX)] = LETTER_MARGIN_PX
    """Largest shift of the object, up and to the left, in pixels."""
    seed: Annotated[int, Range(0, 2**32 - 1)] = 0
    """Seed of the network's random weights."""
