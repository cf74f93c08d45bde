"""The output of a network for a whole image, computed tile after tile."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from borderless.errors import ConversionError, ImageError
from borderless.partition.outputs import Outputs, output_of_whole, targets
from borderless.partition.record import check_parts
from borderless.partition.runner import Grid, Runner
from borderless.partition.sources import Prepare, TiledImage, tiled_image
from borderless.partition.spill import Spill
from borderless.partition.tile_size import choose_tile

# Pixels along each axis of a tile, by the number of axes.
_TILES = {1: 65536, 2: 512, 3: 64}
_UNITS = {
    "": 1,
    "k": 1000,
    "m": 1000**2,
    "g": 1000**3,
    "t": 1000**4,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}


def tile(
    model: nn.Module,
    image: Any,
    *,
    tile: int | Sequence[int] | None = None,
    memory: int | str | None = None,
    out: Any = None,
    prepare: Prepare | None = None,
    progress: Callable[[int, int], Any] | None = None,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> Any:
    """Return the output of `model` for the whole `image`, which is read and computed tile after tile.

    Equal to `model(image)` up to rounding: there are no seams, nothing overlaps and nothing is blended. The model runs
    with its original padding or under the border that it was converted to, in eval mode, without gradients. Operations
    over all of space (global pools, GroupNorm, squeeze-excite) are those of the whole image.

    Args:
        model: An ordinary or a converted model. It runs on the device that its weights are on.
        image: ``(C, *space)`` or ``(N, C, *space)``: a tensor, or an array with a shape and slicing (numpy, memmap,
            zarr, h5py). The first convolution decides how many axes are space.
        tile: Pixels along each axis, one number or one an axis. By default chosen by `memory`.
        memory: Approximate number of bytes to use at a time, besides image and output: a number, or "2GB", "500MiB".
            Where parts wait for one another, what does not fit waits in files (in the folder that TMPDIR names).
        out: Arrays that the output is written to, one or several, laid out as the model's output is. By default new
            tensors, on the image's device.
        prepare: Applied to each tile ``(N, C, *tile)`` on the model's device, for example
            `lambda tile: tile / 255`; it must treat each pixel by itself. Needed for integer images, whose 16-bit
            pixels come as int32.
        progress: Called with the number of tiles that are done, and their total.
        args: Further positional arguments of the model, after the image.
        kwargs: Keyword arguments of the model.

    Raises:
        ImageError: Image, tile, memory or out do not fit.
        ConversionError: The model is in training mode.
        UnsupportedOperation: A function of the model's cannot be computed on parts, or its phase is adaptive.
        StorageError: There is no room for waiting maps or for the output.

    Example:
        >>> import torch, borderless as bl
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.MaxPool2d(2)).eval()
        >>> bl.tile(model, torch.rand(1, 300, 200), tile=128).shape
        torch.Size([4, 150, 100])
    """
    kwargs = kwargs or {}
    check_mode(model)
    check_parts(model)
    source = tiled_image(model, image, prepare)
    most = None if memory is None else parse_memory(memory)
    grid = Grid.regular(source.size, tile_size(model, source, tile, most, args, kwargs))
    if out is not None:
        expected = output_of_whole(model, source, args, kwargs)
        if expected is not None:
            targets(expected, out, source.has_batch)
    device = image.device if isinstance(image, Tensor) else torch.device("cpu")
    outputs = Outputs(out, device, source.has_batch)
    done, count = 0, grid.count

    def emit(box: Any, output: Any) -> None:
        nonlocal done
        outputs.put(box, output)
        done += 1
        if progress is not None:
            progress(done, count)

    Runner(model, args, kwargs, spill=None if most is None else Spill(most)).run(grid, source.read, emit)
    return outputs.whole()


def check_mode(model: nn.Module) -> None:
    """Raise ConversionError for a model in training mode."""
    training = next((name or "the model itself" for name, module in model.named_modules() if module.training), None)
    if training is not None:
        raise ConversionError(
            f"Expected a {type(model).__name__} in eval mode but got one in training mode ({training}), where dropout "
            "and the statistics of batches would differ from tile to tile; call model.eval() first."
        )


def tile_size(
    model: nn.Module,
    image: TiledImage,
    tile: int | Sequence[int] | None,
    memory: int | None,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> tuple[int, ...]:
    """Return the pixels of a tile along each axis: as asked for, or the largest for which `memory` bytes are enough.

    Raises:
        ImageError: `tile` is no number of pixels, or not one an axis, or `memory` is too little.
    """
    size = image.size
    if tile is None and memory is not None:
        return choose_tile(model, (image.shape[0], image.channels, *size), memory, args=args, kwargs=kwargs)
    if tile is None:
        tile = _TILES.get(len(size), _TILES[3])
    steps = (tile,) * len(size) if isinstance(tile, int) else tuple(tile)
    if len(steps) != len(size) or any(
        isinstance(step, bool) or not isinstance(step, int) or step < 1 for step in steps
    ):
        raise ImageError(
            f"Expected tile= to be a number of pixels, at least 1, or {len(size)} of them, one an axis, but got "
            f"{tile!r}."
        )
    return steps


def parse_memory(memory: int | str) -> int:
    """Return a number of bytes.

    >>> parse_memory("2GB"), parse_memory("1.5 GiB"), parse_memory(1000)
    (2000000000, 1610612736, 1000)

    Raises:
        ImageError: It is none.
    """
    match = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]?i?)b?\s*", str(memory).lower())
    try:
        number = float(match[1]) * _UNITS[match[2]] if match else 0.0
    except (KeyError, ValueError):
        number = 0.0
    if number < 1:
        raise ImageError(f'Expected memory= to be a number of bytes, or such as "2GB" or "500MiB", but got {memory!r}.')
    return int(number)
