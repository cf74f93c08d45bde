"""Run an untouched model on the chunks of a stream: what goes on from one to the next, and which length it sees."""

from copy import copy
from dataclasses import dataclass, field, replace
from hashlib import sha256
from math import lcm
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from borderless.conversion import attached
from borderless.engine.inputs import arguments_named
from borderless.engine.naming import fields_of
from borderless.engine.outputs import ordinary, release
from borderless.partition.gather import Alone
from borderless.partition.part import PartEdge
from borderless.partition.rims import KeptCall
from borderless.partition.stream_pass import Chunk, StreamPass, place_of
from borderless.partition.timing import TimedCall, lags

# While its length is open, the model sees a stream whose length is a multiple of this, longer than all that has come.
_MULTIPLE = 2**12 * 315
# By how much more than such a multiple a stream is to be longer, to find out whether the model's padding depends on it.
_REMAINDERS = (1, 2, 7)


class Like(NamedTuple):
    """The common properties of a stream's chunks. sizes: of one with a single sample. along: the stream's dimension."""

    sizes: tuple[int, ...]
    dtype: torch.dtype
    along: int
    device: str

    @classmethod
    def of(cls, chunk: Tensor, along: int) -> "Like":
        """Return what a chunk has in common with those after it."""
        sizes = tuple(1 if axis == along else n for axis, n in enumerate(chunk.shape))
        return cls(sizes, chunk.dtype, along, str(chunk.device))

    def state(self) -> dict[str, Any]:
        """Return it as numbers and texts."""
        return {**fields_of(self), "dtype": str(self.dtype).removeprefix("torch.")}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "Like":
        """Return what `state` was made of."""
        return cls(tuple(state["sizes"]), getattr(torch, state["dtype"]), state["along"], state["device"])

    def __str__(self) -> str:
        sizes = ["any" if axis == self.along else str(n) for axis, n in enumerate(self.sizes)]
        return f"({', '.join(sizes)}) of {self.dtype} on {self.device}"


@dataclass
class Progress:
    """The progress of a stream, and what the calls of the model keep for the chunks to come."""

    samples: int = 0
    chunks: int = 0
    kept: list[KeptCall] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """The number of bytes of cells that are kept."""
        cells = [rim.cells for call in self.kept for rims in call.rims for rim in rims if rim.cells is not None]
        return sum(kept.numel() * kept.element_size() for kept in cells)

    def copied(self) -> "Progress":
        """Return a copy that the next chunk, which writes into no cells, leaves as it is."""
        calls = [
            replace(
                call,
                starts=[dict(starts) for starts in call.starts],
                rims=[[copy(rim) for rim in rims] for rims in call.rims],
            )
            for call in self.kept
        ]
        return replace(self, kept=calls)

    def state(self) -> dict[str, Any]:
        """Return it as numbers, texts and tensors."""
        return {"samples": self.samples, "chunks": self.chunks, "calls": [call.state() for call in self.kept]}

    @classmethod
    def restored(cls, state: dict[str, Any]) -> "Progress":
        """Return what `state` was made of, where functions are known by their names."""
        return cls(state["samples"], state["chunks"], [KeptCall.restored(call) for call in state["calls"]])


@dataclass
class StreamRunner:
    """A model that runs on the chunks of streams. args, kwargs: what it takes after the chunk.

    length: of all streams; None: open. multiple: what it is a multiple of.
    """

    model: nn.Module
    edge: PartEdge
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    length: int | None
    multiple: int
    images: None = None  # that the conversion of the model names: none, the first argument is the chunk
    # Of an open stream, the operations along its axis, as `StreamPass.starts` holds them.
    _starts: dict[Like, list[Any]] = field(default_factory=dict)
    _entering: tuple[StreamPass, int, int, int] | None = None

    def fingerprint(self) -> str:
        """Return a text that tells models of different kinds, parameters or borders apart."""
        shapes = [(name, tuple(parameter.shape)) for name, parameter in self.model.named_parameters()]
        return sha256(f"{type(self.model).__name__} {self.edge!r} {shapes}".encode()).hexdigest()

    def push(self, chunk: Tensor, like: Like, progress: Progress, last: bool) -> Any:
        """Return what the model gives for a chunk that goes on from `progress`, with parts of maps."""
        if self.length is None and like not in self._starts:
            self._starts[like] = self._starts_of(like)
        stop = progress.samples + chunk.shape[like.along]
        length = self.length or (stop if last else self._unlimited(stop))
        output = self._run(chunk, like.along, progress, length, last=last, starts=self._starts.get(like))
        progress.samples, progress.chunks = stop, progress.chunks + 1
        if last:
            progress.kept = []
        return output

    def lags(self, like: Like) -> tuple[Any, dict[TimedCall, int]]:
        """Return an output of the model, whose maps know the calls that made them, and the latencies of all calls.

        These are the calls that outputs depend on, in their order.
        """
        steps: list[TimedCall] = []
        output = self._run(_sample(like), like.along, Progress(), self.length or self._unlimited(1), steps=steps)
        return output, lags(ends_of(output), self.length)

    def _starts_of(self, like: Like) -> list[Any]:
        """Return the operations along the stream's axis, having seen that they do not depend on its length."""
        starts: list[Any] = []
        for remainder in (0, *_REMAINDERS):
            length = self._unlimited(1) + remainder * self.multiple
            self._run(_sample(like), like.along, Progress(), length, starts=starts)
        return starts

    def _unlimited(self, stop: int) -> int:
        """Return the length that the model sees while it is open, when `stop` samples have come."""
        multiple = lcm(_MULTIPLE, self.multiple)
        return (2 * stop // multiple + 2) * multiple

    def _run(
        self,
        chunk: Tensor,
        along: int,
        progress: Progress,
        length: int,
        *,
        last: bool = False,
        starts: list[Any] | None = None,
        steps: list[TimedCall] | None = None,
    ) -> Any:
        scope = StreamPass(
            self.edge,
            self.model,
            place=place_of(along - 2, chunk.ndim - 2, progress.chunks, last),
            kept=progress.kept,
            exchange=Alone(),
            chunk=progress.chunks,
            is_last=last,
            starts=starts,
            steps=steps,
        )
        self._entering = scope, progress.samples, along, length
        under = attached(self.model, self)  # pyright: ignore[reportArgumentType]
        with under, torch.no_grad(), arguments_named(self.model, self.args, self.kwargs):
            output = self.model(chunk, *self.args, **self.kwargs)
        scope.finish()
        return output

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Make a part of a map of the first argument."""
        assert self._entering is not None
        scope, start, along, length = self._entering
        starts = [start if axis == along else 0 for axis in range(2, args[0].ndim)]
        sizes = [length if axis == along else n for axis, n in enumerate(args[0].shape)][2:]
        cells = Chunk.from_part(args[0], starts, sizes, scope)
        assert isinstance(cells, Chunk)
        cells.along = along - 2
        if scope.steps is not None:
            cells.step = TimedCall(0, "the input", None, (), (0, length), length)
            scope.steps.append(cells.step)
        return (cells, *args[1:]), kwargs

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """Return the output as it is, with its parts of maps."""
        release(module, lambda signal: signal.window)
        return output


def ends_of(output: Any) -> list[TimedCall]:
    """Return the calls that made the maps of an output of `StreamRunner.lags`, in their order."""
    ends: list[TimedCall] = []

    def noted(signal: Any) -> None:
        ends.append(signal.step)

    ordinary(output, noted)
    return ends


def _sample(like: Like) -> Tensor:
    return torch.zeros(like.sizes, dtype=like.dtype, device=like.device)
