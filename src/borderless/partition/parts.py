"""Parts of an image that run by themselves, in any order: exact outputs in a box, and gradients part by part.

A plan tells which pixels a part's outputs read; the part then runs on these pixels, and keeps what follows from them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from borderless.conversion import attached
from borderless.engine.geometry import Box, Interval
from borderless.engine.inputs import arguments_named
from borderless.engine.outputs import materialized, release
from borderless.engine.reading import cut
from borderless.engine.torch_internals import tree_flatten, tree_unflatten
from borderless.errors import ImageError, UnsupportedOperation
from borderless.partition.carry import CarryPass
from borderless.partition.part import PartEdge, PartSignal
from borderless.partition.plan import owned_outputs, read_by
from borderless.partition.record import Recording, edge_of, record
from borderless.partition.rims import Place


@dataclass(frozen=True)
class ImagePart:
    """One part of an image, and what a model gives for it.

    pixels: that belong to the part. read: the pixels that it was computed from. output: what the model returns, with
    the cells that belong to the part instead of each map. box: the same with, instead of each map, the box where these
    cells lie in the map of the whole image; one interval [start, stop) for each spatial axis.
    """

    pixels: Box
    read: Box
    output: Any
    box: Any


def region(
    model: nn.Module,
    image: Any,
    box: Sequence[Interval],
    *,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> Any:
    """Return what `model` gives in a box of a large image, from no more than the pixels that this takes.

    Equal to the same cells of the output for the whole image. The cells of a box are those whose position, index times
    stride of the output, lies in it; cells that the model makes beyond the first and the last pixel belong to these. So
    boxes that share an image out also share out every output.

    Args:
        model: any model, converted or not, in evaluation mode.
        image: ``(N, C, *space)``: a tensor, or anything with `.shape` and slicing (numpy, memmap, zarr, h5py).
        box: for each spatial axis the interval [start, stop), in pixels.
        args: what the model takes after the image.
        kwargs: what it takes by name.

    Returns:
        What the model returns, with the cells of the box instead of each map.

    Raises:
        ImageError: the box is not in the image, or the image cannot be read.
        UnsupportedOperation: an operation of the model reads all of space, or cannot run on a part of an image; the
            text names the module.

    Example:
        >>> import torch, borderless as bl
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.MaxPool2d(2)).eval()
        >>> bl.region(model, torch.zeros(1, 1, 512, 512), ((100, 164), (32, 64))).shape
        torch.Size([1, 4, 32, 16])
    """
    plan = _Plan.of(model, image, args, kwargs)
    size = plan.recording.size
    box = tuple((int(a), int(b)) for a, b in box)
    if len(box) != len(size) or not all(0 <= a < b <= n for (a, b), n in zip(box, size, strict=True)):
        raise ImageError(
            f"Expected a box inside an image of {' × '.join(map(str, size))} pixels, one interval (start, stop) for "
            f"each axis, but got {box}"
        )
    with torch.no_grad():
        made = plan.run(
            model, image, box, [read_by(plan.recording, axis, interval) for axis, interval in enumerate(box)]
        )
    leaves, structure = tree_flatten(made.output)
    return tree_unflatten([_compact(leaf) for leaf in leaves], structure)


def parts(
    model: nn.Module,
    image: Any,
    *,
    tile: int | Sequence[int],
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> Iterator[ImagePart]:
    """Yield the parts of a large image one after the other, each with its outputs and their graph.

    The outputs of all parts are a partition of what the model returns for the whole image. So a loss that is a sum over
    cells is the sum of the parts' losses, and so are its gradients, of parameters and of the image: call `backward` for
    one part before the next is made, and no more than one part's graph is in memory. A part reads pixels of its
    neighbors, so this computes more than `tile` does; see `tiling`.

    Args:
        model: any model, converted or not, whose BatchNorm modules are in evaluation mode.
        image: ``(N, C, *space)``: a tensor, or anything with `.shape` and slicing (numpy, memmap, zarr, h5py).
        tile: the size of a part, in pixels; one number, or one for each spatial axis. Parts without outputs are left
            out.
        args: what the model takes after the image.
        kwargs: what it takes by name.

    Raises:
        ImageError: the tile is no size, or the image cannot be read.
        UnsupportedOperation: an operation of the model reads all of space, or cannot run on a part of an image; the
            text names the module.

    Example:
        >>> import torch, borderless as bl
        >>> model = torch.nn.Conv2d(1, 1, 3, padding=1)
        >>> image, target = torch.rand(1, 1, 64, 64), torch.rand(1, 1, 64, 64)
        >>> for part in bl.parts(model, image, tile=32):
        ...     (top, bottom), (left, right) = part.box
        ...     loss = (part.output - target[..., top:bottom, left:right]).square().sum() / target.numel()
        ...     loss.backward()
    """
    plan = _Plan.of(model, image, args, kwargs)
    size = plan.recording.size
    steps = (tile,) * len(size) if isinstance(tile, int) else tuple(tile)
    if len(steps) != len(size) or not all(isinstance(step, int) and step > 0 for step in steps):
        raise ImageError(f"Expected a tile of {len(size)} positive numbers of pixels, or one for all, but got {tile!r}")
    cuts = [[(a, min(n, a + step)) for a in range(0, n, step)] for n, step in zip(size, steps, strict=True)]
    return plan.each(model, image, cuts)


@dataclass(frozen=True)
class _Plan:
    recording: Recording
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @classmethod
    def of(cls, model: nn.Module, image: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> "_Plan":
        """Plan `model` on an image, without its values."""
        shape = tuple(int(n) for n in image.shape)
        if len(shape) < 3:
            raise ImageError(f"Expected an image (N, C, *space) but got the shape {shape}")
        recording = record(model, shape, args, kwargs)
        for call in recording.calls:
            if call.gathers:
                where = f"module {call.module!r}" if call.module else "the model itself"
                raise UnsupportedOperation(
                    f"Expected outputs that depend on a part of the image but got {call.operation} in {where}, which "
                    "reads all of it: bl.tile runs all tiles of an image together"
                )
        return cls(recording, args, kwargs or {})

    def each(self, model: nn.Module, image: Any, cuts: Sequence[Sequence[Interval]]) -> Iterator[ImagePart]:
        """Yield the parts of a grid that have outputs."""
        reads = [
            [read_by(self.recording, axis, interval) for interval in intervals] for axis, intervals in enumerate(cuts)
        ]
        for index in np.ndindex(*map(len, cuts)):
            pixels = tuple(intervals[i] for intervals, i in zip(cuts, index, strict=True))
            made = [owned_outputs(self.recording, axis, interval) for axis, interval in enumerate(pixels)]
            if any(all(o[key][0] < o[key][1] for o in made) for key in self.recording.outputs):
                yield self.run(model, image, pixels, [read[i] for read, i in zip(reads, index, strict=True)])

    def run(self, model: nn.Module, image: Any, pixels: Box, read: Sequence[Interval]) -> ImagePart:
        """Run on the pixels of `read`, and keep the cells that belong to `pixels`."""
        read = tuple(read)
        alone = _OnePart(self.recording.size, read, edge_of(model))
        with attached(model, alone), arguments_named(model, self.args, self.kwargs):  # pyright: ignore[reportArgumentType]
            output = model(_pixels(image, read, model), *self.args, **self.kwargs)
        leaves, structure = tree_flatten(output)
        made = [owned_outputs(self.recording, axis, interval) for axis, interval in enumerate(pixels)]
        numbers = iter(self.recording.outputs)
        cells, boxes = [], []
        for leaf in leaves:
            if isinstance(leaf, PartSignal):
                leaf.check_frame()
                number = next(numbers)
                box = tuple(one[number] for one in made)
                cells.append(_cells(leaf, box))
                boxes.append(box)
            else:
                cells.append(leaf)
                boxes.append(None)
        return ImagePart(pixels, read, tree_unflatten(cells, structure), tree_unflatten(boxes, structure))


@dataclass
class _OnePart:
    """Stands for the conversion of a model that runs on one part of an image, from the pixels of `read`."""

    size: tuple[int, ...]
    read: Box
    edge: PartEdge
    images: Any = None  # as a `Conversion` has

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Make a part of a map of the first argument."""
        count = len(self.size)
        place = Place((0,) * count, (True,) * count)
        scope = CarryPass(self.edge, module, place=place, kept=[], exchange=self)
        return (PartSignal.from_part(args[0], [a for a, _ in self.read], self.size, scope), *args[1:]), kwargs

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """Return the output as it is, with its parts of maps."""
        release(module, lambda signal: signal.window)
        return output

    def gather(self, key: int, part: Any, merge: Any) -> Any:
        """Refuse what the plan has not met."""
        raise UnsupportedOperation(
            "Expected the same calls as without values but got an operation over all of space: the path through the "
            "model is another one at each call"
        )


def _cells(signal: PartSignal, box: Box) -> Tensor:
    """Return the cells of `box`, which the part holds, unless it has none."""
    if any(a >= b for a, b in box):
        sizes = list(signal.window.shape)
        for axis, (a, b) in zip(signal.axes, box, strict=True):
            sizes[axis] = b - a
        return signal.window.new_empty(sizes)
    return materialized(cut(signal.window, signal.axes, signal.box, box))


def _compact(leaf: Any) -> Any:
    """Return a tensor without the memory around it."""
    return leaf.clone(memory_format=torch.contiguous_format) if isinstance(leaf, Tensor) else leaf


def _pixels(image: Any, box: Box, model: nn.Module) -> Tensor:
    """Return the pixels of a box as a tensor where the model is."""
    where = (slice(None), slice(None), *(slice(a, b) for a, b in box))
    if isinstance(image, Tensor):
        return image[where]
    cells = torch.as_tensor(np.ascontiguousarray(image[where]))
    parameter = next(model.parameters(), None)
    return cells if parameter is None else cells.to(parameter.device)
