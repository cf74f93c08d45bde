"""How a network is trained: settings, and the step size that follows from them."""

from dataclasses import dataclass
from typing import Literal

from borderless.errors import TrainingError

Optimizer = Literal["sgd", "adadelta", "adamw"]
Schedule = Literal["constant", "plateau", "step", "linear"]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; the defaults are those of the paper's quadrant experiment."""

    epochs: int = 30
    """Passes over the training data, at most."""
    batch_size: int = 8
    """Items a step, over all processes."""
    optimizer: Optimizer = "sgd"
    """Which rule turns gradients into steps."""
    learning_rate: float = 1e-3
    """Step size at the beginning."""
    momentum: float = 0.9
    """Of SGD."""
    dampening: float = 0.0
    """Of SGD's momentum; Nesterov's momentum goes without."""
    nesterov: bool = True
    """Whether SGD's momentum is Nesterov's."""
    weight_decay: float = 5e-5
    """Penalty on all parameters."""
    schedule: Schedule = "plateau"
    """plateau: the step size falls when validation stops improving. step: every `step_epochs`. linear: to 0, step by
    step."""
    factor: float = 0.1
    """What the step size is multiplied by when it falls."""
    patience: int = 5
    """plateau: epochs without improvement before the step size falls."""
    restore_best: bool = True
    """plateau: whether the best weights are taken up again when the step size falls."""
    step_epochs: int = 30
    """step: epochs before the step size falls."""
    min_learning_rate: float = 1e-6
    """plateau: training stops when the step size falls below this."""
    stop_after: int | None = None
    """Training stops after so many epochs without improvement."""
    monitor: Literal["accuracy", "loss"] = "accuracy"
    """What improvement is measured by, on the validation data."""
    shuffle: bool = True
    """Whether each epoch has the training data in another order."""
    precision: Precision = "float32"
    """What the forward pass computes in; weights are float32."""
    accumulation_steps: int = 1
    """How many passes share a batch, whose gradients add up: less memory, the same steps, but for BatchNorm, which
    takes its statistics of each pass."""
    sync_batchnorm: bool = False
    """Whether BatchNorm takes its statistics over all processes."""
    workers: int = 0
    """Processes that load data, for each process that trains."""
    save_minutes: float = 10.0
    """The longest time between two checkpoints; at the end of an epoch there may be one earlier."""
    tensorboard: bool = False
    """Whether curves are also written for TensorBoard, into the training's folder."""

    def __post_init__(self) -> None:
        counts = min(
            self.epochs, self.batch_size, self.learning_rate, self.patience, self.step_epochs, self.accumulation_steps
        )
        stops = self.stop_after is None or self.stop_after > 0
        if counts <= 0 or not stops or min(self.weight_decay, self.workers, self.save_minutes) < 0:
            raise TrainingError(
                f"got {self}; needed: epochs, batch_size, learning_rate, patience, step_epochs, parts and stop_after "
                "above 0; weight_decay, workers and save_minutes not negative"
            )
        if not 0 < self.factor < 1 or not 0 <= self.momentum < 1 or not 0 <= self.dampening < 1:
            raise TrainingError(f"got {self}; needed: factor between 0 and 1, momentum and dampening in [0, 1)")
        if self.optimizer == "sgd" and self.nesterov and (self.momentum == 0 or self.dampening > 0):
            raise TrainingError(
                f"got nesterov with momentum={self.momentum} and dampening={self.dampening}; needed: momentum above 0 "
                "and no dampening, or nesterov=False"
            )

    def rate(self, epoch: int, share: float, falls: int) -> float:
        """Return the step size in `epoch` (from 0), a `share` of which is done, when it has fallen `falls` times."""
        if self.schedule == "linear":
            return self.learning_rate * (1 - (epoch + share) / self.epochs)
        if self.schedule == "step":
            falls = epoch // self.step_epochs
        return self.learning_rate * self.factor**falls


# As networks of ImageNet are usually trained, and in the paper.
IMAGENET = Recipe(
    epochs=90, batch_size=256, learning_rate=0.1, weight_decay=1e-4, nesterov=False, schedule="step", workers=4
)
