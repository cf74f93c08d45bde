"""The experiments, by the name that the command line gives them; a module is imported when it is asked for."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import ClassVar

from borderless.experiments.runner import Cell, Experiment, Result, RunError, RunInterrupted, run

__all__ = ["EXPERIMENTS", "Cell", "Experiment", "Result", "RunError", "RunInterrupted", "run"]


class _Registry(Mapping[str, Experiment]):
    """Experiment by name, in the order of the story; looking one up imports its module, listing them does not."""

    modules: ClassVar[dict[str, str]] = {
        "equivariance": "equivariance",
        "conv-types": "conv_types",
        "rook": "rook",
        "one-place": "one_place",
        "placed-object": "placed_object",
        "quadrant": "quadrant",
        "red-green": "red_green",
        "shifts": "shifts",
        "data-efficiency": "data_efficiency",
        "patch-matching": "patch_matching",
        "actions": "actions",
        "finetune": "finetuning",
    }

    def __getitem__(self, name: str) -> Experiment:
        return import_module(f"borderless.experiments.{self.modules[name]}").EXPERIMENT

    def __iter__(self) -> Iterator[str]:
        return iter(self.modules)

    def __len__(self) -> int:
        return len(self.modules)

    def __contains__(self, name: object) -> bool:
        return name in self.modules


EXPERIMENTS: Mapping[str, Experiment] = _Registry()
