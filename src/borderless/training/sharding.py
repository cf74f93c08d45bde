"""Items of a training step: the order of an epoch, its batches, and each process's share of them.

The order depends on the seed and the epoch alone. A batch is cut into parts, whose gradients add up, and each part is
shared among the processes, so that all of them have as many passes and contribute to every one.
"""

import torch
from torch import Tensor

from borderless.errors import TrainingError
from borderless.runtime.distributed import ProcessGroup
from borderless.training.objective import Objective
from borderless.training.recipe import Recipe


def order_items(items: int, recipe: Recipe, seed: int, epoch: int) -> Tensor:
    """Return the numbers of all `items` in the order of `epoch`."""
    if not recipe.shuffle:
        return torch.arange(items)
    return torch.randperm(items, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))


def split_batch(batch: Tensor, parts: int, group: ProcessGroup) -> list[list[int]]:
    """Return this process's items of each part of `batch`, a vector of items' numbers."""
    cut = batch.tensor_split(min(parts, len(batch) // group.size))
    return [part.tensor_split(group.size)[group.rank].tolist() for part in cut]


def check_batches(items: int, recipe: Recipe, objective: Objective, group: ProcessGroup) -> None:
    """Check that every process gets items of every batch, and that no batch is cut that must stay whole.

    Raises:
        TrainingError: One of the two does not hold.
    """
    smallest = items % recipe.batch_size or min(recipe.batch_size, items)
    if smallest < group.size:
        raise TrainingError(
            f"Expected items for every process in every batch but got {items} items in batches of {recipe.batch_size} "
            f"on {group.size} processes, whose smallest batch has {smallest}; choose another batch_size"
        )
    if objective.needs_whole_batch and (group.size > 1 or recipe.accumulation_steps > 1):
        raise TrainingError(
            f"Expected one process and accumulation_steps=1 for {type(objective).__name__}, whose losses depend on all "
            f"of a batch, but got {group.size} and {recipe.accumulation_steps}; run the cells of an experiment side by "
            "side instead, with --engine ray"
        )
