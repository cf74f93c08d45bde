"""Trained in one corner.

A CNN trained on digits in one corner, tested at every position.
"""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from borderless.experiments.experiment import grid, register
from borderless.experiments.settings import TrainedSettings
from borderless.models import arms
from borderless.runtime.settings import Range
from borderless.training.recipe import SMALL_IMAGES, Recipe

RECIPE = replace(SMALL_IMAGES, epochs=12, learning_rate=5e-3, monitor="loss")
ARMS = {
    **{name: arms.ARMS[name] for name in ("own", "full", "infinite", "infinite-adaptive")},
    "own-everywhere": replace(arms.ARMS["own-moved"], title="original padding, trained at all positions"),
    "recipe": replace(arms.ARMS["recipe"], title="recipe: infinite, trained at all positions, then adaptive phase"),
}


@register(chapter=4, cells=grid("{arm}-seed{seed}", seed="seeds", arm=ARMS))
@dataclass(frozen=True)
class OnePlaceConfig(TrainedSettings):
    """Settings of `one-place`."""

    seeds: Annotated[int, Range(1, 10_000)] = 3
    test_digits: Annotated[int, Range(1, 360)] = 120
    """Number of the 360 test digits to test at each position."""
    training: Recipe = RECIPE

    DEMO: ClassVar = {"seeds": 1, "test_digits": 20, "training": replace(RECIPE, epochs=5)}
