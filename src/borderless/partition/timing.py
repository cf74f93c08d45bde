"""When the outputs of a stream come: integers that follow from what each call of a model reads along the stream's axis.

After t samples of the input, a map is known up to a cell that `decided` tells, as it does when the stream runs. An
output of which there are r a sample is due when the input that it stands for is in: output j after ⌈(j + 1) / r⌉
samples. The latency is how many samples later than due the latest output comes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any, NamedTuple

import numpy as np

from borderless.engine.geometry import Interval, Slide, Spread
from borderless.engine.naming import fields_of
from borderless.engine.operations import Interpolation, Mirror, OnMirrored, Operation, decided
from borderless.engine.resizing import Resize
from borderless.errors import UnsupportedOperation

_MOST_SAMPLES = 2**22
_OF_THE_END = ("padding_after", "output_padding", "ceil_mode", "n")


@dataclass(frozen=True, eq=False)
class TimedCall:
    """A call of a model's, along the axis of a stream, or (without sources) the input.

    number: its index in the order of the calls. name: function and module. operation: None: each output reads the same
    cell of all sources. whole: where the whole result is stored. frame: how many outputs the unmodified model has.
    rate: outputs a sample of the input.
    """

    number: int
    name: str
    operation: Operation | None
    sources: "tuple[TimedCall, ...]"
    whole: Interval
    frame: int
    rate: Fraction = Fraction(1)

    def known(self, of_sources: Sequence[np.ndarray]) -> np.ndarray:
        """Return up to which output the result is known where the sources are known up to these cells."""
        if not self.sources:
            raise ValueError("Expected a call with sources but got the input of the stream")
        high = max(source.whole[1] for source in self.sources)
        ends = [np.where(e >= s.whole[1], high, e) for e, s in zip(of_sources, self.sources, strict=True)]
        stops = np.minimum.reduce(ends)
        if self.operation is None:
            return stops
        values, places = np.unique(stops, return_inverse=True)
        return np.array([self._known_of(self.operation, int(stop)) for stop in values])[places]

    def _known_of(self, operation: Operation, stop: int) -> int:
        whole = self.sources[0].whole
        first, stop = decided(operation, (whole[0], stop), whole, self.whole)
        return self.whole[0] if first > self.whole[0] else stop

    def lag(self, known: np.ndarray) -> int:
        """Return how many samples later than due the latest output comes, known up to known[t] after t samples."""
        missing = np.maximum(known[:-1], 0)
        missing[0] = 0
        late = np.arange(1, len(known)) + (missing + 1) * -self.rate.denominator // self.rate.numerator
        return max(0, int(late[missing < self.frame].max(initial=0)))


class OpenEnded(NamedTuple):
    """An operation on an axis of which `end` cells have come and which may go on, or not.

    Cells that stand for those beyond its end are needed wherever that turns out to be.
    """

    operation: Any
    end: int

    def needed(self, outputs: Interval) -> Interval:
        """Return the inputs that an interval of outputs reads, all of which are still to come."""
        first, stop = self.operation.needed(outputs)
        if isinstance(self.operation, Mirror | OnMirrored) and self.end:
            slide = self.operation.operation if isinstance(self.operation, OnMirrored) else self.operation
            steps = slide.stride if isinstance(slide, Slide) else 1
            for end in range(self.end, self.end + steps):  # at later ends the same follows, a step later
                ending = self.operation._replace(n=end)
                last = ending.frame(end)
                if outputs[0] < last:
                    first = min(first, ending.needed((outputs[0], last))[0])
        return first, stop


def reads_up_to(operation: Any, outputs: int) -> int:
    """Return the end of the cells that the first `outputs` read, where none lies beyond the end of the frame."""
    return outputs - operation.padding if isinstance(operation, Mirror) else operation.needed((outputs - 1, outputs))[1]


def rate_of(operation: Operation) -> Fraction:
    """Return how many outputs an input stands for."""
    match operation:
        case OnMirrored():
            return rate_of(operation.operation)
        case Slide():
            return Fraction(1, operation.stride)
        case Spread():
            return Fraction(operation.stride)
        case Interpolation():
            return Fraction(operation.factor)
        case Resize(scale=float(scale)):
            return Fraction(scale).limit_denominator(1000)
        case Resize():
            return Fraction(operation.outputs, operation.n)
        case _:
            return Fraction(1)


def away_from_the_end(operation: Any) -> Any:
    """Return what of an operation decides outputs that are far from the end of an axis."""
    if isinstance(operation, Resize):
        if operation.corners and operation.n != operation.outputs:
            return operation
        by_sizes = operation.scale is None or operation.mode == "area"
        return operation.mode, Fraction(operation.outputs, operation.n) if by_sizes else operation.scale
    if isinstance(operation, OnMirrored):
        return away_from_the_end(operation.operation), operation.mode
    return operation._replace(**{name: 0 for name in _OF_THE_END if name in fields_of(operation)})


def steps_to(outputs: Iterable[TimedCall]) -> list[TimedCall]:
    """Return the calls that `outputs` depend on, in their order."""
    found, waiting = set(), list(outputs)
    while waiting:
        step = waiting.pop()
        if step not in found:
            found.add(step)
            waiting += step.sources
    return sorted(found, key=lambda step: step.number)


def lags(outputs: Sequence[TimedCall], length: int | None) -> dict[TimedCall, int]:
    """Return the latency of each call that `outputs` depend on, in samples of an input of `length`; None: unlimited."""
    steps = steps_to(outputs)
    period = lcm(*(step.rate.denominator for step in steps))
    samples = 256
    while True:
        samples = samples + period if length is None else min(samples + period, length)
        found, has_begun = _lags_of(steps, samples, samples - period)
        if has_begun or samples == length:  # from here on it all repeats with the period
            return found
        samples *= 2
        if samples > _MOST_SAMPLES:
            raise UnsupportedOperation(
                f"Expected a model that begins to give outputs within {_MOST_SAMPLES} samples of a stream but got none "
                "by then"
            )


def _lags_of(steps: Sequence[TimedCall], samples: int, at: int) -> tuple[dict[TimedCall, int], bool]:
    """Return the latencies by the first `samples`, and whether all calls have given an output after `at` of them."""
    uses = dict.fromkeys(steps, 0)
    for step in steps:
        for source in step.sources:
            uses[source] += 1
    known: dict[TimedCall, np.ndarray] = {}
    found, has_begun = {}, True
    for step in steps:
        known[step] = ends = step.known([known[s] for s in step.sources]) if step.sources else np.arange(samples + 1)
        found[step] = step.lag(ends)
        has_begun = has_begun and bool(ends[max(at, 0)] > step.whole[0])
        for source in step.sources:
            uses[source] -= 1
            if not uses[source]:
                del known[source]
    return found, has_begun
