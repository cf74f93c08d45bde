"""Training: one plain loop that every trained experiment uses."""

from borderless.training.loop import Epoch, Recipe, evaluate, fit

__all__ = ["Epoch", "Recipe", "evaluate", "fit"]
