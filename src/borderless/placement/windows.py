"""Objects on windows of the maps of an empty canvas, each group by itself, then all of them on whole maps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from borderless.engine.signal import Signal
from borderless.placement.bundle import BundledSignal
from borderless.placement.replay import ReplayedSignal, placing
from borderless.placement.rows import checked, rows_apart
from borderless.placement.scene import Position, Scene
from borderless.placement.single_pass import SinglePass
from borderless.placement.switch import Arrangement
from borderless.placement.tape import Tape


@dataclass(frozen=True)
class Windows:
    """Passes over the objects of a scene, along `tape`, as `choice` arranges them. whole: the output of the canvas."""

    model: nn.Module
    run: SinglePass
    scene: Scene
    tape: Tape
    choice: Arrangement
    whole: Tensor

    def outputs(self, positions: list[Position], budget: int) -> Iterator[tuple[list[int], Tensor]]:
        """Yield numbers of `positions` and their outputs, (numbers, patches, *output), pass by pass.

        Raises:
            RowsMixed: A window without an object, which runs among the first ones, has not the output of the canvas.
        """
        count = self.scene.count
        most = self.choice.batch(budget)
        step = max(1, most // count)
        queue = [(number, box, key) for key, group in enumerate(self.choice.groups) for number, box in group]
        for first in range(0, len(queue), step):
            now = queue[first : first + step]
            samples = [(positions[number], box, key, n) for number, box, key in now for n in range(count)]
            found = []
            for start in range(0, len(samples), most):
                some = samples[start : start + most]
                is_first = first == start == 0
                found.append(self._first_pass(some) if is_first and len(some) > 1 else self._pass(some))
            yield [number for number, _, _ in now], torch.cat(found).unflatten(0, (len(now), count))

    def _first_pass(self, samples: Sequence[Any]) -> Tensor:
        middle = len(samples) // 2
        position, box, key, _ = samples[middle]
        outputs = self._pass([*samples[:middle], (position, box, key, None), *samples[middle:]])
        return rows_apart(outputs, middle, self.whole)

    def _pass(self, samples: Sequence[Any]) -> Tensor:
        """Run windows before the step at which they end, then whole maps."""
        parts, switch = [], self.choice.switch
        for _, some in groupby(samples, key=lambda sample: sample[2]):
            group = list(some)
            boxes = [box for _, box, _, _ in group]
            start = tuple(a for a, _ in boxes[0])
            offsets = tuple(tuple(a - q for (a, _), q in zip(box, start, strict=True)) for box in boxes)
            scope = placing(self.tape, self.model, offsets if any(any(o) for o in offsets) else None, switch)
            drawn = [None if n is None else (position, n) for position, _, _, n in group]
            parts.append((self.scene.drawn(drawn, boxes), start, scope))

        def images(_: Tensor) -> Signal:
            signals = [ReplayedSignal.from_objects(*part) for part in parts]
            if len(signals) == 1:
                return signals[0]
            scope = placing(self.tape, self.model, None, switch)
            scope.samples = len(samples)
            return BundledSignal.of(signals, scope)

        empty = self.scene.empty
        return checked(self.run(images, empty.expand(len(samples), *empty.shape[1:])), len(samples))
