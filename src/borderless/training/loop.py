"""The training loop: SGD, a learning rate that falls when validation stops improving, checkpoints, exact resume.

A training is a folder. After every epoch `last.pt` holds all that the next one depends on: weights, optimiser,
schedule, random states, and the best weights so far. Calling `fit` again goes on from there, and ends with the very
numbers of a training that was never interrupted. The order of the data depends on the seed and the epoch alone.

Shapes: a data set gives (image (C, H, W), label) items; images of a batch are equal in size.
"""

import dataclasses
import io
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from borderless.errors import TrainingError
from borderless.files import write_atomically

LAST = "last.pt"
Data = Dataset[tuple[Tensor, int]]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; the defaults are those of the paper's quadrant experiment."""

    epochs: int = 30
    """Passes over the training data, at most."""
    batch_size: int = 8
    """Images a step."""
    learning_rate: float = 1e-3
    """Step size of SGD at the beginning."""
    momentum: float = 0.9
    """Nesterov's momentum."""
    weight_decay: float = 5e-5
    """Penalty on all parameters."""
    factor: float = 0.1
    """What the step size is multiplied by when validation accuracy has not improved for `patience` epochs."""
    patience: int = 5
    """Epochs without improvement before the step size falls and the best weights are taken up again."""
    smallest_learning_rate: float = 1e-6
    """Training stops when the step size falls below this."""

    def __post_init__(self) -> None:
        is_positive = min(self.epochs, self.batch_size, self.learning_rate, self.patience) > 0
        if not is_positive or not 0 < self.factor < 1 or not 0 <= self.momentum < 1 or self.weight_decay < 0:
            raise TrainingError(
                f"got {self}; needed: epochs, batch_size, learning_rate and patience above 0, factor between 0 and 1, "
                "momentum in [0, 1), weight_decay not negative"
            )


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: mean training loss, training accuracy on the fly, validation accuracy, step size."""

    loss: float
    accuracy: float
    validation_accuracy: float
    learning_rate: float


@dataclass
class _State:
    """All that the next epoch depends on."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    history: list[Epoch]
    best_accuracy: float = -math.inf
    best_weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    epochs_since: int = 0  # the best, or the last fall of the step size
    is_finished: bool = False

    @property
    def learning_rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]


def fit(
    model: nn.Module,
    train: Data,
    validation: Data,
    recipe: Recipe,
    folder: Path | str,
    seed: int,
    *,
    progress: Callable[[int, int], Any] | None = None,
) -> list[Epoch]:
    """Train `model` for classification with cross-entropy, in place; it ends in eval mode with its best weights.

    Goes on from `folder/last.pt` if there is one. Best: the highest accuracy on `validation`, the first of equals.
    progress: called after each epoch with how many are done and how many there will be at most. Runs on the device of
    the model's parameters. Raises TrainingError for a checkpoint of another training, or that cannot be read, and when
    the loss is not a finite number.
    """
    folder = Path(folder)
    device = next(model.parameters()).device
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        weight_decay=recipe.weight_decay,
    )
    state = _State(model, optimizer, [])
    identity = {"recipe": dataclasses.asdict(recipe), "seed": seed, "images": len(train)}  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        if (folder / LAST).exists():
            _resume(state, folder / LAST, identity, device)
        while not state.is_finished:
            order = torch.Generator().manual_seed(seed * 1_000_003 + len(state.history))
            loss, accuracy = _epoch(state, DataLoader(train, recipe.batch_size, shuffle=True, generator=order), device)
            learning_rate = state.learning_rate
            found = evaluate(model, validation, recipe.batch_size)
            state.history.append(Epoch(loss, accuracy, found, learning_rate))
            _adapt(state, recipe)
            _save(state, folder / LAST, identity, device)
            if progress is not None:
                progress(len(state.history), recipe.epochs)
    model.load_state_dict(state.best_weights)
    model.eval()
    return state.history


@torch.no_grad()
def evaluate(model: nn.Module, data: Data, batch_size: int) -> float:
    """The share of right answers in [0, 1], in eval mode; the model's mode is left as it was."""
    mode, device = model.training, next(model.parameters()).device
    model.eval()
    right = count = 0
    for images, labels in DataLoader(data, batch_size):
        right += int((model(images.to(device)).argmax(1) == labels.to(device)).sum())
        count += len(labels)
    model.train(mode)
    return right / count


def _epoch(state: _State, batches: DataLoader[Any], device: torch.device) -> tuple[float, float]:
    """Mean loss and accuracy over one pass."""
    state.model.train()
    total, right, count = 0.0, 0, 0
    for images, labels in batches:
        images, labels = images.to(device), labels.to(device)
        state.optimizer.zero_grad()
        answers = state.model(images)
        loss = F.cross_entropy(answers, labels)
        loss.backward()
        state.optimizer.step()
        total += float(loss.detach()) * len(labels)
        right += int((answers.detach().argmax(1) == labels).sum())
        count += len(labels)
        if not math.isfinite(total):
            raise TrainingError(
                f"got a loss of {total} in epoch {len(state.history) + 1} with a step size of {state.learning_rate}; "
                "needed: a finite one; take a smaller learning_rate"
            )
    return total / count, right / count


def _adapt(state: _State, recipe: Recipe) -> None:
    """Remember the best weights; lower the step size when they are old; decide whether to stop."""
    state.epochs_since += 1
    accuracy = state.history[-1].validation_accuracy
    if accuracy > state.best_accuracy:
        state.best_accuracy, state.epochs_since = accuracy, 0
        state.best_weights = {name: value.detach().clone() for name, value in state.model.state_dict().items()}
    elif state.epochs_since >= recipe.patience:
        state.epochs_since = 0
        state.model.load_state_dict(state.best_weights)
        for group in state.optimizer.param_groups:
            group["lr"] *= recipe.factor
    state.is_finished = len(state.history) >= recipe.epochs or state.learning_rate < recipe.smallest_learning_rate


def _save(state: _State, path: Path, identity: dict[str, Any], device: torch.device) -> None:
    data = io.BytesIO()
    torch.save(
        {
            "identity": identity,
            "model": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "history": [dataclasses.astuple(epoch) for epoch in state.history],
            "best_accuracy": state.best_accuracy,
            "best_weights": state.best_weights,
            "epochs_since": state.epochs_since,
            "is_finished": state.is_finished,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        },
        data,
    )
    write_atomically(path, data.getvalue())


def _resume(state: _State, path: Path, identity: dict[str, Any], device: torch.device) -> None:
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        found = saved["identity"]
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"got {path}, which cannot be read as a training's checkpoint ({type(error).__name__}); needed: the file "
            "that this training wrote; delete it to start anew"
        ) from error
    if found != identity:
        raise TrainingError(
            f"got {path}, the checkpoint of another training ({found}); this one is {identity}; choose another folder, "
            "or delete it"
        )
    state.model.load_state_dict(saved["model"])
    state.optimizer.load_state_dict(saved["optimizer"])
    state.history = [Epoch(*values) for values in saved["history"]]
    state.best_accuracy, state.best_weights = saved["best_accuracy"], saved["best_weights"]
    state.epochs_since, state.is_finished = saved["epochs_since"], saved["is_finished"]
    torch.set_rng_state(saved["random"].cpu())
    if saved["random_cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(saved["random_cuda"].cpu(), device)
