"""Position sensitivity: does the prediction change with an object's position, and is border, bias or stride the cause?

An object is evaluated at many positions of a canvas, through `place`. Three effects are separated by removing one cause
at a time, exactly:

- border: positions a whole number of total strides apart, under the model's original padding. Strides do not
  distinguish these; under `infinite` the same positions give the same output, which is measured too, as the control.
- bias: the same positions under `full`, which crops nothing but pads with 0 where the network's response to the
  background is not 0. Without a bias (or a normalization that acts like one) `full` gives the same outputs.
- stride: positions between whole strides, under `infinite`, which has no border, with the model's own phase. With an
  adaptive phase these give the same output as well: the second control.

Where outputs must be equal, `place` computes them in one run, which would prove nothing. So the controls run every
canvas whole, for some of the objects and positions.

What counts as a change is up to a `OutputComparison`: of a classifier, another class.

Shapes: objects (N, C, h, w); positions (P, 2) of their upper left pixels; values (P, N, ...), read by a comparison.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from borderless.conversion import Output, bordered, conversion_of
from borderless.engine.border import BorderName, Phase
from borderless.errors import ImageError
from borderless.measures.batches import check_images
from borderless.measures.comparisons import CLASSES, Compared, OutputComparison, joined
from borderless.measures.object_outputs import Background, canvases, device_of, on_canvases, snapped
from borderless.measures.positions import between_strides, on_grid, whole_strides_apart
from borderless.measures.prediction_changes import Effect, effect_of
from borderless.placement.place import place
from borderless.runtime.evaluation import evaluating

_CONTROL_POSITIONS, _CONTROL_OBJECTS = 5, 4


@dataclass(frozen=True)
class Sensitivity:
    """Dependence of predictions on the position; the effects are named as in the module's text.

    Attributes:
        positions: (P, 2), all positions under the model's own border, the middle first.
        differs: (P, N), how much each output differs from that at the middle, in the measure of the comparison.
        classes: (P, N), the predicted classes; None of an output without classes.
        probability: (P, N), of the class that is predicted at the middle, or of the label; None without classes.
        stride_px: The model's total stride (rows, columns).
        canvas: Size of the canvas (height, width).
        object_px: Size of the objects (height, width).
        all_positions: All positions, under the model's own border.
        border: Positions whole strides apart.
        bias: The same positions under `full`; without objects where a detector finds none of them on a canvas of 0.
        stride: Positions between strides under `infinite`.
        border_control: What remains of `border` under `infinite`.
        stride_control: What remains of `stride` with an adaptive phase.
    """

    positions: np.ndarray
    differs: np.ndarray
    classes: np.ndarray | None
    probability: np.ndarray | None
    stride_px: tuple[int, int]
    canvas: tuple[int, int]
    object_px: tuple[int, int]
    all_positions: Effect
    border: Effect
    bias: Effect
    stride: Effect
    border_control: Effect
    stride_control: Effect

    @property
    def worst(self) -> tuple[int, int]:
        """The position with the lowest mean probability, or else with the largest mean difference."""
        worst = (self.differs if self.probability is None else -self.probability).mean(1).argmax()
        row, column = self.positions[worst]
        return int(row), int(column)


def sensitivity(
    model: nn.Module,
    objects: Tensor,
    canvas: tuple[int, int],
    stride_px: Sequence[int],
    *,
    labels: Tensor | None = None,
    background: Background = 0.0,
    position_count: int = 49,
    seed: int = 0,
    cause_objects: int | None = None,
    comparison: OutputComparison = CLASSES,
    body: nn.Module | None = None,
    batch_size: int = 8,
    progress: Callable[[float], Any] | None = None,
) -> Sensitivity:
    """Evaluate `model`, as it is, on `objects` at positions of a canvas, and separate what makes predictions differ.

    Args:
        model: Returns what `comparison` reads, by default logits (N, classes).
        objects: (N, C, h, w).
        canvas: Size of the canvas (height, width).
        stride_px: The model's total stride along each axis, as `explain` gives it.
        labels: The right classes (N,); by default the class that is predicted at the middle.
        background: Value of the canvas, as for `place`; under `infinite` its color (of an image: the mean), and under
            `full` 0, which is what that pads with.
        position_count: Approximate number of positions, from edge to edge.
        seed: Seed of the positions between strides, and of the resampling for the intervals.
        cause_objects: Number of objects that are used to separate the causes; by default all.
        comparison: Says what the outputs at two positions have in common.
        body: The part of `model` that other borders are put under; by default all of it.
        batch_size: Canvases per pass, where an output has a cell for each part of the image.
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
    across = max(2, round(position_count**0.5))
    color = _color(background)
    tell = _Shares(progress)
    run = _Run(model, model if body is None else body, canvas, background, color, comparison, batch_size)
    with evaluating(model):
        step = run.step(objects)
        everywhere = snapped(on_grid(room, across), step)
        whole = snapped(whole_strides_apart(room, strides, across), step)
        between = snapped(between_strides(room, strides, position_count, seed), step)
        some = objects[:cause_objects]
        own = run(None, objects, everywhere, tell.within("own"))
        border = run(None, some, whole, tell.within("own"))
        bias = run("full", some, whole, tell.within("full"))
        stride = run("infinite", some, between, tell.within("infinite"))
        border_control = run.control("fixed", objects, whole, tell.within("fixed"))
        stride_control = run.control("adaptive", objects, between, tell.within("adaptive"))
    return Sensitivity(
        positions=everywhere,
        differs=own.differs,
        classes=own.classes,
        probability=own.probability(None if labels is None else labels.cpu().numpy()),
        stride_px=strides,
        canvas=(int(canvas[0]), int(canvas[1])),
        object_px=(int(objects.shape[2]), int(objects.shape[3])),
        all_positions=effect_of(own, seed),
        border=effect_of(border, seed),
        # On a canvas of 0 a detector may find nothing, where it does on one of the background.
        bias=effect_of(bias, seed) if bias.differs.shape[1] else Effect(0.0, 0.0, 0.0, 0.0, 0.0, 0, 0),
        stride=effect_of(stride, seed),
        border_control=effect_of(border_control, seed),
        stride_control=effect_of(stride_control, seed),
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


@dataclass(frozen=True)
class _Run:
    """Evaluates a model on objects at positions of a canvas, and compares its outputs with those at the first."""

    model: nn.Module
    body: nn.Module
    canvas: tuple[int, int]
    background: Background
    color: Any
    comparison: OutputComparison
    batch_size: int

    @property
    def _output(self) -> Output:
        """Kind of the body's output: with Signals, the rest of the model, such as a detector's heads, goes along."""
        return "frame" if self.body is self.model else "signal"

    def step(self, objects: Tensor) -> tuple[int, int]:
        """Return the steps in pixels at which outputs can be read exactly."""
        if not self.comparison.is_dense:
            return 1, 1
        image = canvases(objects[:1], np.array([[0, 0]]), self.canvas, self.color)
        return self.comparison.step(self.model(image.to(device_of(self.model, objects))), self.canvas)

    def __call__(
        self, under: BorderName | None, objects: Tensor, where: np.ndarray, progress: Callable[[int, int], Any]
    ) -> Compared:
        """Run the model as it is, or `under` another border."""
        around = self.background if under is None else 0.0 if under == "full" else self.color
        if under is None:
            return self._compared(objects, where, around, progress)
        own = conversion_of(self.body)
        phase = "fixed" if own is None or under == "full" else own.border.phase
        options: dict[str, Any] = {} if under == "full" else {"phase": phase, "background": around}
        with bordered(self.body, under, output=self._output, **options):
            return self._compared(objects, where, around, progress)

    def _compared(
        self, objects: Tensor, where: np.ndarray, around: Background, progress: Callable[[int, int], Any]
    ) -> Compared:
        if self.comparison.is_dense:
            return self._on_canvases(objects, where, around, progress)
        device = device_of(self.model, objects)
        found = place(self.model, objects.to(device), torch.as_tensor(where), self.canvas, around, progress=progress)
        return self.comparison.compare(found.double().cpu().numpy())

    def control(
        self, phase: Phase, objects: Tensor, where: np.ndarray, progress: Callable[[int, int], Any]
    ) -> Compared:
        """Run every canvas whole without a border, for some objects and positions."""
        chosen = where[np.linspace(0, len(where) - 1, min(len(where), _CONTROL_POSITIONS)).round().astype(int)]
        with bordered(self.body, "infinite", phase=phase, background=self.color, output=self._output):
            return self._on_canvases(objects[:_CONTROL_OBJECTS], chosen, self.color, progress)

    def _on_canvases(
        self, objects: Tensor, where: np.ndarray, around: Background, progress: Callable[[int, int], Any]
    ) -> Compared:
        found: list[Compared] = []
        at_once = 1 if self.comparison.is_dense else len(objects)
        for i, start in enumerate(range(0, len(objects), at_once)):
            one = objects[start : start + at_once]
            values = on_canvases(self.model, one, where, self.canvas, around, self.comparison, self.batch_size)
            found.append(self.comparison.compare(values))
            progress(i + 1, len(objects))
        return joined(found)


def _color(background: Background) -> Any:
    if isinstance(background, Tensor) and background.ndim == 3:
        return cast(Any, background.mean((1, 2)).tolist())  # pyright: ignore[reportUnknownMemberType]
    return background
