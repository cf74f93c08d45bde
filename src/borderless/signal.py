"""Signal: a feature map that knows what surrounds it. The unmodified code of a model computes with it as with a tensor.

All work happens in `__torch_function__`: each function that a model calls is looked up in `rules/`, which compute with
ordinary tensors, so autograd, autocast and export see nothing unusual. A function that reaches the dispatcher with a
Signal in it has slipped past the rules and is refused by name.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from borderless import geometry
from borderless.borders import Border
from borderless.cells import Ranges, Shift, less, ranges_of, read, read_mirrored, shifted_tile, take_shifted, thin, tile
from borderless.errors import ImageError
from borderless.geometry import Box
from borderless.lattice import Lattice, Stride
from borderless.rules.registry import find_rule
from borderless.scope import Scope
from borderless.torch_internals import DisableTorchFunctionSubclass, make_wrapper_subclass, tree_leaves


class Signal(Tensor):
    """A map on a frame, stored on a window, with a background around it.

    window: ordinary tensor, the stored part; `axes` are its spatial dimensions. start: for each axis, the frame index
    of the window's first cell (negative when the map has grown). frame: for each axis, the size that the unmodified
    model would see; `.shape` reports it. background: what lies outside the window: the tile that is repeated endlessly
    (see `cells`), of size 1 along space where it is constant, or None for 0. lattice: the grid of its cells. scope:
    border and model. field: for each axis, how many input pixels wide a cell looks (its receptive field).

    A Signal may be made of its deviation, window - background, instead: the window is then added up when it is asked
    for, which batch normalisation never does.
    """

    start: tuple[int, ...]
    frame: tuple[int, ...]
    axes: tuple[int, ...]
    background: Tensor | None
    lattice: Lattice
    scope: Scope
    field: Stride
    aliased: bool
    _shape: torch.Size
    _sizes: torch.Size  # of the window
    _deviation: Tensor | None

    @staticmethod
    def __new__(
        cls,
        stored: Tensor,
        start: tuple[int, ...],
        frame: tuple[int, ...],
        axes: tuple[int, ...],
        background: Tensor | None,
        lattice: Lattice,
        scope: Scope,
        field: Stride,
        aliased: bool = False,
        is_deviation: bool = False,
    ) -> "Signal":
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
    def from_image(cls, image: Tensor, scope: Scope) -> "Signal":
        """`image` (N, C, *space) as the whole frame, surrounded by the border's background."""
        axes = tuple(range(2, image.ndim))
        background = _input_background(image, scope.border) if scope.border.outside == "background" else None
        return cls(  # pyright: ignore[reportCallIssue]  Tensor.__init__ takes anything
            image,
            start=(0,) * len(axes),
            frame=tuple(image.shape[2:]),
            axes=axes,
            background=background,
            lattice=Lattice((1,) * len(axes)),
            scope=scope,
            field=(1,) * len(axes),
        )

    # Models and rules ask for these at every step; as properties they need not pass `__torch_function__`.
    @property
    def shape(self) -> torch.Size:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._shape

    @property
    def ndim(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        return len(self._shape)

    def dim(self) -> int:
        return len(self._shape)

    @cached_property
    def window(self) -> Tensor:
        """The stored cells, as an ordinary tensor."""
        assert self._deviation is not None and self.background is not None
        with torch.set_grad_enabled(self._deviation.requires_grad):  # whoever asks first
            return self._deviation + self.background.to(self._deviation.dtype)

    @property
    def known_deviation(self) -> Tensor | None:
        """window - background, where it need not be computed."""
        return self.window if self.background is None else self._deviation

    @property
    def border(self) -> Border:
        return self.scope.border

    @property
    def box(self) -> Box:
        """The window as frame indices: for each axis (start, stop)."""
        shape = self._sizes
        return tuple([(a, a + shape[axis]) for a, axis in zip(self.start, self.axes)])  # noqa: B905

    @property
    def frame_box(self) -> Box:
        return tuple((0, n) for n in self.frame)

    def derive(
        self,
        stored: Tensor,
        background: Tensor | None,
        *,
        box: Box | None = None,
        frame: tuple[int, ...] | None = None,
        axes: tuple[int, ...] | None = None,
        lattice: Lattice | None = None,
        field: Stride | None = None,
        aliased: bool = False,
        is_deviation: bool = False,
    ) -> "Signal":
        """A Signal of the same pass; whatever is not given stays as it is."""
        self._check_gradients()
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

    def become(
        self, window: Tensor, background: Tensor | None, *, box: Box | None = None, field: Stride | None = None
    ) -> "Signal":
        """Take over what an in-place operation left, so that whoever holds this map sees it."""
        self._check_gradients()
        self.window, self.background, self.aliased = window, background, False
        self._sizes, self._deviation = window.shape, None
        if box is not None:
            self.start = tuple(a for a, _ in box)
        if field is not None:
            self.field = field
        return self

    def deviation(self) -> Tensor:
        """The window less the background."""
        known = self.known_deviation
        if known is not None:
            return known
        assert self.background is not None
        return less(self.window, tile(self.background, self.axes, ranges_of(self.box)))

    def read(self, box: Box) -> Tensor:
        """The cells of `box` (frame indices) as an ordinary tensor. Only this and `take` know what lies outside."""
        if box == self.box:
            return self.window
        if self.border.outside in ("reflect", "replicate", "circular"):
            return self._read_mirrored(box)
        if self.border.outside == "nothing" and geometry.intersection([self.box, box]) != box:
            raise ImageError(
                f"got a map stored on {self.box} of which the cells {box} were asked for, under the border 'valid', "
                "where nothing lies outside; use a larger image, or another border"
            )
        return read(self.window, self.axes, self.box, box, self.background)

    def around(self, box: Box) -> Tensor:
        """What `read(box)` would give on the cells that are not stored, which have no place: of size 1 along space."""
        return self.window.new_zeros([1] * self.ndim) if self.background is None else self.background

    def take(self, wanted: Ranges, shift: Shift | None = None) -> Tensor:
        """The cells of `wanted` (frame indices, after the renumbering if there is one) as an ordinary tensor."""
        box = tuple((cells.start, cells[-1] + 1) for cells in wanted)
        if shift is None:
            return thin(self.read(box), self.axes, [cells.step for cells in wanted])
        if self.border.outside in ("reflect", "replicate", "circular"):
            sources = shift.sources(box)
            return take_shifted(self._read_mirrored(sources), self.axes, sources, wanted, shift, None)
        return take_shifted(self.window, self.axes, self.box, wanted, shift, self.background)

    def _read_mirrored(self, box: Box) -> Tensor:
        return read_mirrored(self.window, self.axes, self.box, box, self.frame, self.border.outside)  # pyright: ignore[reportArgumentType]

    def renumbered(self, shift: Shift) -> tuple[Box, Tensor | None]:
        """The window that the border keeps after a renumbering, shared by all samples, and the background."""
        match self.border.keeps:
            case "frame":
                box = self.frame_box
            case "touching":
                box = shift.touching(self.box, self.frame, self.border.reach)
            case "inside":
                box = shift.inside(self.box)
        if any(a >= b for a, b in box):
            raise ImageError(
                f"got a map stored on {self.box} in {self.scope.describe_module()} under {self.border!r}, which leaves "
                "no cell for every phase; needed: a larger image, or phase='fixed'"
            )
        return box, None if self.background is None else shifted_tile(self.background, self.axes, shift)

    def crop(self) -> Tensor:
        """The map on its frame, as the unmodified model would have it: an ordinary tensor of `.shape`."""
        self._check_gradients()
        if self.border.outside == "nothing" and geometry.intersection([self.box, self.frame_box]) != self.frame_box:
            raise ImageError(
                f"got a map stored on {self.box} where the model needs its whole frame {self.frame_box}: under the "
                "border 'valid' nothing is known outside; use output='signal', or another border"
            )
        return self.read(self.frame_box)

    def _check_gradients(self) -> None:
        if not torch.is_grad_enabled():
            return
        with DisableTorchFunctionSubclass():
            node = self.grad_fn
        if node is not None:
            raise self.scope.unsupported(
                f"the custom autograd function {node.name().removesuffix('Backward')!r}",
                "PyTorch runs it without recording what happens to the map, so gradients would be lost without a word "
                "(for checkpointing, use_reentrant=False works)",
            )

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
        return find_rule(func)(func, *args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        signal = next(leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Signal))
        raise signal.scope.unsupported(str(func), "it reached PyTorch's dispatcher without passing a rule")


def first_signal(*values: Any) -> Signal | None:
    """The first Signal among `values` and the lists, tuples and dicts in them."""
    for value in values:
        if isinstance(value, Signal):
            return value
        if isinstance(value, list | tuple):
            found = first_signal(*value)
        elif isinstance(value, dict):
            found = first_signal(*value.values())
        else:
            continue
        if found is not None:
            return found
    return None


def _input_background(image: Tensor, border: Border) -> Tensor:
    values = border.background if isinstance(border.background, tuple) else (border.background,)
    channels = image.shape[1]
    if len(values) not in (1, channels):
        raise ImageError(
            f"got a background of {len(values)} numbers for an image with {channels} channels; needed: one number, or "
            "one per channel"
        )
    colour = torch.tensor(values, dtype=image.dtype, device=image.device).expand(channels)
    return colour.reshape(1, channels, *[1] * (image.ndim - 2))
