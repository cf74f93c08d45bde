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
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from borderless.conversion import bordered, conversion_of
from borderless.engine.border import Phase
from borderless.errors import ImageError
from borderless.measures.batches import check_images
from borderless.measures.positions import between_strides, on_grid, whole_strides_apart
from borderless.measures.prediction_changes import Effect, effect, softmax
from borderless.placement.place import place
from borderless.runtime.evaluation import evaluating

Background = float | Sequence[float] | Tensor
_CONTROL_PLACES, _CONTROL_OBJECTS = 5, 4


@dataclass(frozen=True)
class Sensitivity:
    """Dependence of predictions on the position; the effects are named as in the module's text.

    Attributes:
        positions: (P, 2), all positions under the model's own border, the middle first.
        answers: (P, N), the predicted classes.
        probability: (P, N), of the class that is predicted at the middle, or of the label.
        stride_px: The model's total stride (rows, columns).
        canvas: Size of the canvas (height, width).
        object_px: Size of the objects (height, width).
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
    object_px: tuple[int, int]
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
    cause_objects: int | None = None,
    progress: Callable[[float], Any] | None = None,
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
        cause_objects: Number of objects that are used to tell the causes apart; by default all.
        progress: Called with the share that is done, in [0, 1].

    Raises:
        ImageError: The objects do not fit on the canvas, or the model returns no logits.
    """
    check_images(objects)
    room = tuple(n - o for n, o in zip(canvas, objects.shape[2:], strict=True))
    if min(room) < 1:
        raise ImageError(
            f"Expected objects smaller than the canvas of {tuple(canvas)} pixels, to move them, but got "
            f"{tuple(objects.shape[2:])}; choose a larger canvas or smaller objects."
        )
    strides = (int(stride_px[0]), int(stride_px[1]))
    across = max(2, round(places**0.5))
    everywhere = on_grid(room, across)
    whole = whole_strides_apart(room, strides, across)
    between = between_strides(room, strides, places, seed)
    color = _color(background)
    some = objects[:cause_objects]
    tell = _Shares(progress)

    def logits(under: str | None, things: Tensor, where: np.ndarray) -> np.ndarray:
        around = background if under is None else 0.0 if under == "full" else color
        return _logits(model, things, where, canvas, around, under, tell.within(under or "own"))

    def control(phase: Phase, where: np.ndarray) -> np.ndarray:
        chosen = where[np.linspace(0, len(where) - 1, min(len(where), _CONTROL_PLACES)).round().astype(int)]
        with bordered(model, "infinite", phase=phase, background=color):
            found = on_canvases(model, objects[:_CONTROL_OBJECTS], chosen, canvas, color, tell.within(phase))
        return found

    with evaluating(model):
        own = logits(None, objects, everywhere)
        border = logits(None, some, whole)
        bias = logits("full", some, whole)
        stride = logits("infinite", some, between)
        border_control = control("fixed", whole)
        stride_control = control("adaptive", between)
    first = own[0].argmax(1) if labels is None else labels.cpu().numpy()
    return Sensitivity(
        positions=everywhere,
        answers=own.argmax(2),
        probability=softmax(own)[:, np.arange(len(objects)), first],
        stride_px=strides,
        canvas=(int(canvas[0]), int(canvas[1])),
        object_px=(int(objects.shape[2]), int(objects.shape[3])),
        all_places=effect(own, seed),
        border=effect(border, seed),
        bias=effect(bias, seed),
        stride=effect(stride, seed),
        border_control=effect(border_control, seed),
        stride_control=effect(stride_control, seed),
    )


class _Shares:
    """Turns the progress of several runs, each with a share of the whole, into one share."""

    _COSTS: ClassVar = (("own", 1), ("own", 1), ("full", 2), ("infinite", 5), ("fixed", 3), ("adaptive", 4))

    def __init__(self, progress: Callable[[float], Any] | None) -> None:
        self._progress, self._run, self._before = progress, 0, 0

    def within(self, name: str) -> Callable[[int, int], Any]:
        """Return what the next run calls with how much of it is done and how much there is."""
        total = sum(cost for _, cost in self._COSTS)
        before, (expected, cost) = self._before, self._COSTS[self._run]
        assert name == expected
        self._run, self._before = self._run + 1, before + cost

        def told(done: int, of: int) -> None:
            if self._progress is not None:
                self._progress((before + cost * done / max(of, 1)) / total)

        return told


def on_photographs(
    model: nn.Module,
    objects: Tensor,
    where: np.ndarray,
    photographs: Tensor,
    progress: Callable[[int, int], Any] | None = None,
) -> np.ndarray:
    """Return logits (positions, objects, classes), each object on a photograph of its own.

    Args:
        model: Returns logits (N, classes).
        objects: (N, C, h, w).
        where: (P, 2), positions.
        photographs: (N, C, H, W).
        progress: Called with the number of objects done, and of all.
    """
    device = next((parameter.device for parameter in model.parameters()), objects.device)
    found: list[np.ndarray] = []
    with evaluating(model):
        for i, (one, photograph) in enumerate(zip(objects.to(device), photographs.to(device), strict=True)):
            logits = place(model, one[None], torch.as_tensor(where), photograph.shape[1:], photograph)
            found.append(logits.double().cpu().numpy())
            if progress is not None:
                progress(i + 1, len(objects))
    return np.concatenate(found, axis=1)


def _logits(
    model: nn.Module,
    objects: Tensor,
    where: np.ndarray,
    canvas: tuple[int, int],
    background: Background,
    under: str | None,
    progress: Callable[[int, int], Any],
) -> np.ndarray:
    device = next((parameter.device for parameter in model.parameters()), objects.device)

    def run() -> Tensor:
        return place(model, objects.to(device), torch.as_tensor(where), canvas, background, progress=progress)

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
            f"Expected logits (images, classes) from {type(model).__name__} but got shape {tuple(found.shape[1:])}; "
            "put a module around the model that returns logits."
        )
    return found.double().cpu().numpy()


def on_canvases(
    model: nn.Module,
    objects: Tensor,
    where: np.ndarray,
    canvas: tuple[int, int],
    color: float | Sequence[float],
    progress: Callable[[int, int], Any] | None = None,
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
        if progress is not None:
            progress(len(logits), len(where))
    return torch.stack(logits).numpy()


def _color(background: Background) -> Any:
    if isinstance(background, Tensor) and background.ndim == 3:
        return cast(Any, background.mean((1, 2)).tolist())  # pyright: ignore[reportUnknownMemberType]
    return background
