"""The training loop: steps, epochs, checkpoints, exact resume, on one process or on all that torchrun started.

A training is a folder. `last.pt` holds all that the next step depends on: weights, optimiser, random states, where it
is, and the best weights so far. Calling `fit` again goes on from there, and ends with the very numbers of a training
that was never interrupted. The order of the data depends on the seed and the epoch alone; a data set with random
transforms takes their randomness from `set_epoch(epoch)` and an item's number, never from where or when it is loaded.

Shapes: a data set gives items, most often (image (C, H, W), label), that PyTorch can put together to batches.
"""

import contextlib
import dataclasses
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from borderless.conversion import conversion_of
from borderless.errors import TrainingError
from borderless.runtime.distributed import team
from borderless.training.checkpoint import Checkpoints
from borderless.training.objective import Classification, Objective, evaluate
from borderless.training.recipe import Recipe
from borderless.training.sync_batch_norm import synchronise_norms_
from borderless.training.tensorboard import Curves

SAVING_SHARE = 0.02
"""Of the time, at most, goes into checkpoints at the end of epochs."""

_DISK_BYTES_PER_S = 200e6  # a guess, until the first checkpoint has been written

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: on the training data on the fly, on the validation data after it; its last step size."""

    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float


@dataclass
class _Position:
    """Where a training is. seen: the epoch's sum of losses, right items and items so far, in this process."""

    step: int = 0
    seen: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    falls: int = 0
    epochs_since_best: int = 0
    epochs_since_fall: int = 0
    best: float = -math.inf
    is_finished: bool = False


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
    """Train `model` in place, for classification unless told; it ends in eval mode with its best weights.

    Goes on from `folder/last.pt` if there is one; `folder/best.pt` is the best state dict. Both are written at the end
    of epochs, but for those that follow the last checkpoint so soon that writing it would take more than SAVING_SHARE
    of the time. Best: by what the recipe watches on `validation`, the first of equals. progress: called after each
    epoch with how many are done and how many there will be at most. Runs on the device of the model's parameters, with
    images in channels_last. Inside `team.joined()` every process of torchrun calls it with the same arguments, and the
    first one alone reads and writes `folder`. Raises TrainingError for a checkpoint of another training, or that cannot
    be read and has no predecessor, when the loss is not a finite number, and when a checkpoint cannot be written.
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
        self.train, self.validation, self.recipe, self.seed, self.objective = train, validation, recipe, seed, objective
        self.team, self.folder = team(), folder
        self._check_batches()
        if recipe.synchronises_norms:
            synchronise_norms_(model)
        self.device = next(model.parameters()).device
        self.model = model.to(memory_format=torch.channels_last) if _is_flat(model) else model
        self.optimizer = recipe.make_optimizer(model)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "float16")
        self.checkpoints = Checkpoints(folder, self._identity())
        self.history: list[Epoch] = []
        self.at = _Position()
        self.best_weights: dict[str, Tensor] = {}
        self.best_is_saved = True
        size = sum(value.nbytes for value in model.state_dict().values())
        self.saved_at, self.saving_s = time.monotonic(), 3 * size / _DISK_BYTES_PER_S

    def run(self, progress: Callable[[int, int], Any] | None) -> list[Epoch]:
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            self._seed()
            saved = self.team.led(self.checkpoints.load)
            if saved is not None:
                self._restore(saved)
            steps = self._distributed()
            is_logged = self.recipe.tensorboard and self.team.is_leader and not self.at.is_finished
            with Curves(self.folder, len(self.history)) if is_logged else contextlib.nullcontext() as curves:
                while not self.at.is_finished:
                    self._epoch(steps)
                    if curves is not None:
                        curves.add(len(self.history), dataclasses.asdict(self.history[-1]))
                    if progress is not None:
                        progress(len(self.history), self.recipe.epochs)
        self.team.led(self._save_best)
        self.model.load_state_dict(self.best_weights)
        self.model.eval()
        return self.history

    def _distributed(self) -> nn.Module:
        if self.team.size == 1:
            return self.model
        return DistributedDataParallel(self.model, device_ids=[self.device] if self.device.type == "cuda" else None)

    def _epoch(self, steps: nn.Module) -> None:
        """From where it is to the end of the epoch: the remaining steps, validation, what follows from it."""
        rate = self._steps(steps)
        self.team.agree_on(self.model.buffers())  # each process has seen other items
        loss, right, count = self.team.total(*self.at.seen)
        self._check_finite(loss)
        found = evaluate(self.model, self.validation, self.recipe.batch_size, self.objective, self.recipe.workers)
        self._check_finite(found.loss, "validation loss")
        self.history.append(Epoch(loss / count, right / count, found.loss, found.accuracy, rate))
        self._adapt()
        self.at.step, self.at.seen = 0, [0.0, 0.0, 0.0]
        self._seed()
        if self.at.is_finished or self._is_time(self.saving_s / SAVING_SHARE):
            self._save()

    def _steps(self, model: nn.Module) -> float:
        """The steps that this epoch still lacks; the last step size."""
        model.train()
        epoch, parts = len(self.history), self.recipe.parts
        order = self._order(epoch)
        batches = order.split(self.recipe.batch_size)
        if hasattr(self.train, "set_epoch"):
            self.train.set_epoch(epoch)
        # Into parts, then among the processes, so that each has as many passes and shares every one of them.
        mine = [
            [self._mine(part) for part in batch.tensor_split(min(parts, len(batch) // self.team.size))]
            for batch in batches
        ]
        loader = DataLoader(
            self.train,
            batch_sampler=[part for step in mine[self.at.step :] for part in step],
            num_workers=self.recipe.workers,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # for workers alone; else the caller's random state would move
        )
        items, rate = iter(loader), self.recipe.learning_rate
        seen = torch.tensor(self.at.seen, dtype=torch.float64, device=self.device)
        for step in range(self.at.step, len(batches)):
            rate = self.recipe.rate(epoch, step / len(batches), self.at.falls)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            seen += self._step(model, items, len(mine[step]), len(batches[step]))
            is_last = step == len(batches) - 1
            if not is_last and self._is_time():
                self.at.step, self.at.seen = step + 1, seen.tolist()
                self._check_finite(self.team.total(self.at.seen[0])[0])
                self._save()
        self.at.seen = seen.tolist()
        return rate

    def _step(self, model: nn.Module, items: Iterator[Sequence[Tensor]], parts: int, size: int) -> Tensor:
        """One step of the optimiser on `size` items over all processes: loss, right items, items, of this one."""
        self.optimizer.zero_grad()
        seen = torch.zeros(3, dtype=torch.float64, device=self.device)
        for part in range(parts):
            batch = [self._moved(entry) for entry in next(items)]
            count = len(batch[0])
            is_last = part == parts - 1
            alone = contextlib.nullcontext() if is_last or self.team.size == 1 else model.no_sync()  # type: ignore[operator]
            with alone:
                with torch.autocast(
                    self.device.type, _DTYPES.get(self.recipe.precision), enabled=self.recipe.precision in _DTYPES
                ):
                    loss, right = self.objective.loss(model, batch)
                # The mean over the whole batch: DistributedDataParallel averages over processes.
                self.scaler.scale(loss * (count * self.team.size / size)).backward()
            seen += torch.stack([loss.detach().double() * count, right.double(), torch.full_like(seen[0], count)])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return seen

    def _moved(self, entry: Tensor) -> Tensor:
        entry = entry.to(self.device, non_blocking=True)
        return entry.contiguous(memory_format=torch.channels_last) if entry.ndim == 4 else entry

    def _order(self, epoch: int) -> Tensor:
        if not self.recipe.shuffles:
            return torch.arange(len(self.train))
        return torch.randperm(len(self.train), generator=torch.Generator().manual_seed(self.seed * 1_000_003 + epoch))

    def _mine(self, part: Tensor) -> list[int]:
        return part.tensor_split(self.team.size)[self.team.rank].tolist()

    def _is_time(self, enough_s: float = math.inf) -> bool:
        """Whether to save, `enough_s` or the recipe's time after the last one; by the leader's clock, for all alike."""
        wait_s = min(60 * self.recipe.save_minutes, enough_s)
        return wait_s < math.inf and self.team.shared(time.monotonic() - self.saved_at >= wait_s)

    def _adapt(self) -> None:
        """Remember the best weights; let the step size fall when they are old; decide whether to stop."""
        recipe, at, last = self.recipe, self.at, self.history[-1]
        at.epochs_since_best += 1
        at.epochs_since_fall += 1
        value = last.validation_accuracy if recipe.watch == "accuracy" else -last.validation_loss
        if value > at.best:
            at.best, at.epochs_since_best, at.epochs_since_fall = value, 0, 0
            self.best_weights = _copied(self.model.state_dict())
            self.best_is_saved = False
        elif recipe.schedule == "plateau" and at.epochs_since_fall >= recipe.patience:
            at.falls, at.epochs_since_fall = at.falls + 1, 0
            if recipe.restores_best:
                self.model.load_state_dict(self.best_weights)
        is_small = recipe.schedule == "plateau" and recipe.rate(0, 0.0, at.falls) < recipe.smallest_learning_rate
        is_old = recipe.stops_after is not None and at.epochs_since_best >= recipe.stops_after
        at.is_finished = len(self.history) >= recipe.epochs or is_small or is_old

    def _seed(self) -> None:
        """Each epoch and each process has random numbers of its own, whatever was drawn before."""
        torch.manual_seed((self.seed * 1_000_003 + len(self.history)) * 4_099 + self.team.rank)

    def _save(self) -> None:
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        of_each = self.team.gathered((self.at.seen, torch.get_rng_state(), cuda))
        start = time.monotonic()

        def write() -> None:
            self._save_best()
            self.checkpoints.save(self._state(of_each))

        self.team.led(write)
        self.saved_at = time.monotonic()
        self.saving_s = self.saved_at - start

    def _save_best(self) -> None:
        if not self.best_is_saved:
            self.checkpoints.save_best(self.best_weights)
            self.best_is_saved = True

    def _state(self, of_each: list[Any]) -> dict[str, Any]:
        finished = self.at.is_finished  # then the best weights are all that is asked for
        is_best = finished or (self.at.epochs_since_best == 0 and self.at.step == 0)
        return {
            "model": self.best_weights if finished else self.model.state_dict(),
            "optimizer": None if finished else self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": [dataclasses.astuple(epoch) for epoch in self.history],
            "position": dataclasses.asdict(self.at),
            "best_weights": None if is_best else self.best_weights,  # the same numbers only once
            "processes": of_each,
        }

    def _restore(self, saved: dict[str, Any]) -> None:
        self.model.load_state_dict(saved["model"])
        if saved["optimizer"] is not None:
            self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.history = [Epoch(*values) for values in saved["history"]]
        self.at = _Position(**saved["position"])
        self.best_is_saved = False  # the file may be of a later moment, which is lost
        self.best_weights = _copied(self.model.state_dict()) if saved["best_weights"] is None else saved["best_weights"]
        if len(saved["processes"]) == self.team.size:
            self.at.seen, random, cuda = saved["processes"][self.team.rank]
            torch.set_rng_state(random)
            if cuda is not None and self.device.type == "cuda":
                torch.cuda.set_rng_state(cuda, self.device)
        else:  # another number of processes goes on: what was seen counts once, random numbers are new ones
            sums = [float(sum(each)) for each in zip(*(seen for seen, _, _ in saved["processes"]), strict=True)]
            self.at.seen = sums if self.team.is_leader else [0.0, 0.0, 0.0]
            self._seed()

    def _identity(self) -> dict[str, Any]:
        """What tells this training from others: another recipe, seed, data or network."""
        borders = [
            f"{name} {found.border!r}"
            for name, module in self.model.named_modules()
            if (found := conversion_of(module)) is not None
        ]
        network = ";".join([str(self.model), *borders, *(str(v.dtype) for v in self.model.state_dict().values())])
        recipe = dataclasses.asdict(self.recipe)
        for name in ("workers", "save_minutes", "tensorboard"):  # they change no number
            del recipe[name]
        return {
            "recipe": recipe,
            "seed": self.seed,
            "items": len(self.train),
            "validation_items": len(self.validation),
            "objective": type(self.objective).__name__,
            "network": hashlib.sha256(network.encode()).hexdigest()[:16],
        }

    def _check_batches(self) -> None:
        smallest = len(self.train) % self.recipe.batch_size or min(self.recipe.batch_size, len(self.train))
        if smallest < self.team.size:
            raise TrainingError(
                f"got {len(self.train)} items in batches of {self.recipe.batch_size} on {self.team.size} processes, so "
                f"the smallest batch, of {smallest}, leaves a process without; needed: another batch_size"
            )
        if self.objective.needs_whole_batch and (self.team.size > 1 or self.recipe.parts > 1):
            raise TrainingError(
                f"got {self.team.size} processes and parts={self.recipe.parts} for {type(self.objective).__name__}, "
                "whose losses depend on all of a batch; needed: one process, and parts=1"
            )

    def _check_finite(self, loss: float, name: str = "loss") -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"got a {name} of {loss} in epoch {len(self.history) + 1} with a step size of "
                f"{self.optimizer.param_groups[0]['lr']}; needed: a finite one; take a smaller learning_rate"
            )


def _copied(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in weights.items()}


def _is_flat(model: nn.Module) -> bool:
    """Whether it is a network of images, which channels_last is made for."""
    return not any(parameter.ndim == 5 for parameter in model.parameters())
