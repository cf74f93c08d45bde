"""Recipe of a training: its settings, and the learning rate that follows from them."""

import math
from dataclasses import dataclass, fields
from typing import Literal

from borderless.errors import TrainingError

Optimizer = Literal["sgd", "adadelta", "adamw"]
Schedule = Literal["constant", "plateau", "step", "linear"]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Recipe:
    """Settings of a training; the defaults are those of the paper's quadrant experiment."""

    epochs: int = 30
    """Largest number of passes over the training data."""
    batch_size: int = 8
    """Items per step, over all processes."""
    optimizer: Optimizer = "sgd"
    """Optimizer."""
    learning_rate: float = 1e-3
    """Initial learning rate."""
    momentum: float = 0.9
    """Momentum of SGD."""
    dampening: float = 0.0
    """Dampening of SGD's momentum; 0 with Nesterov momentum."""
    nesterov: bool = True
    """Whether SGD uses Nesterov momentum."""
    weight_decay: float = 5e-5
    """Weight decay, for all parameters."""
    schedule: Schedule = "plateau"
    """plateau: the learning rate falls when validation stops improving. step: every `step_epochs`. linear: to 0."""
    factor: float = 0.1
    """Factor by which the learning rate falls."""
    patience: int = 5
    """plateau: epochs without improvement before the learning rate falls."""
    restore_best: bool = True
    """plateau: whether the best weights are restored when the learning rate falls."""
    step_epochs: int = 30
    """step: epochs before the learning rate falls."""
    min_learning_rate: float = 1e-6
    """plateau: learning rate below which training stops."""
    stop_after: int | None = None
    """Epochs without improvement before training stops; none: all epochs."""
    monitor: Literal["accuracy", "loss"] = "accuracy"
    """Validation metric that improvement is measured by."""
    shuffle: bool = True
    """Whether to shuffle the training data in each epoch."""
    precision: Precision = "float32"
    """Precision of the forward pass; weights are float32."""
    accumulation_steps: int = 1
    """Passes per step, whose gradients are summed; BatchNorm takes its statistics per pass."""
    sync_batchnorm: bool = False
    """Whether BatchNorm takes its statistics over all processes."""
    workers: int = 0
    """Processes that load data, per training process."""
    save_minutes: float = 10.0
    """Longest time between two checkpoints, in minutes."""
    tensorboard: bool = False
    """Whether to write curves for TensorBoard, too, into the training's folder."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise TrainingError(f"Expected {field.name} to be a finite number but got {value}; choose another.")
        counts = min(
            self.epochs, self.batch_size, self.learning_rate, self.patience, self.step_epochs, self.accumulation_steps
        )
        stops = self.stop_after is None or self.stop_after > 0
        if counts <= 0 or not stops or min(self.weight_decay, self.workers, self.save_minutes) < 0:
            raise TrainingError(
                "Expected epochs, batch_size, learning_rate, patience, step_epochs, accumulation_steps and stop_after "
                f"above 0, and no negative weight_decay, workers and save_minutes, but got {self}"
            )
        if not 0 < self.factor < 1 or not 0 <= self.momentum < 1 or not 0 <= self.dampening < 1:
            raise TrainingError(f"Expected factor between 0 and 1, momentum and dampening in [0, 1), but got {self}")
        if self.optimizer == "sgd" and self.nesterov and (self.momentum == 0 or self.dampening > 0):
            raise TrainingError(
                f"Expected momentum above 0 and no dampening with nesterov but got momentum={self.momentum} and "
                f"dampening={self.dampening}; change them, or set nesterov=False"
            )

    def rate(self, epoch: int, share: float, falls: int) -> float:
        """Return the learning rate in `epoch` (from 0), a `share` of which is done, after `falls` falls."""
        if self.schedule == "linear":
            return self.learning_rate * (1 - (epoch + share) / self.epochs)
        if self.schedule == "step":
            falls = epoch // self.step_epochs
        return self.learning_rate * self.factor**falls


# Of small networks on small images, whose number of epochs and learning rate the experiment says.
SMALL_IMAGES = Recipe(batch_size=32, optimizer="adamw", weight_decay=1e-2, schedule="linear")
# As networks of ImageNet are usually trained, and in the paper.
IMAGENET = Recipe(
    epochs=90, batch_size=256, learning_rate=0.1, weight_decay=1e-4, nesterov=False, schedule="step", workers=4
)
