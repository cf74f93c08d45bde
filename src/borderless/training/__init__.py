"""Training: one plain loop that every trained experiment uses."""

from borderless.training.loop import fit
from borderless.training.objective import Classification, Objective, Score, evaluate
from borderless.training.recipe import Recipe
from borderless.training.state import Epoch

__all__ = ["Classification", "Epoch", "Objective", "Recipe", "Score", "evaluate", "fit"]
