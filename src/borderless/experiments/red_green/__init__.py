"""Red and green: order or position?

Two colored squares whose order a network should learn, while their position predicts the class as well.
"""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

from borderless.data.choices import SceneProtocol
from borderless.engine.border import BORDERS
from borderless.experiments.experiment import grid, register
from borderless.experiments.settings import TrainedSettings
from borderless.runtime.settings import Choice, Range
from borderless.training.recipe import Recipe

# What "patience 8" comes to in the public code: training stops with the ninth epoch that is not better.
_ADADELTA = Recipe(optimizer="adadelta", learning_rate=1.0, weight_decay=5e-5, schedule="constant")
RECIPE = replace(_ADADELTA, epochs=50, batch_size=200, stop_after=9, monitor="loss", shuffle=False)


@register(chapter=7, cells=grid("{border}-seed{seed}", seed="seeds", border="borders"))
@dataclass(frozen=True)
class RedGreenConfig(TrainedSettings):
    """Settings of `red-green`; the training is the paper's, which has 10 seeds and the published protocol."""

    borders: Annotated[tuple[str, ...], Choice(BORDERS)] = BORDERS
    """Borders to train under."""
    seeds: Annotated[int, Range(1, 10_000)] = 2
    """Number of seeds (0, 1, …) of the initial weights, and of the images in the clean protocol."""
    protocol: SceneProtocol = "clean"
    """clean: no scene is in two splits. published: all splits begin with the same scenes, as in the paper's code."""
    training: Recipe = RECIPE

    DEMO: ClassVar = {"borders": ("zero", "full"), "seeds": 1, "training": replace(RECIPE, epochs=6)}
