"""Signal: a feature map that also tracks what lies outside it. A model's own code computes with it as with a tensor.

All work happens in `__torch_function__`: each function that a model calls is looked up in `rules/`, which compute with
ordinary tensors, so autograd, autocast and export see nothing unusual. What reaches the dispatcher with a Signal in it
has slipped past the rules: see `rules.scripted`.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from borderless.engine.aliases import Aliased
from borderless.engine.edge import Around, Edge
from borderless.engine.extent import Extent
from borderless.engine.forward_pass import ForwardPass
from borderless.engine.geometry import Box, Mirroring
from borderless.engine.lattice import Lattice
from borderless.engine.leaving import LeftCells, unwatched
from borderless.engine.naming import describe
from borderless.engine.operations import Operation, kept
from borderless.engine.reading import read_around, thin
from borderless.engine.receptive_field import PIXEL, Field
from borderless.engine.registry import DISPATCHED, REFUSED, find_rule
from borderless.engine.shifting import Shift, shifted_tile, take_shifted
from borderless.engine.signatures import by_position
from borderless.engine.tiles import Ranges, less, ranges_of, surroundings, tile
from borderless.engine.torch_internals import DisableTorchFunctionSubclass, make_wrapper_subclass, tree_leaves
from borderless.errors import BorderError, ImageError, UnsupportedOperation


class Signal(Aliased, Extent, Tensor):
    """A map on a frame, stored on a window, with a background around it.

    window: ordinary tensor, the stored part; `axes` are its spatial dimensions. start: for each axis, the frame index
    of the window's first cell (negative when the map has grown). frame: for each axis, the size that the unmodified
    model would see; `.shape` reports it. background: what lies outside the window: the tile that is repeated without
    end (see `tiles`), of size 1 along space where it is constant, or None for 0. lattice: the grid of its cells. scope:
    border and model. field: for each axis, which input pixels each cell reads.

    A Signal may be made of its deviation, window - background, instead: the window is then added up when it is asked
    for, which batch normalization never does.
    """

    start: tuple[int, ...]
    frame: tuple[int, ...]
    axes: tuple[int, ...]
    background: Tensor | None
    lattice: Lattice
    scope: ForwardPass
    field: tuple[Field, ...]
    aliased: bool
    may_pool_frame = True  # whether an average over the whole frame may turn out to be a global one
    _shape: torch.Size
    _sizes: torch.Size  # of the window
    _deviation: Tensor | None

    @staticmethod
    def __new__(
        cls: Any,
        stored: Tensor,
        start: tuple[int, ...],
        frame: tuple[int, ...],
        axes: tuple[int, ...],
        background: Tensor | None,
        lattice: Lattice,
        scope: ForwardPass,
        field: tuple[Field, ...],
        aliased: bool = False,
        is_deviation: bool = False,
    ) -> "Signal":
        """Make a Signal of a `stored` window, or of its deviation from the background."""
        sizes = list(stored.shape)
        for axis, n in zip(axes, frame):  # noqa: B905  one frame an axis; this runs at every step
            sizes[axis] = n
        shape = torch.Size(sizes)
        # The wrapper takes no part in autograd; by requiring gradients it makes a custom Function leave its mark on it.
        self = make_wrapper_subclass(
            cls, shape, dtype=stored.dtype, device=stored.device, requires_grad=stored.requires_grad
        )
        # aliased: whether another Signal stores the very same window although the unmodified model would hold two.
        self.__dict__.update(
            start=start,
            frame=frame,
            axes=axes,
            background=background,
            lattice=lattice,
            scope=scope,
            field=field,
            aliased=aliased,
            _shape=shape,
            _sizes=stored.shape,
            _deviation=stored if is_deviation else None,
        )
        if not is_deviation:
            self.__dict__["window"] = stored
        return self

    @classmethod
    def from_image(cls, image: Tensor, scope: ForwardPass) -> "Signal":
        """`image` (N, C, *space) as the whole frame, surrounded by the border's background."""
        axes = tuple(range(2, image.ndim))
        border = scope.border
        if len(border.axes) not in (1, len(axes)):
            raise BorderError(
                f"Expected one border for each of the {len(axes)} spatial axes of an image of shape "
                f"{tuple(image.shape)} but got {border!r} with {len(border.axes)}; give {len(axes)}, or one name."
            )
        background = surroundings(image, border.background) if border.has_background else None
        return cls(  # pyright: ignore[reportCallIssue]  Tensor.__init__ takes anything
            image,
            start=(0,) * len(axes),
            frame=tuple(image.shape[2:]),
            axes=axes,
            background=background,
            lattice=Lattice((1,) * len(axes)),
            scope=scope,
            field=(PIXEL,) * len(axes),
        )

    # Models and rules ask for these at every step; as properties they need not pass `__torch_function__`.
    @property
    def shape(self) -> torch.Size:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The shape that the unmodified model would see."""
        return self._shape

    @property
    def ndim(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The number of dimensions."""
        return len(self._shape)

    def dim(self) -> int:
        """Return how many dimensions it has."""
        return len(self._shape)

    @cached_property
    def window(self) -> Tensor:
        """The stored cells, as an ordinary tensor."""
        if self.change is not None:
            raise self.change.error(self)
        assert self._deviation is not None and self.background is not None
        with torch.set_grad_enabled(self._deviation.requires_grad):  # whoever asks first
            return self._deviation + self.background.to(self._deviation.dtype)

    @property
    def stored(self) -> Tensor:
        """The window, or the deviation that it is added up from: what gradients go through."""
        return self.window if self._deviation is None else self._deviation

    @property
    def known_deviation(self) -> Tensor | None:
        """The window less the background, where it need not be computed."""
        return self.window if self.background is None else self._deviation

    @property
    def border(self) -> Edge:
        """The border of the pass."""
        return self.scope.border

    def derive(
        self,
        stored: Tensor,
        background: Tensor | None,
        *,
        box: Box | None = None,
        frame: tuple[int, ...] | None = None,
        axes: tuple[int, ...] | None = None,
        lattice: Lattice | None = None,
        field: tuple[Field, ...] | None = None,
        aliased: bool = False,
        is_deviation: bool = False,
    ) -> "Signal":
        """Return a Signal of the same pass; whatever is not given stays as it is."""
        self.check_gradients()
        return type(self)(  # pyright: ignore[reportCallIssue]
            stored,
            self.start if box is None else tuple([a for a, _ in box]),
            self.frame if frame is None else frame,
            self.axes if axes is None else axes,
            background,
            self.lattice if lattice is None else lattice,
            self.scope,
            self.field if field is None else field,
            aliased,
            is_deviation,
        )

    def deviation(self) -> Tensor:
        """Return the window less the background."""
        known = self.known_deviation
        if known is not None:
            return known
        return less(self.window, self.around_window())

    def read(self, box: Box, padding: float | Mirroring = 0.0) -> Tensor:
        """Return the cells of `box` (frame indices) as a tensor. Only this and `read_ranges` know what lies outside.

        padding: the value or the mode of the original padding, along axes where it lies outside.
        """
        if box == self.box:
            return self.window
        if self._lacks(box):
            raise ImageError(
                f"Expected cells of a map stored on {self.box} but got a request for {box} under the border "
                f"{self.border.name!r}, where nothing lies outside ('valid'); use a larger image, or another border."
            )
        return self._read_around(box, tuple([edge.around(padding) for edge in self.edges]))

    def read_deviation(self, box: Box, padding: float | Mirroring = 0.0) -> Tensor:
        """Return the cells of `box` less the background."""
        if self.background is None:
            return self.read(box, padding)
        return self.deviation() if box == self.box else self.derive(self.deviation(), None).read(box, padding)

    def _read_around(self, box: Box, around: tuple[Around, ...]) -> Tensor:
        return read_around(self.window, self.axes, self.box, box, self.frame, around, self.background)

    def _lacks(self, box: Box) -> bool:
        """Return whether cells of `box` are wanted where nothing lies outside."""
        axes = zip(self.edges, self.box, box, strict=True)
        return any(e.outside == "nothing" and (first < a or b < stop) for e, (a, b), (first, stop) in axes)

    def around_window(self) -> Tensor:
        """Return the background on the cells of the window, of size 1 along space where it is constant."""
        assert self.background is not None
        return tile(self.background, self.axes, ranges_of(self.box))

    def around(self, box: Box) -> Tensor:  # noqa: ARG002  a map of a placement has others at other boxes
        """Return the values that `read(box)` gives on cells that are not stored, of size 1 along space."""
        return self.window.new_zeros([1] * self.ndim) if self.background is None else self.background

    def read_ranges(self, wanted: Ranges, shift: Shift | None = None, padding: float = 0.0) -> Tensor:
        """Return the cells of `wanted` (frame indices, after the renumbering if there is one) as an ordinary tensor.

        padding: the value of the original padding, along axes where it lies outside.
        """
        box = tuple((cells.start, cells[-1] + 1) for cells in wanted)
        if shift is None:
            return thin(self.read(box, padding), self.axes, [cells.step for cells in wanted])
        if padding or any(edge.is_mirrored for edge in self.edges):
            sources = shift.sources(box)
            return take_shifted(self.read(sources, padding), self.axes, sources, wanted, shift, None)
        return take_shifted(self.window, self.axes, self.box, wanted, shift, self.background)

    def renumbered(self, shift: Shift) -> tuple[Box, Tensor | None]:
        """Return the window that the border keeps after a renumbering, shared by all samples, and the background."""
        box = shift.kept(self.box, self.frame, [edge.keeps for edge in self.edges], self.border.reach)
        if any(a >= b for a, b in box):
            raise ImageError(
                f"Expected a map with a cell for every phase but got one stored on {self.box} in "
                f"{self.scope.describe_module()} under {self.border!r}; use a larger image, or phase='fixed'."
            )
        return box, None if self.background is None else shifted_tile(self.background, self.axes, shift)

    def untaped(self) -> "Signal":
        """Return the same map as a plain Signal, whose further calls no placement records or replays."""
        return self

    def kept(self, operations: Sequence[Operation], box: Box | None = None) -> Box:
        """Return which outputs of `operations`, one an axis, are kept of this map, stored on its box or on `box`."""
        keeps = tuple([edge.keeps for edge in self.edges])
        return kept(tuple(operations), self.box if box is None else box, self.frame, keeps, self.border.reach)

    def crop(self) -> Tensor:
        """Return the map on its frame, as the unmodified model would have it: an ordinary tensor of `.shape`."""
        self.check_gradients()
        if self._lacks(self.frame_box):
            raise ImageError(
                f"Expected a map stored on its whole frame {self.frame_box} but got one on {self.box}: under the "
                f"border {self.border.name!r} nothing is known outside; use output='signal', or another border."
            )
        return self.read(self.frame_box)

    def check_gradients(self) -> None:
        """Refuse a map that left PyTorch's autograd on its way, before its gradients are lost."""
        if not torch.is_grad_enabled():
            if self.stored.requires_grad:  # as in the forward of a custom Function
                self.scope.remember_callers()
            return
        with DisableTorchFunctionSubclass():
            node = self.grad_fn
        if node is not None:
            raise self.scope.past_autograd(node)

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        window = tuple(self._sizes)
        return (
            f"Signal(frame={self.frame}, window={window}, start={self.start}, stride={self.lattice.stride}, "
            f"border={self.border!r}, dtype={self.dtype})"
        )

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = args, kwargs or {}
        args, kwargs = as_rules_take_it(func, types, args, kwargs)
        try:
            return find_rule(func)(func, *args, **kwargs)
        except UnsupportedOperation as refusal:
            return find_rule(REFUSED)(refusal, func, *given)

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return find_rule(DISPATCHED)(func, *args, **(kwargs or {}))


def as_rules_take_it(
    function: Any, types: Sequence[type], args: tuple[Any, ...], kwargs: dict[str, Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a call as rules know it: PyTorch's names, the first argument by position, no `out`, no watched cells."""
    if LeftCells in types:
        args, kwargs = unwatched(args), unwatched(kwargs)
    if not kwargs:
        return args, {}
    args, kwargs = by_position(function, args, kwargs)
    if isinstance(kwargs.get("out"), Tensor):
        signal = first_signal(args, kwargs)
        assert signal is not None
        raise signal.scope.unsupported(describe(function), "it writes into out=, which a feature map cannot be")
    return args, kwargs


def first_signal(*values: Any) -> Signal | None:
    """Return the first Signal among `values` and the lists, tuples and dicts in them."""
    return next((leaf for leaf in tree_leaves(values) if isinstance(leaf, Signal)), None)
