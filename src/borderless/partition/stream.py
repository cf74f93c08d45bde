"""A network evaluated chunk after chunk along one axis, equal to the network on the whole input.

Every call of the model's keeps the cells that its next outputs read (`carry`): nothing is computed twice, and what is
kept does not grow with time. Shapes: chunks (N, C, *space).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from borderless.conversion import check_convertible, conversion_of
from borderless.engine.border import Border
from borderless.engine.outputs import materialized, ordinary
from borderless.errors import BorderError, StreamError, UnsupportedOperation
from borderless.partition.part import PartEdge
from borderless.partition.stream_pass import Chunk, decided_cells
from borderless.partition.stream_runner import Like, Progress, StreamRunner, ends_of
from borderless.partition.timing import steps_to


class Stream:
    """Evaluate `model` chunk by chunk: all outputs together equal those of the whole input.

    The model, ordinary or converted, runs with its own code and is left as it is; batch norms must be in evaluation
    mode. It runs without gradients.

    Args:
        model: Takes ``(N, C, *space)`` as its first argument.
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
        >>> chunks = signal.split([30, 1, 69], -1)
        >>> parts = [stream.push(chunks[0]), stream.push(chunks[1]), stream.push(chunks[2], last=True)]
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
        if converted is not None and converted.images is not None:
            raise StreamError(
                "Expected a model whose first argument is its image, (N, C, *space), but got one converted with "
                "images=…; convert a module that takes the image so"
            )
        if border.is_adaptive:
            raise BorderError(
                f"Expected a model with fixed strides but got one converted to {border!r}, whose phase the energy of "
                "the whole input chooses; use phase='fixed'"
            )
        self.axis, self.length, self.multiple = axis, length, multiple
        self._runner = StreamRunner(model, PartEdge(border), tuple(args), dict(kwargs or {}), length, multiple)
        self._example: Like | None = None
        self._like: Like | None = None
        self._waits: dict[Like, tuple[int, Any]] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all that has come: the next chunk is the first one of another stream."""
        self._progress, self._is_over = Progress(), False
        self._example, self._like = self._like or self._example, None

    def push(self, chunk: Tensor, last: bool = False) -> Any:
        """Return the outputs that this chunk decides.

        Args:
            chunk: ``(N, C, *space)``, of any number of samples along the stream's axis; 0 if no more come and the one
                before was the last.
            last: Whether this is the last chunk. With a known length the chunk that completes it is the last.

        Returns:
            What the model returns, with the decided cells of each map, none along the axis where none is.
        """
        like = self._checked(chunk)
        start = self._progress.samples
        stop = start + chunk.shape[like.along]
        if self.length is not None and stop > self.length:
            raise StreamError(f"Expected {self.length} samples in all but got {stop}: {stop - start} after {start}")
        last = last or stop == self.length
        if last and (self.length or stop) != stop:
            raise StreamError(f"Expected {self.length} samples in all but got the last chunk after {stop}")
        if last and stop % self.multiple:
            raise StreamError(f"Expected a multiple of {self.multiple} samples in all but got {stop}")
        before = self._progress.copied()
        try:
            output = ordinary(self._runner.push(chunk, like, self._progress, last), _decided)
        except BaseException:  # whatever it was, the stream is where it was
            self._progress = before
            raise
        self._is_over, self._like = last, like
        return output

    def prepare(self, example: Tensor) -> "Stream":
        """Make `latency` known before the first chunk, by an `example` of one, which is not consumed."""
        self._example = self._checked(example)
        return self

    @property
    def latency(self) -> int:
        """The number of samples later than due that the latest output comes; 0 for a causal network.

        Of a map with r outputs a sample of the input (r = 1/4 after a stride of 4), output j covers the samples up to
        (j + 1) / r and is due when these are in. So after t samples all outputs before r·(t - latency) have come, and
        there is a t, at the start of the stream or later, after which no more have. Of several outputs the largest.
        """
        return self._waiting()[0]

    @property
    def latencies(self) -> Any:
        """The latency of each output: the model's output, with a number instead of each map."""
        return self._waiting()[1]

    @property
    def nbytes(self) -> int:
        """The number of bytes of cells that are kept for the chunks to come."""
        return self._progress.nbytes

    def state_dict(self) -> dict[str, Any]:
        """Return all that `load_state_dict` needs to go on in another process: numbers, texts and tensors."""
        return {
            "model": self._runner.fingerprint(),
            "axis": self.axis,
            "length": self.length,
            "multiple": self.multiple,
            "is_over": self._is_over,
            "like": None if self._like is None else self._like.state(),
            **self._progress.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken, of a stream of the same model with the same axis and length.

        Raises:
            StreamError: It was taken of another model, along another axis, or of a stream of another length.
        """
        if (
            not isinstance(state, dict)
            or not {"model", "axis", "length", "multiple", "samples", "calls"} <= state.keys()
        ):
            raise StreamError("Expected what Stream.state_dict() returned but got something else")
        if state["model"] != self._runner.fingerprint():
            raise StreamError(
                f"Expected the state of a stream of this {type(self._runner.model).__name__} but got one of a model "
                "with another name, other parameters or another border"
            )
        for name in ("axis", "length", "multiple"):
            if state[name] != getattr(self, name):
                raise StreamError(
                    f"Expected the state of a stream with {name}={getattr(self, name)} but got one with {state[name]}"
                )
        self._is_over = state["is_over"]
        self._like = None if state["like"] is None else Like.restored(state["like"])
        self._progress = Progress.restored(state)

    def _shown(self) -> Like:
        """Return what chunks are like, by one that came or was shown."""
        like = self._like or self._example
        if like is None:
            raise StreamError(
                "Expected a chunk to have come before the latency is asked for, which depends on what the model does "
                "with it, but got none; push one, or show one with prepare(example)"
            )
        return like

    def _waiting(self) -> tuple[int, Any]:
        """Return the latency, and that of each output."""
        like = self._shown()
        if like not in self._waits:
            output, of_calls = self._runner.lags(like)
            of_outputs: list[int] = []

            def noted(signal: Any) -> int:
                of_outputs.append(of_calls[signal.step])
                return of_outputs[-1]

            each = ordinary(output, noted)
            self._waits[like] = max(of_outputs, default=0), each
        return self._waits[like]

    def calls_ahead(self, lookahead: int) -> list[tuple[str, int]]:
        """Return the calls that look further ahead than `lookahead` samples, by name and latency, in their order.

        Only those that an output depends on which does so too.
        """
        output, of_calls = self._runner.lags(self._shown())
        late = [end for end in ends_of(output) if of_calls[end] > lookahead]
        return [(step.name, of_calls[step]) for step in steps_to(late) if of_calls[step] > lookahead]

    def _checked(self, chunk: Tensor) -> Like:
        """Return what `chunk`, which may go on with the stream, has in common with its others."""
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
        like = Like.of(chunk, along)
        if 0 in like.sizes or (self._like is None and not chunk.shape[along]):
            raise StreamError(f"Expected a first chunk with samples but got an empty one, {tuple(chunk.shape)}")
        if self._like is not None and like != self._like:
            raise StreamError(
                f"Expected a chunk like those before, {self._like}, but got {like}; only the size along the stream's "
                "axis may change"
            )
        return like


def _decided(signal: Any) -> Tensor:
    """Return the cells of the frame that a chunk decides of an output."""
    if not isinstance(signal, Chunk):
        raise UnsupportedOperation(
            f"Expected outputs with the stream's axis in a dimension of its own but got one of shape "
            f"{tuple(signal.shape)}, in which it is merged or moved; stream the part of the model before that"
        )
    start, n = signal.box[signal.along][0], signal.frame[signal.along]
    if start > n:
        raise UnsupportedOperation(
            f"Expected an output that goes on to the end of the stream but got one that ends after {n} cells, of which "
            f"{start} have come: where the model cuts it off depends on the length; say it with Stream(model, "
            "length=…), or multiple=…"
        )
    signal.check_frame()
    return materialized(decided_cells(signal))
