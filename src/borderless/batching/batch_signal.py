"""Maps of a batch whose samples have unequal frames: `BatchSignal`, the edge of its samples, and the pass over them.

The window is as large as the largest sample. Sample n owns the cells of its own box; all others are nobody's, and hold
anything finite. Before a rule reads beyond the cell, they take what the border says lies around that sample.

Shapes: boxes are in frame indices, one interval [start, stop) an axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from borderless.batching.extents import Boxes, Frames
from borderless.batching.filling import Reads, masked, may_write, own_mask, read_mirrored_apart, write_strips
from borderless.batching.sizes import per_image
from borderless.engine.edge import Around, EdgeWithin
from borderless.engine.forward_pass import ForwardPass
from borderless.engine.geometry import Box, Mirroring
from borderless.engine.naming import describe
from borderless.engine.reading import cut
from borderless.engine.registry import find_rule, traits_of
from borderless.engine.signal import Signal, as_rules_take_it
from borderless.errors import UnsupportedOperation


@dataclass(frozen=True, repr=False)
class BatchEdge(EdgeWithin):
    """The edge of each sample in a batch of unequal ones: what the border says, at another cell for each."""


@dataclass
class BatchPass(ForwardPass):
    """A pass over images of unequal sizes.

    alone: a pass over images of equal sizes, under the border of the samples. calls: how many calls of rules are under
    way; what a rule calls itself is no call of the model's. asked_size: whether a rule has asked for a size lately.
    asking: the image whose sizes all maps have, while a call is asked what it needs of that one.
    """

    alone: ForwardPass = field(kw_only=True)
    calls: int = 0
    asked_size: bool = False
    asking: int | None = None
    _masks: dict[Any, Tensor] = field(default_factory=dict, repr=False)

    def mask(self, boxes: Boxes, box: Box, device: torch.device) -> Tensor:
        """Return (N, *space): which cells of `box` are on the box of a sample."""
        key = boxes, box, device
        if key not in self._masks:
            self._masks[key] = own_mask(boxes, box, device)
        return self._masks[key]

    def is_in_model(self) -> bool:
        """Return whether the model's own code is running, and no rule."""
        return self.calls == 0

    def reads_position(self, operation: str, reason: str, frame: tuple[int, ...] = ()) -> None:
        """Say what the pass over equal sizes says."""
        self.alone.reads_position(operation, reason, frame)

    def mixes_rows(self, function: Any) -> None:
        """Refuse a function that joins or selects rows of the batch."""
        raise self.unsupported(describe(function), "it joins or selects images of the batch, whose sizes are unequal")

    def size_error(self, reason: str) -> UnsupportedOperation:
        """Return the error for a size that is not one number for all images."""
        return self.unsupported("the size of a feature map", reason)

    def unsupported(
        self, operation: str, reason: str = "there is no rule for it", relation: str = "in", module: str | None = None
    ) -> UnsupportedOperation:
        """Return the error for `operation`, which cannot run on images of unequal sizes."""
        return UnsupportedOperation(
            f"Expected a network that can run on images of unequal sizes in one batch but got {operation} {relation} "
            f"{module or self.describe_module()}: {reason}. Run it on one image at a time, or on images of one size."
        )

    @property
    def cropped(self) -> "BatchPass":
        """The pass of maps that were cropped to their frames."""
        raise NotImplementedError

    def call(self, source: "BatchSignal", func: Any, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call of the model's whose first map is `source`."""
        raise NotImplementedError


class BatchSignal(Signal):
    """A map whose frame is another one for each sample; `frame` and `box` hold them all.

    `frames` and `boxes` are those of the samples; whoever makes a map of another size notes them with `on`.
    """

    _frames: Frames
    _boxes: Boxes
    _seen: torch.Size | None = None
    _reads: Reads | None = None
    is_gathered = True
    may_pool_frame = False

    @classmethod
    def from_images(cls, cells: Tensor, sizes: Frames, scope: BatchPass) -> "BatchSignal":
        """Return images that lie at the start of `cells` (N, C, *space), each of its own size."""
        image = Signal.from_image(cells, scope)
        made = cls(  # pyright: ignore[reportCallIssue]  Tensor.__init__ takes anything
            cells, image.start, image.frame, image.axes, image.background, image.lattice, scope, image.field, True
        )
        return made.on(sizes, tuple(tuple((0, n) for n in size) for size in sizes))

    def on(self, frames: Frames, boxes: Boxes) -> "BatchSignal":
        """Note the frames and the boxes of the samples."""
        self._frames, self._boxes, self._seen = frames, boxes, None
        return self

    @property
    def batch(self) -> BatchPass:
        """The pass over the batch."""
        assert isinstance(self.scope, BatchPass)
        return self.scope

    @property
    def frames(self) -> Frames:
        """The frame of each sample."""
        self.batch.asked_size = True
        return self._frames

    @property
    def boxes(self) -> Boxes:
        """The box on which each sample is stored."""
        return self._boxes

    @property
    def frame(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The frame of a map that holds all samples."""
        self.batch.asked_size = True
        return self.__dict__["frame"] if self.batch.asking is None else self._frames[self.batch.asking]

    @property
    def shape(self) -> torch.Size:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The shape that the unmodified model would see, with a size for each image where these differ."""
        self.batch.asked_size = True
        if self.batch.asking is not None:
            own = dict(zip(self.axes, self._frames[self.batch.asking], strict=True))
            return torch.Size([own.get(axis, n) for axis, n in enumerate(self._shape)])
        if self._seen is None:
            sizes = list(self._shape)
            for i, axis in enumerate(self.axes):
                of = [frame[i] for frame in self._frames]
                sizes[axis] = per_image(sizes[axis], of, self.batch.size_error, self.batch.is_in_model)
            self._seen = torch.Size(sizes)
        return self._seen

    @property
    def is_written_through(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether a change in place reaches the views of this map: where no map can grow."""
        return self.keeps("frame")

    @property
    def _is_laid_out_as_unmodified(self) -> bool:
        return self.batch.alone.border.is_own

    def derive(self, *args: Any, **kwargs: Any) -> "BatchSignal":  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a map of the same pass; frames and boxes of another size are noted by whoever makes it."""
        made = super().derive(*args, **kwargs)
        assert isinstance(made, BatchSignal)
        return made.on(self._frames, self._boxes)

    def own(self, cells: Tensor, around: float = 0.0, axes: tuple[int, ...] | None = None) -> Tensor:
        """Return `cells` of the window, with `around` where they are none of a sample's own."""
        return self._put_around(cells, around, self.axes if axes is None else axes, None)

    def surrounded(self, around: Tensor | float, reads: Reads | None = None) -> "BatchSignal":
        """Return the same map with `around` on the cells that are nobody's.

        reads: how many cells after its own are read of each sample along each axis; None: any.
        """
        cells = self._put_around(self.window, around, self.axes, reads)
        return self if cells is self.window else self.derive(cells, self.background, aliased=True)

    def _put_around(self, cells: Tensor, around: Tensor | float, axes: tuple[int, ...], reads: Reads | None) -> Tensor:
        starts_alike = all(a == start for own in self._boxes for (a, _), start in zip(own, self.start, strict=True))
        is_finite = isinstance(around, Tensor) or abs(around) < torch.inf
        if starts_alike and is_finite and may_write(cells):
            write_strips(cells, axes, self._boxes, self.box, around, reads)
            return cells
        return masked(cells, self.batch.mask(self._boxes, self.box, cells.device), axes, around)

    def repeated(self, reads: Reads) -> "BatchSignal":
        """Return the same map with each sample's last cell repeated on the cells after its own that are read."""
        cells = read_mirrored_apart(self.window, self.axes, self.box, self.box, self._frames, "replicate", reads)
        return self if cells is self.window else self.derive(cells, self.background, aliased=True)

    def to_read(self, reads: Reads) -> "BatchSignal":
        """Return the same map, for `read` to know how many cells after its own are read of each sample."""
        made = self.derive(self.stored, self.background, aliased=True, is_deviation=self._deviation is not None)
        made._reads = reads
        return made

    def read(self, box: Box, padding: float | Mirroring = 0.0) -> Tensor:
        """Return the cells of `box`, and around each sample what lies there, as far as the call reads beyond it."""
        around: tuple[Around, ...] = tuple([edge.around(padding) for edge in self.edges])
        kind = around[0]
        if self._reads is not None and box == self.box and isinstance(kind, str) and kind != "background":
            return read_mirrored_apart(self.window, self.axes, box, box, self._frames, kind, self._reads)
        return super().read(box, padding)

    def _read_around(self, box: Box, around: tuple[Around, ...]) -> Tensor:
        # One for all axes that are read beyond the window: under unequal borders calls that slide run apart.
        kinds = zip(around, self.box, box, strict=True)
        kind: Around = next(kind for kind, have, want in kinds if have != want)
        if kind == "background" or kind == 0.0:
            return super()._read_around(box, around)
        if isinstance(kind, str):
            return read_mirrored_apart(self.window, self.axes, self.box, box, self._frames, kind, self._reads)
        return Signal._read_around(self.surrounded(kind, self._reads), box, around)

    def rows(self, rows: Sequence[int]) -> Signal:
        """Return the samples `rows`, which are of one size, as an ordinary map."""
        box, background = self._boxes[rows[0]], self.background
        cells = cut(self.window, self.axes, self.box, box)
        cells = cells[rows[0] : rows[0] + 1] if len(rows) == 1 else cells[list(rows)]
        if background is not None and len(background) > 1:
            background = background[list(rows)]
        frame, start = self._frames[rows[0]], tuple(a for a, _ in box)
        return Signal(  # pyright: ignore[reportCallIssue]
            cells, start, frame, self.axes, background, self.lattice, self.batch.alone, self.field, aliased=True
        )

    def cropped(self) -> "BatchSignal":
        """Return the samples on their frames, from where on the model's original padding lies around them."""
        if self.batch.cropped is self.batch:
            return self
        window = Signal.crop(self.surrounded(self._around()))
        frame = self.__dict__["frame"]
        start = (0,) * len(frame)
        made: Any = BatchSignal(  # pyright: ignore[reportCallIssue]
            window, start, frame, self.axes, None, self.lattice, self.batch.cropped, self.field, aliased=True
        )
        return made.on(self._frames, tuple(tuple((0, n) for n in own) for own in self._frames))

    def crop(self) -> Tensor:
        """Return the samples on their frames, if these are equal; refuse to be one tensor elsewhere."""
        if len(set(self._frames)) == 1:
            return Signal.crop(self.surrounded(self._around()))
        raise self.batch.unsupported(
            "a function of whole feature maps",
            "it does not treat all positions alike (attention, or a tensor with a value for each position, for "
            f"example), and the feature maps of the images have unequal frames, {sorted(set(self._frames))}",
        )

    def _around(self) -> Tensor | float:
        return 0.0 if self.background is None else self.around_window()

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = as_rules_take_it(func, types, args, kwargs)
        source = args[0] if args and isinstance(args[0], BatchSignal) else maps_of((args, kwargs))[0]
        scope, rule = source.batch, find_rule(func)
        if scope.calls or traits_of(rule).needs == "nothing":
            return rule(func, *args, **kwargs)
        scope.calls += 1
        try:
            return scope.call(source, func, rule, args, kwargs)
        finally:
            scope.calls -= 1


def maps_of(values: Any) -> list[BatchSignal]:
    """Return the maps of a batch in `values`, and in the lists, tuples and dicts in it, each once."""
    found: dict[int, BatchSignal] = {}
    waiting = [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, BatchSignal):
            found[id(value)] = value
        elif isinstance(value, tuple | list):
            waiting.extend(reversed(value))
        elif isinstance(value, dict):
            waiting.extend(reversed(value.values()))
    return list(found.values())
