"""Position sensitivity: does the prediction change with an object's position, and is border, bias or stride the cause?

An object is evaluated at many positions of a canvas, through `place`. Three effects are separated by removing one cause
at a time, exactly:

- border: positions a whole number of total strides apart, under the model's original padding. Strides do not
  distinguish
  these; under `infinite` the same positions give the same output, which is measured too, as the control.
- bias: the same positions under `full`, which crops nothing but pads with 0 where the network's response to the
  background is not 0. Without a bias (or a normalization that acts like one) `full` gives the same outputs.
- stride: positions between whole strides, under `infinite`, which has no border, with the model's own phase. With an
  adaptive phase these give the same output as well: the second control.

Where outputs must be equal, `place` computes them in one run, which would prove nothing. So the controls run every
canvas whole, for some of the objects and positions.

Shapes: objects (N, C, h, w); positions (P, 2) of their upper left pixels; logits (P, N, classes).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from borderless.conversion import bordered, conversion_of
from borderless.engine.border import Phase
from borderless.errors import ImageError
from borderless.measures.batches import check_images
from borderless.measures.intervals import over_objects
from borderless.measures.positions import between_strides, on_grid, whole_strides_apart
from borderless.placement.place import place
from borderless.runtime.evaluation import evaluating

Background = float | Sequence[float] | Tensor
_CONTROL_PLACES, _CONTROL_OBJECTS = 5, 4
_STEPS = 6


@dataclass(frozen=True)
class Effect:
    """Differences between the predictions at some positions and those at the middle one.

    Attributes:
        flips: The share of (position, object) pairs whose predicted class differs, in [0, 1].
        low: Lower end of its 95 % interval over objects.
        high: Upper end.
        change: The largest difference of a logit, relative to the largest logit.
        drop: The mean fall of the probability of the class that is predicted at the middle.
        places: Number of positions that were compared, besides the middle.
    """

    flips: float
    low: float
    high: float
    change: float
    drop: float
    places: int


@dataclass(frozen=True)
class Sensitivity:
    """Dependence of predictions on the position; the effects are named as in the module's text.

    Attributes:
        positions: (P, 2), all positions under the model's own border, the middle first.
        answers: (P, N), the predicted classes.
        probability: (P, N), of the class that is predicted at the middle, or of the label.
        stride_px: The model's total stride (rows, columns).
        canvas: Size of the canvas (height, width).
        all_places: All positions, under the model's own border.
        border: Positions whole strides apart.
        bias: The same positions under `full`.
        stride: Positions between strides under `infinite`.
        border_control: What remains of `border` under `infinite`.
        stride_control: What remains of `stride` with an adaptive phase.
    """

    positions: np.ndarray
    answers: np.ndarray
    probability: np.ndarray
    stride_px: tuple[int, int]
    canvas: tuple[int, int]
    all_places: Effect
    border: Effect
    bias: Effect
    stride: Effect
    border_control: Effect
    stride_control: Effect

    @property
    def worst(self) -> tuple[int, int]:
        """The position with the lowest mean probability."""
        row, column = self.positions[self.probability.mean(1).argmin()]
        return int(row), int(column)


def sensitivity(
    model: nn.Module,
    objects: Tensor,
    canvas: tuple[int, int],
    stride_px: Sequence[int],
    *,
    labels: Tensor | None = None,
    background: Background = 0.0,
    places: int = 49,
    seed: int = 0,
    progress: Callable[[int, int], Any] | None = None,
) -> Sensitivity:
    """Evaluate `model`, as it is, on `objects` at positions of a canvas, and separate what makes predictions differ.

    Args:
        model: Returns logits (N, classes).
        objects: (N, C, h, w).
        canvas: Size of the canvas (height, width).
        stride_px: The model's total stride along each axis, as `explain` gives it.
        labels: The right classes (N,); by default the class that is predicted at the middle.
        background: Value of the canvas, as for `place`; under `infinite` its color (of an image: the mean), and under
            `full` 0, which is what that pads with.
        places: Approximate number of positions, from edge to edge.
        seed: Seed of the positions between strides, and of the resampling for the intervals.
        progress: Called with the number of steps that are done, and their total.

    Raises:
        ImageError: The objects do not fit on the canvas, or the model returns no logits.
    """
    check_images(objects)
    room = tuple(n - o for n, o in zip(canvas, objects.shape[2:], strict=True))
    if min(room) < 1:
        raise ImageError(
            f"Expected objects smaller than the canvas {tuple(canvas)}, so that they fit at several positions, but got "
            f"objects of {tuple(objects.shape[2:])} pixels."
        )
    strides = (int(stride_px[0]), int(stride_px[1]))
    across = max(2, round(places**0.5))
    everywhere = on_grid(room, across)
    whole = whole_strides_apart(room, strides, across)
    between = between_strides(room, strides, places, seed)
    color = _color(background)
    done = 0

    def step(found: np.ndarray) -> np.ndarray:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, _STEPS)
        return found

    def logits(under: str | None, where: np.ndarray) -> np.ndarray:
        around = background if under is None else 0.0 if under == "full" else color
        return step(_logits(model, objects, where, canvas, around, under))

    def control(phase: Phase, where: np.ndarray) -> np.ndarray:
        chosen = where[np.linspace(0, len(where) - 1, min(len(where), _CONTROL_PLACES)).round().astype(int)]
        with bordered(model, "infinite", phase=phase, background=color):
            return step(on_canvases(model, objects[:_CONTROL_OBJECTS], chosen, canvas, color))

    with evaluating(model):
        own = logits(None, everywhere)
        border = logits(None, whole)
        bias = logits("full", whole)
        stride = logits("infinite", between)
        border_control = control("fixed", whole)
        stride_control = control("adaptive", between)
    first = own[0].argmax(1) if labels is None else labels.cpu().numpy()
    return Sensitivity(
        positions=everywhere,
        answers=own.argmax(2),
        probability=_softmax(own)[:, np.arange(len(objects)), first],
        stride_px=strides,
        canvas=(int(canvas[0]), int(canvas[1])),
        all_places=effect(own, seed),
        border=effect(border, seed),
        bias=effect(bias, seed),
        stride=effect(stride, seed),
        border_control=effect(border_control, seed),
        stride_control=effect(stride_control, seed),
    )


def effect(logits: np.ndarray, seed: int = 0) -> Effect:
    """Compare logits (positions, objects, classes) with those at the first position."""
    here, others = logits[:1], logits[1:]
    if not len(others):
        return Effect(0.0, 0.0, 0.0, 0.0, 0.0, 0)
    flipped = others.argmax(2) != here.argmax(2)
    low, high = over_objects(flipped.mean(0), seed)
    first = here[0].argmax(1)
    probability = _softmax(logits)[:, np.arange(logits.shape[1]), first]
    largest = max(float(np.abs(here).max()), float(np.finfo(np.float64).tiny))
    return Effect(
        flips=float(flipped.mean()),
        low=low,
        high=high,
        change=float(np.abs(others - here).max()) / largest,
        drop=float((probability[:1] - probability[1:]).mean()),
        places=len(others),
    )


def _logits(
    model: nn.Module,
    objects: Tensor,
    where: np.ndarray,
    canvas: tuple[int, int],
    background: Background,
    under: str | None,
) -> np.ndarray:
    device = next((parameter.device for parameter in model.parameters()), objects.device)

    def run() -> Tensor:
        return place(model, objects.to(device), torch.as_tensor(where), canvas, background)

    if under is None:
        found = run()
    elif under == "full":
        with bordered(model, "full"):
            found = run()
    else:
        own = conversion_of(model)
        with bordered(model, "infinite", phase="fixed" if own is None else own.border.phase, background=background):
            found = run()
    if found.ndim != 3:
        raise ImageError(
            f"Expected logits of shape (images, classes) but got an output of shape {tuple(found.shape[1:])} from "
            f"{type(model).__name__}."
        )
    return found.double().cpu().numpy()


def on_canvases(
    model: nn.Module, objects: Tensor, where: np.ndarray, canvas: tuple[int, int], color: float | Sequence[float]
) -> np.ndarray:
    """Return what `place` returns, logits (positions, objects, classes), from every canvas run whole."""
    device = next((parameter.device for parameter in model.parameters()), objects.device)
    empty = torch.as_tensor(color, dtype=objects.dtype).reshape(1, -1, 1, 1)
    height, width = objects.shape[2:]
    logits: list[Tensor] = []
    for row, column in where.tolist():
        images = empty.expand(len(objects), objects.shape[1], *canvas).clone()
        images[:, :, row : row + height, column : column + width] = objects
        logits.append(model(images.to(device)).double().cpu())
    return torch.stack(logits).numpy()


def _color(background: Background) -> Any:
    if isinstance(background, Tensor) and background.ndim == 3:
        return cast(Any, background.mean((1, 2)).tolist())  # pyright: ignore[reportUnknownMemberType]
    return background


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
