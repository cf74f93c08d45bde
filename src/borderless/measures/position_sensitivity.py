"""Does the answer change with the place of an object, and what makes it change: the border, the bias, or the stride?

An object stands at many places of a canvas, through `place`. Three effects are told apart by taking away one at a time,
exactly:

- border: places a whole number of total strides apart, under the model's own padding. Strides cannot tell these apart;
  under `infinite` the same places give the same answer, which is measured too, as the control.
- bias: the same places under `full`, which crops nothing but pads with 0 where the network's answer to emptiness is not
  0. Without a bias (or a normalisation that acts like one) `full` gives the same answers.
- stride: places between whole strides, under `infinite`, which has no border, and the model's own phase. With an
  adaptive phase these give the same answer as well: the second control.

Where answers must be equal, `place` gets them in one run, which would prove nothing; so the controls run every canvas
whole, for some of the objects and places.

Shapes: objects (N, C, h, w); positions (P, 2) of their upper left pixels; answers (P, N, classes).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from borderless.conversion import bordered, conversion_of
from borderless.engine.border import Phase
from borderless.errors import ImageError
from borderless.measures.batches import check_images
from borderless.measures.intervals import over_objects
from borderless.placement.place import place
from borderless.runtime.evaluation import evaluating

Background = float | Sequence[float] | Tensor
_CONTROL_PLACES, _CONTROL_OBJECTS = 5, 4


@dataclass(frozen=True)
class Effect:
    """How answers at some places differ from those at the middle one.

    flips: the share of (place, object) pairs whose largest logit is of another class, in [0, 1], with its 95 % interval
    over objects. change: the largest difference of a logit, relative to the largest logit. drop: the mean fall of the
    probability of the class that is largest at the middle. places: how many were compared, besides the middle.
    """

    flips: float
    low: float
    high: float
    change: float
    drop: float
    places: int


@dataclass(frozen=True)
class Sensitivity:
    """positions: (P, 2), all that the model's own border was tried at; the first is the middle. answers: (P, N), the
    class with the largest logit. probability: (P, N), of the class that it is at the middle, or of the label.

    The effects are named as in the module's text; a control is what remains when its leak has been taken away.
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
        """The place with the lowest mean probability."""
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
    """What `model`, as it is, says of `objects` at about `places` places of a `canvas`, and why it differs.

    stride_px: the model's total stride along each axis, as `explain` gives it. labels: the right classes; without them
    the class at the middle stands in. background: of the canvas, as for `place`; under `infinite` its colour (of an
    image: the mean), and under `full` 0, which is what it pads with. Positions cover the canvas from edge to edge;
    those for the strides are drawn by `seed`. The model returns logits (N, classes). Raises ImageError for objects that
    do not fit on the canvas.
    """
    check_images(objects)
    room = tuple(n - o for n, o in zip(canvas, objects.shape[2:], strict=True))
    if min(room) < 1:
        raise ImageError(
            f"got objects of {tuple(objects.shape[2:])} pixels for a canvas of {tuple(canvas)}; needed: smaller "
            "objects, which can stand at several places"
        )
    strides = (int(stride_px[0]), int(stride_px[1]))
    middle = tuple(n // 2 for n in room)
    across = max(2, round(places**0.5))
    own_grid = _with_first(middle, _grid([np.linspace(0, n, across).round().astype(int) for n in room]))
    axes = [_whole_strides(m, n, s, across) for m, n, s in zip(middle, room, strides, strict=True)]
    whole_grid = _with_first(middle, _grid(axes))
    between = _with_first(middle, _between(middle, room, strides, places, seed))
    colour = _colour(background)
    steps = 6
    done = 0

    def answers(under: str | None, where: np.ndarray) -> np.ndarray:
        nonlocal done
        around = {None: background, "full": 0.0}.get(under, colour)
        found = _answers(model, objects, where, canvas, around, under)
        done += 1
        if progress is not None:
            progress(done, steps)
        return found

    def control(phase: Phase, where: np.ndarray) -> np.ndarray:
        nonlocal done
        chosen = where[np.linspace(0, len(where) - 1, min(len(where), _CONTROL_PLACES)).round().astype(int)]
        with bordered(model, "infinite", phase=phase, background=colour):
            found = on_canvases(model, objects[:_CONTROL_OBJECTS], chosen, canvas, colour)
        done += 1
        if progress is not None:
            progress(done, steps)
        return found

    with evaluating(model):
        everywhere = answers(None, own_grid)
        whole = answers(None, whole_grid)
        full = answers("full", whole_grid)
        phases = answers("infinite", between)
        endless = control("fixed", whole_grid)
        adaptive = control("adaptive", between)
    first = everywhere[0].argmax(1) if labels is None else labels.cpu().numpy()
    probability = _softmax(everywhere)[:, np.arange(len(objects)), first]
    return Sensitivity(
        positions=own_grid,
        answers=everywhere.argmax(2),
        probability=probability,
        stride_px=strides,
        canvas=(int(canvas[0]), int(canvas[1])),
        all_places=effect(everywhere, seed),
        border=effect(whole, seed),
        bias=effect(full, seed),
        stride=effect(phases, seed),
        border_control=effect(endless, seed),
        stride_control=effect(adaptive, seed),
    )


def effect(answers: np.ndarray, seed: int = 0) -> Effect:
    """Answers (places, objects, classes) compared with those at the first place."""
    here, others = answers[:1], answers[1:]
    if not len(others):
        return Effect(0.0, 0.0, 0.0, 0.0, 0.0, 0)
    flipped = others.argmax(2) != here.argmax(2)
    low, high = over_objects(flipped.mean(0), seed)
    first = here[0].argmax(1)
    probability = _softmax(answers)[:, np.arange(answers.shape[1]), first]
    largest = max(float(np.abs(here).max()), float(np.finfo(np.float64).tiny))
    return Effect(
        flips=float(flipped.mean()),
        low=low,
        high=high,
        change=float(np.abs(others - here).max()) / largest,
        drop=float((probability[:1] - probability[1:]).mean()),
        places=len(others),
    )


def _answers(
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
            f"got answers of shape {tuple(found.shape[1:])} from {type(model).__name__}; needed: logits of shape "
            "(images, classes)"
        )
    return found.double().cpu().numpy()


def on_canvases(
    model: nn.Module, objects: Tensor, where: np.ndarray, canvas: tuple[int, int], colour: float | Sequence[float]
) -> np.ndarray:
    """Answers (places, objects, classes) as from `place`, for every canvas run whole."""
    device = next((parameter.device for parameter in model.parameters()), objects.device)
    empty = torch.as_tensor(colour, dtype=objects.dtype).reshape(1, -1, 1, 1)
    height, width = objects.shape[2:]
    answers = []
    for row, column in where.tolist():
        images = empty.expand(len(objects), objects.shape[1], *canvas).clone()
        images[:, :, row : row + height, column : column + width] = objects
        answers.append(model(images.to(device)).double().cpu())
    return torch.stack(answers).numpy()


def _with_first(first: Sequence[int], others: np.ndarray) -> np.ndarray:
    """The place that all are compared with, then the others, each once."""
    rest = [tuple(place) for place in others.tolist() if tuple(place) != tuple(first)]
    return np.array([tuple(first), *dict.fromkeys(rest)])


def _grid(axes: Sequence[Any]) -> np.ndarray:
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)


def _whole_strides(middle: int, room: int, stride: int, most: int) -> list[int]:
    """Offsets a whole number of strides from the middle, from edge to edge, about `most` of them."""
    steps = np.arange(-(middle // stride), (room - middle) // stride + 1)
    chosen = np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int)
    return [int(middle + stride * steps[i]) for i in chosen]


def _between(middle: Sequence[int], room: Sequence[int], strides: Sequence[int], most: int, seed: int) -> np.ndarray:
    """Places less than a stride apart, around the middle; all of them, or `most` drawn ones."""
    axes = []
    for m, n, s in zip(middle, room, strides, strict=True):
        start = max(0, min(m - s // 2, n + 1 - s))
        axes.append(np.arange(start, min(start + s, n + 1)))
    every = _grid(axes)
    if len(every) <= most:
        return every
    return every[np.sort(np.random.default_rng(seed).permutation(len(every))[:most])]


def _colour(background: Background) -> Any:
    if isinstance(background, Tensor) and background.ndim == 3:
        return background.mean((1, 2)).tolist()
    return background


def _softmax(answers: np.ndarray) -> np.ndarray:
    powers = np.exp(answers - answers.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
