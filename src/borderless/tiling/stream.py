"""A network evaluated chunk after chunk along one axis, equal to the network on the whole input.

Every call of the model's keeps the cells that its next outputs read (`carry`), so nothing is computed twice, and what is
kept does not grow with time. Shapes: chunks (N, C, *space).
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from math import lcm
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from borderless.conversion import attached, check_convertible, conversion_of
from borderless.engine.border import Border
from borderless.engine.inputs import arguments_named
from borderless.engine.naming import describe
from borderless.engine.outputs import materialized, ordinary, release
from borderless.errors import BorderError, ImageError, StreamError
from borderless.tiling.carry import Call, Rim
from borderless.tiling.gather import Alone
from borderless.tiling.part import PartEdge
from borderless.tiling.stream_pass import Chunk, StreamPass, decided_cells, place_of
from borderless.tiling.timing import Step, lags

# While its length is not known, a model sees one that is a multiple of this, and longer than all that has come.
_MULTIPLE = 2**16 * 315
# What is more than such a multiple, to find out whether the model pads by its length.
_REMAINDERS = (1, 2, 7)


class Stream:
    """Evaluate `model` chunk by chunk: all outputs together equal those of the whole input.

    The model, ordinary or converted, runs with its own code and is left as it is; batch norms must be in evaluation
    mode. It runs without gradients.

    Args:
        model: Takes (N, C, *space) as its first argument.
        axis: Of the input, along which chunks come: -1 for time of (N, C, T), or columns; -2 for rows of (N, C, H, W);
            2 for time of clips (N, C, T, H, W).
        length: How many samples will come in all, if that is known. If it is not, `push(chunk, last=True)` says where
            the stream ends; models are refused whose padding depends on the length.
        multiple: The length is promised to be a multiple of it: of the total stride, say, for a U-Net that resizes to
            the size of its skip connections.
        args: Further arguments of the model, the same for all chunks.
        kwargs: Further keyword arguments.

    Raises:
        NotCausal: From `push`: the model reads all of the axis (global pools, group norm, attention …); named.
        UnsupportedOperation: From `push`: a function has no rule, or needs to know the length; named.
        StreamError: From `push`: a chunk of other sizes than those before, after the end, or an empty first one.
        BorderError: The model is converted to an adaptive phase, which the whole input chooses.

    Example:
        >>> import torch, borderless as bl
        >>> model = torch.nn.Conv1d(1, 1, 5, padding=2)
        >>> signal, stream = torch.randn(1, 1, 100), bl.Stream(model)
        >>> parts = [stream.push(signal[..., :30]), stream.push(signal[..., 30:31]), stream.push(signal[..., 31:], True)]
        >>> [part.shape[-1] for part in parts], stream.latency
        ([28, 1, 71], 2)
        >>> torch.allclose(torch.cat(parts, -1), model(signal), atol=1e-6)
        True
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        axis: int = -1,
        length: int | None = None,
        multiple: int = 1,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        check_convertible(model)
        for name, value in (("length", length), ("multiple", multiple)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise StreamError(f"Expected {name} to be a number of samples, 1 or more, but got {value!r}")
        converted = conversion_of(model)
        border = Border("zero") if converted is None else converted.border
        if border.is_adaptive:
            raise BorderError(
                f"Expected a model with fixed strides but got one converted to {border!r}, whose phase the energy of "
                "the whole input chooses; use phase='fixed'"
            )
        self.model, self.axis, self.length, self.multiple = model, axis, length, multiple
        self._args, self._kwargs = tuple(args), dict(kwargs or {})
        self._edge = PartEdge(border)
        self._entering: tuple[StreamPass, int, int, int] | None = None  # the pass, and where on which axis of what size
        self._starts: dict[_Like, list[Any]] = {}
        self._waits: dict[_Like, tuple[int, Any]] = {}
        self._example: _Like | None = None
        self._like: _Like | None = None
        self.reset()

    def reset(self) -> None:
        """Forget all that has come: the next chunk is the first one of another stream."""
        self._at = self._chunks = 0
        self._is_over = False
        self._kept: list[Call] = []
        self._example, self._like = self._like or self._example, None

    def push(self, chunk: Tensor, last: bool = False) -> Any:
        """Return the outputs that are decided now and were not before.

        Args:
            chunk: (N, C, *space), of any number of samples along the stream's axis; 0 if no more come and the one
                before was the last.
            last: No chunk comes after this one. With a known length the chunk that completes it is the last.

        Returns:
            What the model returns, with the decided cells of each map, none along the axis where none is.
        """
        along = self._checked(chunk)
        start, stop = self._at, self._at + chunk.shape[along]
        if self.length is not None and stop > self.length:
            raise StreamError(f"Expected {self.length} samples in all but got {stop}: {stop - start} after {start}")
        last = last or stop == self.length
        if last and (self.length or stop) != stop:
            raise StreamError(f"Expected {self.length} samples in all but got the last chunk after {stop}")
        if last and stop % self.multiple:
            raise StreamError(f"Expected a multiple of {self.multiple} samples in all but got {stop}")
        like = self._like or _Like.of(chunk, along)
        if self.length is None and like not in self._starts:
            self._starts[like] = self._checked_starts(chunk, along)
        whole = self.length or (stop if last else self._endless(stop))
        before = [_copied(call) for call in self._kept]
        try:
            output = self._run(chunk, whole, along, self._kept, self._starts.get(like), last=last)
        except BaseException:  # whatever it was, the stream is where it was
            self._kept = before
            raise
        self._at, self._chunks, self._is_over, self._like = stop, self._chunks + 1, last, like
        if last:
            self._kept = []
        return ordinary(output, _decided)

    def prepare(self, example: Tensor) -> "Stream":
        """Let `latency` be known before the first chunk: by an `example` of one, which is not taken in."""
        self._example = _Like.of(example, self._checked(example))
        return self

    @property
    def latency(self) -> int:
        """How many samples later than due the latest output comes; 0 for a causal network.

        Of a map with r outputs a sample of the input (r = 1/4 after a stride of 4), output j stands for the samples up
        to (j + 1) / r and is due when these are in. So after t samples all outputs before r·(t - latency) have come,
        and there is a t, at the start of the stream or later, after which no more have. Of several outputs the largest.
        """
        return self._waiting()[0]

    @property
    def latencies(self) -> Any:
        """The latency of each output: what the model returns, with a number in the place of each map."""
        return self._waiting()[1]

    @property
    def nbytes(self) -> int:
        """How many bytes of cells are kept for the chunks to come."""
        cells = [rim.cells for call in self._kept for rims in call.rims for rim in rims if rim.cells is not None]
        return sum(kept.numel() * kept.element_size() for kept in cells)

    def state_dict(self) -> dict[str, Any]:
        """Return all that `load_state_dict` needs to go on in another process: numbers, texts and tensors."""
        return {
            "axis": self.axis,
            "length": self.length,
            "multiple": self.multiple,
            "samples": self._at,
            "chunks": self._chunks,
            "is_over": self._is_over,
            "like": None if self._like is None else {**self._like._asdict(), "dtype": str(self._like.dtype)},
            "calls": [
                {
                    "function": describe(call.function),
                    "starts": [dict(starts) for starts in call.starts],
                    "rims": [[{"cells": rim.cells, "box": rim.box} for rim in rims] for rims in call.rims],
                }
                for call in self._kept
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, of a stream of the same model with the same axis and length.

        Raises:
            StreamError: It was taken of a stream along another axis, or of another length. A state of another model is
                refused by the next `push`, unless that calls the same functions.
        """
        if not isinstance(state, dict) or not {"axis", "length", "multiple", "samples", "calls"} <= state.keys():
            raise StreamError("Expected what Stream.state_dict() returned but got something else")
        for name in ("axis", "length", "multiple"):
            if state[name] != getattr(self, name):
                raise StreamError(
                    f"Expected the state of a stream with {name}={getattr(self, name)} but got one with {state[name]}"
                )
        self._at, self._chunks, self._is_over = state["samples"], state["chunks"], state["is_over"]
        like = state["like"]
        if like is not None:
            dtype = getattr(torch, like["dtype"].removeprefix("torch."))
            like = _Like(tuple(like["sizes"]), dtype, like["along"], like["device"])
        self._like = like
        self._kept = [
            Call(
                call["function"],
                [dict(starts) for starts in call["starts"]],
                [
                    [Rim(axis, rim["cells"], tuple(map(tuple, rim["box"]))) for axis, rim in enumerate(rims)]
                    for rims in call["rims"]
                ],
            )
            for call in state["calls"]
        ]

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
            cells.step = Step(0, "the input", None, (), (0, length), length)
            scope.steps.append(cells.step)
        return (cells, *args[1:]), kwargs

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """Return the output as it is, with its parts of maps."""
        release(module, lambda signal: signal.window)
        return output

    def _run(
        self,
        chunk: Tensor,
        length: int,
        along: int,
        kept: list[Call],
        starts: list[Any] | None,
        *,
        last: bool = False,
        steps: list[Step] | None = None,
    ) -> Any:
        """Run the model on a chunk of a stream of `length`, the next one after those that filled `kept`."""
        number, start = (self._chunks, self._at) if kept is self._kept else (0, 0)
        place = place_of(along - 2, chunk.ndim - 2, number, last)
        scope = StreamPass(
            self._edge,
            self.model,
            place=place,
            kept=kept,
            exchange=Alone(),
            chunk=number,
            is_last=last,
            starts=starts,
            steps=steps,
        )
        self._entering = scope, start, along, length
        with attached(self.model, self), torch.no_grad():  # pyright: ignore[reportArgumentType]
            with arguments_named(self.model, self._args, self._kwargs):
                output = self.model(chunk, *self._args, **self._kwargs)
        scope.finish()
        return output

    def _checked_starts(self, chunk: Tensor, along: int) -> list[Any]:
        """Return what `StreamPass.starts` holds, having seen that it does not depend on the length of the stream."""
        starts: list[Any] = []
        sample, length = chunk.narrow(along, 0, 1), self._endless(1)
        for remainder in (0, *_REMAINDERS):
            self._run(sample, length + remainder * self.multiple, along, [], starts)
        return starts

    def _waiting(self) -> tuple[int, Any]:
        """Return the latency, and that of each output."""
        like = self._like or self._example
        if like is None:
            raise StreamError(
                "Expected a chunk to have come before the latency is asked for, which depends on what the model does "
                "with it, but got none; push one, or show one with prepare(example)"
            )
        if like not in self._waits:
            sample, steps = torch.zeros(like.sizes, dtype=like.dtype, device=like.device), []
            length = self.length or self._endless(1)
            output = self._run(sample, length, like.along, [], None, steps=steps)
            ends: list[Step] = []
            ordinary(output, lambda signal: ends.append(signal.step) or signal)
            found = lags(ends, self.length)
            largest = max((found[step] for step in ends), default=0)
            self._waits[like] = largest, ordinary(output, lambda signal: found[signal.step])
        return self._waits[like]

    def _endless(self, stop: int) -> int:
        """Return the length that the model sees while nobody knows it, when `stop` samples have come."""
        multiple = lcm(_MULTIPLE, self.multiple)
        return (2 * stop // multiple + 2) * multiple

    def _checked(self, chunk: Tensor) -> int:
        """Return the dimension of `chunk` along which the stream runs."""
        if not isinstance(chunk, Tensor) or chunk.ndim < 3 or not chunk.is_floating_point():
            got = f"{chunk.dtype} of {tuple(chunk.shape)}" if isinstance(chunk, Tensor) else type(chunk).__name__
            raise StreamError(f"Expected a chunk (N, C, *space) in floating point but got {got}")
        along = self.axis + chunk.ndim if self.axis < 0 else self.axis
        if not 2 <= along < chunk.ndim:
            raise StreamError(
                f"Expected axis to be one of space, 2 to {chunk.ndim - 1} of chunks {tuple(chunk.shape)}, or -1 to "
                f"{2 - chunk.ndim}, but got axis={self.axis}"
            )
        if self._is_over:
            raise StreamError("Expected no chunk after the last one but got another; call reset() for a new stream")
        if chunk.requires_grad and torch.is_grad_enabled():
            raise StreamError(
                "Expected a chunk without gradients, which a stream has none of, but got one that requires them; use "
                "chunk.detach(), or torch.no_grad() around"
            )
        like = _Like.of(chunk, along)
        if 0 in like.sizes or (self._like is None and not chunk.shape[along]):
            raise StreamError(f"Expected a first chunk with samples but got an empty one, {tuple(chunk.shape)}")
        if self._like is not None and like != self._like:
            raise StreamError(
                f"Expected a chunk like those before, {self._like}, but got {like}; only the size along the stream's "
                "axis may change"
            )
        return along


class _Like(NamedTuple):
    """What all chunks of a stream have in common. sizes: of a chunk of one sample. along: its axis."""

    sizes: tuple[int, ...]
    dtype: torch.dtype
    along: int
    device: str

    @classmethod
    def of(cls, chunk: Tensor, along: int) -> "_Like":
        sizes = tuple(1 if axis == along else n for axis, n in enumerate(chunk.shape))
        return cls(sizes, chunk.dtype, along, str(chunk.device))

    def __str__(self) -> str:
        sizes = ["any" if axis == self.along else str(n) for axis, n in enumerate(self.sizes)]
        return f"({', '.join(sizes)}) of {self.dtype} on {self.device}"


def _copied(call: Call) -> Call:
    """A copy that the next chunk leaves as it is: it replaces cells and writes into none."""
    rims = [[copy(rim) for rim in rims] for rims in call.rims]
    return replace(call, starts=[dict(starts) for starts in call.starts], rims=rims)


def _decided(signal: Any) -> Tensor:
    """Return the cells of the frame that a chunk decides of an output."""
    whole, frame = signal.whole, signal.frame_box
    if any(a > 0 or b < n for (a, b), (_, n) in zip(whole, frame, strict=True)):
        raise ImageError(
            f"Expected an output that is known on its whole frame {frame} but got one known on {whole}, as the border "
            f"{signal.border.name!r} keeps it; use another border"
        )
    return materialized(decided_cells(signal))
