"""Compare valid, same and full convolution on one white pixel."""

from dataclasses import dataclass
from typing import Annotated

from borderless.engine.border import BORDERS
from borderless.experiments.experiment import grid, register
from borderless.runtime.settings import Choice, Range, Settings


@register(
    name="conv-types",
    chapter=2,
    title="Convolution types at the border",
    summary="The responses of valid, same and full convolution to one white pixel, in one corner or in the other.",
    cells=lambda config: grid("{border}", border=config.borders),
)
@dataclass(frozen=True)
class ConvTypesConfig(Settings):
    """Settings of `conv-types`."""

    size: Annotated[int, Range(1, 1_000)] = 7
    """Height and width of the two images, in pixels."""
    borders: Annotated[tuple[str, ...], Choice(BORDERS)] = BORDERS
    """Borders to compare; the figure shows valid, zero and full."""
