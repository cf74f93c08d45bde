"""Find the tasks that an audit knows, one file each: what an output means, and how its changes are worded.

A file in this folder is a task: it has everything that `Task` names, and nothing else has to know of it. Parts ask the
task (`Subject.comparison`, `Measurements.words`) and never the name of one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Protocol, cast

from torch import Tensor, nn

from borderless.measures.comparisons import OutputComparison

Adapter = Callable[[Any], Tensor]

# In this order an output is tried, unless the task is named.
_ORDER = ("classification", "segmentation", "dense", "detection", "regression", "embedding")


@dataclass(frozen=True)
class Words:
    """Say how a change of the output is worded. `{}` takes the place of a percentage.

    Attributes:
        changes: How much the output changes with the position.
        cases: The same of one object, in the verdict's sentence about the network.
        label: The same under a percentage in large type.
        column: The head of a column of such percentages.
        none: What is said where no output changes.
        numbers: What the numbers of an output are.
        kept: What a converted network does to the outputs; `{kept}` and `{changed}` are percentages.
        kept_axis: The title of such percentages.
    """

    changes: str
    cases: str
    label: str
    column: str
    none: str
    numbers: str
    kept: str = "changes its outputs by {changed} of their spread"
    kept_axis: str = "100 % without the change of outputs, % of their spread"


class Task(Protocol):
    """Say what a file in this folder has.

    Attributes:
        NAME: By which it is selected and recorded.
        WORDS: How a change of its output is worded.
        SKIPS: The parts of an audit that mean nothing for its output.
        ANNOTATIONS: What its output is scored on, zone by zone: "boxes", "masks", or "" for nothing.
        LEAST: The mean difference, in the measure of the comparison, above which an effect of the position is use of it
            rather than a response.
        HAS_LABELS: Whether an image has one right class, and `summary` returns the predicted one.
    """

    NAME: str
    WORDS: Words
    SKIPS: tuple[str, ...]
    ANNOTATIONS: str
    LEAST: float
    HAS_LABELS: bool

    def fits(self, output: Any, images: Tensor, is_asked: bool, /) -> bool:
        """Return whether an output, or an entry of one, for `images` (N, C, H, W) can be of this task.

        A task that is asked for may take what another one is guessed from.
        """
        ...

    def adapter(self, output: Any, /) -> tuple[Adapter | None, str]:
        """Return what makes such an output one tensor that can be compared, None if it is one, and a note about it."""
        ...

    def body(self, model: nn.Module, /) -> nn.Module:
        """Return the part of a readable model that is converted and explained."""
        ...

    def summary(self, outputs: Tensor, /) -> Tensor:
        """Return what is kept of each image's output (N, ...)."""
        ...

    def comparison(self, summaries: Tensor, /) -> OutputComparison:
        """Return how outputs are compared, given the summaries of all images."""
        ...


def as_it_is(_: Any) -> tuple[Adapter | None, str]:
    """Return no adapter, for a task whose output is one tensor already."""
    return None, ""


def as_a_whole(model: nn.Module) -> nn.Module:
    """Return the model, for a task whose network is converted as a whole."""
    return model


def discover() -> dict[str, Task]:
    """Return every task by name, in the order in which an output is tried."""
    modules = cast(list[Task], [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)])
    order = [*_ORDER, *(task.NAME for task in modules)]
    return {task.NAME: task for task in sorted(modules, key=lambda task: order.index(task.NAME))}


def entries(output: Any) -> list[tuple[Any, Any]]:
    """Return the keys and values of an output of several; nothing of another one."""
    if isinstance(output, Mapping):
        return list(cast(Mapping[Any, Any], output).items())
    return list(enumerate(cast(Sequence[Any], output))) if isinstance(output, list | tuple) else []
