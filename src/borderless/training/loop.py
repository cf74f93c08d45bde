"""The training loop: steps, epochs, checkpoints, exact resume, on one process or on all that torchrun started.

A training is a folder. `last.pt` holds all that the next step depends on: weights, optimizer, random states, the
position, and the best weights so far. Calling `fit` again goes on from there, and ends with the very numbers of a
training that was never interrupted. The order of the data depends on the seed and the epoch alone; a data set with
random transforms takes their randomness from `set_epoch(epoch)` and an item's number, never from where or when it is
loaded.

Shapes: a data set gives items, most often (image (C, H, W), label), that PyTorch can put together to batches.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from borderless.errors import TrainingError
from borderless.runtime.distributed import process_group
from borderless.training.checkpoint import Checkpoints
from borderless.training.objective import Classification, Objective, evaluate
from borderless.training.recipe import Recipe
from borderless.training.sharding import check_batches, order_items, split_batch
from borderless.training.state import Epoch, TrainingState, identify
from borderless.training.sync_batch_norm import sync_batchnorm_
from borderless.training.tensorboard import Curves

SAVING_SHARE = 0.02
"""Share of the time, at most, that goes into checkpoints at the end of epochs."""

_DISK_BYTES_PER_S = 200e6  # a guess, until the first checkpoint has been written

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def fit(
    model: nn.Module,
    train: Any,
    validation: Any,
    recipe: Recipe,
    folder: Path | str,
    seed: int,
    *,
    objective: Objective | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> list[Epoch]:
    """Train `model` in place; it ends in eval mode with its best weights.

    Continues from `folder/last.pt` if there is one; `folder/best.pt` is the best state dict. Both are written at the
    end
    of epochs, but for those that follow the last checkpoint so soon that writing it would take more than SAVING_SHARE
    of the time. Inside `runtime.distributed.joined()` every process of torchrun calls it with the same arguments, and
    the first one alone reads and writes `folder`.

    Args:
        model: A model, trained on the device of its parameters, with images in channels_last.
        train: A data set of items.
        validation: Another one, on which the recipe's `monitor` selects the best weights, the first of equals.
        recipe: Settings of the training.
        folder: Folder of the checkpoints.
        seed: Seed of the order of the data and of all random numbers.
        objective: The loss and the score; by default classification.
        progress: Called after each epoch with the number of epochs that are done, and the most there will be.

    Returns:
        The results of each epoch.

    Raises:
        TrainingError: `folder` has a checkpoint of another training, or one that cannot be read and has no
            predecessor; the loss is not a finite number; or a checkpoint cannot be written.
    """
    return _Training(model, train, validation, recipe, Path(folder), seed, objective or Classification()).run(progress)


class _Training:
    def __init__(
        self,
        model: nn.Module,
        train: Any,
        validation: Any,
        recipe: Recipe,
        folder: Path,
        seed: int,
        objective: Objective,
    ) -> None:
        self.train, self.validation, self.recipe = train, validation, recipe
        self.objective, self.folder = objective, folder
        self.group = process_group()
        check_batches(len(train), recipe, objective, self.group)
        if recipe.sync_batchnorm:
            sync_batchnorm_(model)
        self.state = TrainingState(model, recipe, seed, self.group)
        self.checkpoints = Checkpoints(
            folder, identify(self.state.model, recipe, seed, objective, len(train), len(validation))
        )
        self.best_is_saved = True
        size = sum(value.nbytes for value in model.state_dict().values())
        self.saved_at, self.saving_s = time.monotonic(), 3 * size / _DISK_BYTES_PER_S

    def run(self, progress: Callable[[int, int], Any] | None) -> list[Epoch]:
        state = self.state
        with torch.random.fork_rng(devices=[state.device] if state.device.type == "cuda" else []):
            state.seed_epoch()
            saved = self.group.on_leader(self.checkpoints.load)
            if saved is not None:
                state.restore(saved)
                self.best_is_saved = False  # the file may be of a later moment, which is lost
            steps = self._distributed()
            is_logged = self.recipe.tensorboard and self.group.is_leader and not state.position.is_finished
            with Curves(self.folder, len(state.history)) if is_logged else contextlib.nullcontext() as curves:
                while not state.position.is_finished:
                    self._epoch(steps)
                    if curves is not None:
                        curves.add(len(state.history), dataclasses.asdict(state.history[-1]))
                    if progress is not None:
                        progress(len(state.history), self.recipe.epochs)
        self.group.on_leader(self._save_best)
        state.model.load_state_dict(state.best_weights)
        state.model.eval()
        return state.history

    def _distributed(self) -> nn.Module:
        model, device = self.state.model, self.state.device
        if self.group.size == 1:
            return model
        return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)

    def _epoch(self, steps: nn.Module) -> None:
        """Run to the end of the epoch: the remaining steps, validation, its consequences."""
        state = self.state
        rate = self._steps(steps)
        self.group.broadcast_tensors(state.model.buffers())  # each process has seen other items
        loss, right, count = self.group.all_reduce_sum(*state.position.seen)
        self._check_finite(loss)
        found = evaluate(state.model, self.validation, self.recipe.batch_size, self.objective, self.recipe.workers)
        self._check_finite(found.loss, "validation loss")
        if state.end_epoch(Epoch(loss / count, right / count, found.loss, found.accuracy, rate)):
            self.best_is_saved = False
        state.seed_epoch()
        if state.position.is_finished or self._is_time(self.saving_s / SAVING_SHARE):
            self._save()

    def _steps(self, model: nn.Module) -> float:
        """Take the remaining steps of this epoch and return the last step size."""
        model.train()
        state, at, recipe = self.state, self.state.position, self.recipe
        epoch = len(state.history)
        batches = order_items(len(self.train), recipe, state.seed, epoch).split(recipe.batch_size)
        if hasattr(self.train, "set_epoch"):
            self.train.set_epoch(epoch)
        mine = [split_batch(batch, recipe.accumulation_steps, self.group) for batch in batches]
        loader = DataLoader(
            self.train,
            batch_sampler=[part for step in mine[at.step :] for part in step],
            num_workers=recipe.workers,
            pin_memory=state.device.type == "cuda",
            generator=torch.Generator(),  # for workers alone; else the caller's random state would move
        )
        items, rate = iter(loader), recipe.learning_rate
        seen = torch.tensor(at.seen, dtype=torch.float64, device=state.device)
        for step in range(at.step, len(batches)):
            rate = recipe.rate(epoch, step / len(batches), at.falls)
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            seen += self._step(model, items, len(mine[step]), len(batches[step]))
            is_last = step == len(batches) - 1
            if not is_last and self._is_time():
                at.step, at.seen = step + 1, seen.tolist()
                self._check_finite(self.group.all_reduce_sum(at.seen[0])[0])
                self._save()
        at.seen = seen.tolist()
        return rate

    def _step(self, model: nn.Module, items: Iterator[Sequence[Tensor]], parts: int, size: int) -> Tensor:
        """Take one step on `size` items over all processes; return the loss, right items and items of this one."""
        state, precision = self.state, self.recipe.precision
        state.optimizer.zero_grad()
        seen = torch.zeros(3, dtype=torch.float64, device=state.device)
        for part in range(parts):
            batch = [self._moved(entry) for entry in next(items)]
            count = len(batch[0])
            is_last = part == parts - 1
            # Gradients of all parts add up before processes exchange them.
            is_shared = isinstance(model, DistributedDataParallel)
            with model.no_sync() if is_shared and not is_last else contextlib.nullcontext():
                with torch.autocast(state.device.type, _DTYPES.get(precision), enabled=precision in _DTYPES):
                    loss, right = self.objective.loss(model, batch)
                # The mean over the whole batch: DistributedDataParallel averages over processes.
                state.scaler.scale(loss * (count * self.group.size / size)).backward()
            seen += torch.stack([loss.detach().double() * count, right.double(), torch.full_like(seen[0], count)])
        state.scaler.step(state.optimizer)
        state.scaler.update()
        return seen

    def _moved(self, entry: Tensor) -> Tensor:
        entry = entry.to(self.state.device, non_blocking=True)
        return entry.contiguous(memory_format=torch.channels_last) if entry.ndim == 4 else entry

    def _is_time(self, enough_s: float = math.inf) -> bool:
        """Return whether `enough_s` or the recipe's time has passed since the last save, by the leader's clock."""
        wait_s = min(60 * self.recipe.save_minutes, enough_s)
        return wait_s < math.inf and self.group.broadcast(time.monotonic() - self.saved_at >= wait_s)

    def _save(self) -> None:
        processes = self.group.all_gather(self.state.process_state())
        start = time.monotonic()

        def write() -> None:
            self._save_best()
            self.checkpoints.save(self.state.to_dict(processes))

        self.group.on_leader(write)
        self.saved_at = time.monotonic()
        self.saving_s = self.saved_at - start

    def _save_best(self) -> None:
        if not self.best_is_saved:
            self.checkpoints.save_best(self.state.best_weights)
            self.best_is_saved = True

    def _check_finite(self, loss: float, name: str = "loss") -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"Expected a finite {name} but got {loss} in epoch {len(self.state.history) + 1} with a step size of "
                f"{self.state.optimizer.param_groups[0]['lr']}; take a smaller learning_rate"
            )
