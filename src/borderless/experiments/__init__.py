"""The experiments of the paper and beyond it, by the name that the command line gives them; `runner.run` runs one."""

from borderless.experiments.registry import EXPERIMENTS

__all__ = ["EXPERIMENTS"]
