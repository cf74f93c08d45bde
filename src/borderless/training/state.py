"""State of a training: everything the next step depends on, what identifies it, and how it is saved and restored."""

import dataclasses
import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from borderless.conversion import conversion_of
from borderless.runtime.distributed import ProcessGroup
from borderless.training.objective import Objective
from borderless.training.recipe import Recipe


@dataclass(frozen=True)
class Epoch:
    """The results of one epoch.

    Args:
        loss: Mean loss on the training data, during the epoch.
        accuracy: The accuracy likewise, in [0, 1].
        validation_loss: Loss on the validation data after the epoch.
        validation_accuracy: The accuracy likewise, in [0, 1].
        learning_rate: The learning rate of the last step.
    """

    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float


@dataclass
class Position:
    """The progress of a training. seen: the epoch's sum of losses, right items and items so far, in this process."""

    step: int = 0
    seen: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    falls: int = 0
    epochs_since_best: int = 0
    epochs_since_fall: int = 0
    best: float = -math.inf
    is_finished: bool = False


class TrainingState:
    """Model, optimizer, scaler, position, best weights and results, on one process of `group`."""

    def __init__(self, model: nn.Module, recipe: Recipe, seed: int, group: ProcessGroup) -> None:
        self.recipe, self.seed, self.group = recipe, seed, group
        self.device = next(model.parameters()).device
        self.model = model.to(memory_format=torch.channels_last) if _takes_images(model) else model
        self.optimizer = make_optimizer(model, recipe)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "float16")
        self.history: list[Epoch] = []
        self.position = Position()
        self.best_weights: dict[str, Tensor] = {}

    def seed_epoch(self) -> None:
        """Seed the random numbers of this epoch and process, whatever was drawn before."""
        torch.manual_seed((self.seed * 1_000_003 + len(self.history)) * 4_099 + self.group.rank)

    def end_epoch(self, epoch: Epoch) -> bool:
        """Add the results of an epoch: keep the best weights, lower the learning rate, decide whether to stop.

        Returns:
            Whether this epoch's weights are the best so far.
        """
        recipe, at = self.recipe, self.position
        self.history.append(epoch)
        at.epochs_since_best += 1
        at.epochs_since_fall += 1
        value = epoch.validation_accuracy if recipe.monitor == "accuracy" else -epoch.validation_loss
        is_best = value > at.best
        if is_best:
            at.best, at.epochs_since_best, at.epochs_since_fall = value, 0, 0
            self.best_weights = _copied(self.model.state_dict())
        elif recipe.schedule == "plateau" and at.epochs_since_fall >= recipe.patience:
            at.falls, at.epochs_since_fall = at.falls + 1, 0
            if recipe.restore_best:
                self.model.load_state_dict(self.best_weights)
        is_small = recipe.schedule == "plateau" and recipe.rate(0, 0.0, at.falls) < recipe.min_learning_rate
        is_old = recipe.stop_after is not None and at.epochs_since_best >= recipe.stop_after
        at.is_finished = len(self.history) >= recipe.epochs or is_small or is_old
        at.step, at.seen = 0, [0.0, 0.0, 0.0]
        return is_best

    def process_state(self) -> Any:
        """Return what differs between processes: results of the epoch so far, and random states."""
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return self.position.seen, torch.get_rng_state(), cuda

    def to_dict(self, processes: list[Any]) -> dict[str, Any]:
        """Return all of it as tensors and plain types; `processes`: the `process_state` of each."""
        finished = self.position.is_finished  # then the best weights are all that is asked for
        is_best = finished or (self.position.epochs_since_best == 0 and self.position.step == 0)
        return {
            "model": self.best_weights if finished else self.model.state_dict(),
            "optimizer": None if finished else self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": [dataclasses.astuple(epoch) for epoch in self.history],
            "position": dataclasses.asdict(self.position),
            "best_weights": None if is_best else self.best_weights,  # the same numbers only once
            "processes": processes,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Restore everything that `to_dict` returned, also with another number of processes."""
        self.model.load_state_dict(saved["model"])
        if saved["optimizer"] is not None:
            self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.history = [Epoch(*values) for values in saved["history"]]
        self.position = Position(**saved["position"])
        self.best_weights = _copied(self.model.state_dict()) if saved["best_weights"] is None else saved["best_weights"]
        if len(saved["processes"]) == self.group.size:
            self.position.seen, random, cuda = saved["processes"][self.group.rank]
            torch.set_rng_state(random)
            if cuda is not None and self.device.type == "cuda":
                torch.cuda.set_rng_state(cuda, self.device)
        else:  # another number of processes goes on: what was seen counts once, random numbers are new ones
            sums = [float(sum(each)) for each in zip(*(seen for seen, _, _ in saved["processes"]), strict=True)]
            self.position.seen = sums if self.group.is_leader else [0.0, 0.0, 0.0]
            self.seed_epoch()


def identify(
    model: nn.Module, recipe: Recipe, seed: int, objective: Objective, items: int, validation_items: int
) -> dict[str, Any]:
    """Return what distinguishes a training from others: its recipe, seed, data and network."""
    borders = [
        f"{name} {found.border!r}"
        for name, module in model.named_modules()
        if (found := conversion_of(module)) is not None
    ]
    network = ";".join([str(model), *borders, *(str(v.dtype) for v in model.state_dict().values())])
    settings = dataclasses.asdict(recipe)
    for name in ("workers", "save_minutes", "tensorboard"):  # they change no number
        del settings[name]
    return {
        "recipe": settings,
        "seed": seed,
        "items": items,
        "validation_items": validation_items,
        "objective": type(objective).__name__,
        "network": hashlib.sha256(network.encode()).hexdigest()[:16],
    }


def _copied(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in weights.items()}


def _takes_images(model: nn.Module) -> bool:
    """Return whether it is a network of images, for which channels_last is made."""
    return not any(parameter.ndim == 5 for parameter in model.parameters())


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimizer of all parameters of `model`."""
    parameters, rate, decay = model.parameters(), recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "adadelta":
        return torch.optim.Adadelta(parameters, rate, weight_decay=decay)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, rate, weight_decay=decay)
    return torch.optim.SGD(parameters, rate, recipe.momentum, recipe.dampening, decay, recipe.nesterov)
