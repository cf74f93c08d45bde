"""A model's output for an image, put together from its parts: in new tensors, or in arrays that are written in place.

Shapes: outputs as the model gives them for the whole image; without the axis of samples for an image without it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from borderless.engine.geometry import Box
from borderless.engine.reading import cut
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import fake_tensors, tree_flatten, tree_map, tree_unflatten
from borderless.errors import BorderlessError, ImageError, StorageError
from borderless.partition.part import PartSignal
from borderless.partition.record import without_values
from borderless.partition.sources import TiledImage


class Piece(NamedTuple):
    """A part of one output: its cells on `box` along `axes`, of a whole of `shape`; the whole where axes are ()."""

    axes: tuple[int, ...]
    box: Box
    shape: tuple[int, ...]
    cells: Tensor

    @property
    def index(self) -> tuple[slice, ...]:
        """The slices of the whole that hold the cells."""
        index = [slice(0, n) for n in self.shape]
        for axis, (a, b) in zip(self.axes, self.box, strict=True):
            index[axis] = slice(a, b)
        return tuple(index)


def pieces_of(output: Any) -> list[Any]:
    """Return what a part gives for each output, a `Piece`; None: nothing; what is no tensor as it is.

    Raises:
        ImageError: A map has cells that no part gives.
    """

    def piece(leaf: Any) -> Any:
        if isinstance(leaf, PartSignal):
            leaf.check_frame()
            known = tuple((max(a, 0), min(b, n)) for (a, b), n in zip(leaf.box, leaf.frame, strict=True))
            if any(a >= b for a, b in known):
                return None
            return Piece(leaf.axes, known, tuple(leaf.shape), cut(leaf.window, leaf.axes, leaf.box, known))
        if isinstance(leaf, Tensor):
            cells = leaf.crop() if isinstance(leaf, Signal) else leaf
            return Piece((), (), tuple(cells.shape), cells)
        return leaf

    leaves, _ = tree_flatten(output)
    return [piece(leaf) for leaf in leaves]


class Outputs:
    """Takes the outputs of parts. out: arrays to write into, laid out as the model's output; None: new tensors.

    device: of new tensors. has_batch: whether the axis of samples is kept.
    """

    def __init__(self, out: Any = None, device: torch.device | None = None, has_batch: bool = True) -> None:
        self._out = out
        self._device = device
        self._has_batch = has_batch
        self._targets: list[Any] | None = None
        self._structure: Any = None

    def put(self, box: Box, output: Any) -> None:
        """Take over the output of the part of the image on `box`.

        Raises:
            ImageError: It does not fit the arrays.
            StorageError: They cannot be written.
        """
        is_first = self._targets is None
        if self._targets is None:
            self.expect(output)
        for into, piece in zip(self._targets or (), pieces_of(output), strict=True):
            if isinstance(piece, Piece) and (piece.axes or is_first):
                self._write(into, piece)

    def expect(self, output: Any) -> None:
        """Take an output, whose values may be those of a part or none, as what all parts give.

        Raises:
            ImageError: It does not fit the arrays.
        """
        leaves, self._structure = tree_flatten(output)
        if self._out is not None:
            self._targets = targets(output, self._out, self._has_batch)
        else:
            self._targets = [self._new(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]

    def write(self, pieces: Sequence[Any]) -> None:
        """Take over the pieces of a part of another process.

        Raises:
            StorageError: They cannot be written.
        """
        assert self._targets is not None
        for into, piece in zip(self._targets, pieces, strict=True):
            if isinstance(piece, Piece):
                self._write(into, piece)

    def whole(self) -> Any:
        """Return the output for the whole image; the arrays themselves where there are some."""
        if self._out is not None or self._targets is None:
            return self._out
        return tree_unflatten(self._targets, self._structure)

    def _new(self, leaf: Tensor) -> Tensor:
        return torch.empty(shape_of(leaf, self._has_batch), dtype=leaf.dtype, device=self._device or leaf.device)

    def _write(self, into: Any, piece: Piece) -> None:
        index, cells = piece.index, piece.cells
        if not self._has_batch and piece.shape[:1] == (1,):
            index, cells = index[1:], cells[0]
        if isinstance(into, Tensor):
            into[index].copy_(cells)
            return
        try:
            into[index] = cells.cpu().numpy()
        except OSError as error:
            raise StorageError(
                f"Expected room for the output but could not write it to {type(into).__name__}: {error}. What was "
                "written before is there; make room, and run it again."
            ) from error


def shape_of(leaf: Tensor, has_batch: bool) -> tuple[int, ...]:
    """Return the shape of an output for the whole image, without the axis of samples if the image has none."""
    shape = tuple(leaf.shape)
    return shape if has_batch or shape[:1] != (1,) else shape[1:]


def targets(output: Any, out: Any, has_batch: bool) -> list[Any]:
    """Return, for each leaf of a model's `output`, the array of `out` that it is written to.

    Raises:
        ImageError: An array is missing or too many, or has another shape, or a type that does not hold the values.
    """
    found: list[Any] = []
    _match(output, out, "out", found, has_batch)
    return found


def _match(output: Any, out: Any, name: str, found: list[Any], has_batch: bool) -> None:
    if isinstance(output, Tensor):
        _check(output, out, name, has_batch)
        found.append(out)
        return
    _, structure = tree_flatten(output)
    if not isinstance(output, Mapping | list | tuple):
        if structure.is_leaf():
            found.append(out)
            return
        raise ImageError(
            f"Expected a model that returns a tensor, or tensors in a dict, a list or a tuple, but got "
            f"{type(output).__name__}; leave out= away."
        )
    is_one = len(output) == 1 and hasattr(out, "shape")
    keys = list(output) if isinstance(output, Mapping) else list(range(len(output)))
    if is_one:
        _match(output[keys[0]], out, name, found, has_batch)
        return
    if isinstance(output, Mapping):
        fits = isinstance(out, Mapping) and set(out) == set(output)
    else:
        fits = isinstance(out, list | tuple) and len(out) == len(output)
    if not fits:
        needed = f"a dict of arrays with the keys {keys}" if isinstance(output, Mapping) else f"{len(output)} arrays"
        got = f"the keys {list(out)}" if isinstance(out, Mapping) else type(out).__name__
        raise ImageError(f"Expected {name}= to be {needed}, as the model's output is, but got {got}.")
    for key in keys:
        _match(output[key], out[key], f"{name}[{key!r}]", found, has_batch)


def _check(output: Tensor, out: Any, name: str, has_batch: bool) -> None:
    expected, shape = shape_of(output, has_batch), getattr(out, "shape", None)
    if shape is None or not hasattr(out, "__setitem__"):
        raise ImageError(
            f"Expected {name}= to be an array of shape {expected} that can be written to but got {type(out).__name__}."
        )
    kind = str(output.dtype).removeprefix("torch.")
    if tuple(shape) != expected:
        raise ImageError(f"Expected {name}= of shape {expected} and type {kind} but got the shape {tuple(shape)}.")
    if isinstance(out, Tensor):
        holds = torch.promote_types(output.dtype, out.dtype) is out.dtype
    else:
        holds = kind != "bfloat16" and np.can_cast(np.dtype(kind), np.dtype(out.dtype), "safe")
    if not holds:
        raise ImageError(
            f"Expected {name}= of a type that holds {kind} but got {out.dtype}; give another array, or a model that "
            f"ends with the conversion (for example torch.nn.Sequential(model, Rounded()))."
        )
    flags = getattr(out, "flags", None)
    if flags is not None and not getattr(flags, "writeable", True):
        raise ImageError(f"Expected {name}= to be an array that can be written to but got a read-only one.")


def output_of_whole(model: nn.Module, image: TiledImage, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the output for the whole image without its values: tensors that have only a shape and a type.

    None if the model does not run without values.
    """
    kind = image.stored(((0, 1),) * image.space).dtype
    try:
        mode = fake_tensors()
        stand_in = without_values(model, mode)  # which may keep what it computes
        with mode, torch.no_grad():
            cells = torch.empty(image.shape, dtype=kind, device=image.device)
            output = stand_in(image.prepared(cells), *args, **kwargs)
            return tree_map(lambda leaf: leaf.to("meta") if isinstance(leaf, Tensor) else leaf, output)
    except BorderlessError:
        raise
    except Exception:  # whatever it is, the model meets it again on the first part, with values
        return None
