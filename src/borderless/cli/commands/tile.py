"""`borderless tile NETWORK IMAGE OUT`: the output of a network for a large image, tile after tile, into a file."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from borderless.cli.options import Classes, Seed, split_off_words
from borderless.cli.parsing import parse
from borderless.errors import ImageError, RunInterrupted
from borderless.models.request import NetworkRequest
from borderless.partition.bands import Work, tile_on_ray
from borderless.partition.image_files import Channels, open_image
from borderless.partition.output_files import OutputFile, named_leaves
from borderless.partition.outputs import output_of_whole
from borderless.partition.resume import tile_to_file
from borderless.partition.runner import Grid, Runner
from borderless.partition.sources import Prepare, TiledImage, tiled_image
from borderless.partition.spill import Spill
from borderless.partition.tile import check_mode, parse_memory, tile_size
from borderless.runtime.devices import check_device
from borderless.runtime.settings import Range, Settings

Values = Literal["output", "labels", "picture"]


USAGE = """\
Usage: borderless tile NETWORK IMAGE OUT [options]

Run a network on a large image, tile after tile, and write its output, equal to that of the whole image.
NETWORK: a network of torchvision, timm/NAME, of the paper, your own as package.module:build,
         or a file of weights with --arch
IMAGE:   .npy, .zarr, .tif, or what Pillow reads (.png, .jpg, …)
OUT:     .zarr, .tif, .npy or .png"""


@dataclass(frozen=True)
class TileOptions(Settings):
    """Run a network on a large image, tile after tile, and write its output: equal to that of the whole image."""

    tile: Annotated[int | None, Range(1)] = None
    """Pixels along each axis of a tile (default: chosen by --memory)."""
    memory: str | None = None
    """About how much memory to use, such as 2GB or 500MiB; the rest waits in files in the folder TMPDIR."""
    values: Values = "output"
    """Write the output as it is, labels (the largest channel), or a picture (0 to 1 as 0 to 255)."""
    output: str = ""
    """Name of the output of a network with several (default: all, as arrays of one .zarr)."""
    scale: Literal["network", "unit", "none"] = "network"
    """Scale integer pixels as the network's images are, to 0 to 1, or not at all."""
    channels: Channels = "auto"
    """Axis of the image with the channels; auto: the last one of pictures, else the first."""
    weights: str = ""
    """default, packaged, random, or a name of the library's weights; downloaded where needed (default: pretrained)."""
    arch: str = ""
    """Architecture of a file of weights: NAME of torchvision, timm/NAME, or of the paper."""
    classes: Classes = None
    """Number of classes of a network from a file (default: its architecture's)."""
    seed: Seed = 0
    """Random seed of random weights."""
    device: str = "cpu"
    """Device of the network: cpu, cuda, cuda:1, …"""
    engine: Literal["local", "ray"] = "local"
    """Run tiles in this process (local), or bands of the image on Ray workers (ray)."""
    address: str | None = None
    """Address of a running Ray cluster (default: RAY_ADDRESS, else one started on this machine)."""
    bands: Annotated[int | None, Range(1)] = None
    """With --engine ray, number of bands that the image is cut into (default: as many as the cluster has room for)."""


MAIN = ("tile", "memory", "values", "output", "scale", "weights", "arch", "classes", "device", "engine")


def execute(words: list[str]) -> None:
    """Run the network that the first word names on an image, and write its output."""
    (name, image, out), words = split_off_words(
        words, 3, "a network, an image and an output", "tile resnet18 image.tif output.zarr"
    )
    tile_file(name, Path(image), Path(out), parse(TileOptions, words, USAGE, MAIN))
    print(f"The output is in {out}")


def tile_file(name: str, image_path: Path, out_path: Path, options: TileOptions) -> None:
    """Write the output of the network `name` for an image in a file to `out_path`.

    Raises:
        BorderlessError: Network, image or output do not fit one another.
    """
    check_device(options.device)
    asked = NetworkRequest(name, options.arch, options.weights, options.classes, options.seed)
    opened = open_image(image_path, options.channels)
    model: nn.Module = AsAsked(asked.load().to(options.device), options.output, options.values).eval()
    check_mode(model)
    prepare = _scaled(opened, options.scale, asked)
    image = tiled_image(model, opened, prepare)
    memory = None if options.memory is None else parse_memory(options.memory)
    grid = Grid.regular(image.size, tile_size(model, image, options.tile, memory))
    expected = output_of_whole(model, image, (), {})
    if expected is None:
        raise ImageError(
            f"Expected to learn the shape of the output of {name} without computing it but could not: its path depends "
            "on values; use bl.tile from Python."
        )
    out = OutputFile(out_path, expected, image.has_batch)
    settings = repr((options.values, options.output, options.scale, options.channels))
    identity = {"image": _identity(image_path, image), "settings": settings}
    columns = TextColumn("tiles"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    try:
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("", total=grid.count)

            def progress(done: int, count: int) -> None:
                bar.update(task, completed=done, total=count)

            if options.engine == "ray":
                opener = partial(open_image, image_path.resolve(), options.channels)
                work = Work(model, opener, prepare, grid, (), {}, torch.get_num_threads())
                tile_on_ray(work, image, out, expected, identity, progress, options.address, options.bands)
            else:
                spill = None if memory is None else Spill(memory)
                tile_to_file(Runner(model, spill=spill), image, grid, out, identity, progress)
    except KeyboardInterrupt:
        raise RunInterrupted("stopped; the same command resumes after the last row of tiles that is done") from None


class AsAsked(nn.Module):
    """A network that gives one of its outputs, or labels or a picture instead of it."""

    def __init__(self, network: nn.Module, output: str, values: Values) -> None:
        super().__init__()
        self.network, self.output, self.values = network, output, values

    def forward(self, image: Tensor) -> Any:
        """Return the output for an image (N, C, *space); 8-bit labels (N, *space), or an 8-bit picture."""
        given = self.network(image)
        if self.output:
            named = named_leaves(given)
            if self.output not in named:
                raise ImageError(
                    f"Expected --output to be one of {', '.join(map(repr, named))} but got {self.output!r}; name one."
                )
            given = named[self.output]
        if self.values == "output":
            return given
        named = named_leaves(given)
        if len(named) == 1:
            (given,) = named.values()
        else:
            names = ", ".join(map(repr, named))
            raise ImageError(f"Expected one output for --values {self.values} but got {names}; name one with --output.")
        if self.values == "picture":
            return (given.clamp(0, 1) * 255).round().to(torch.uint8)
        return given.argmax(1).to(torch.uint8 if given.shape[1] <= 256 else torch.int32)


class Scaled(NamedTuple):
    """Makes a tile (N, C, *tile) what networks take: float32, integers scaled by the `largest` and normalized."""

    largest: int | None
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)

    def __call__(self, tile: Tensor) -> Tensor:
        """Return the tile; one of a single channel gets as many as there are means."""
        if self.largest is None:
            return tile.float()
        sizes = (-1, *(1,) * (tile.ndim - 2))
        mean, deviation = (tile.new_tensor(v, dtype=torch.float32).reshape(sizes) for v in (self.mean, self.deviation))
        return (tile.float() / self.largest - mean) / deviation


def _scaled(pixels: Any, scale: str, asked: NetworkRequest) -> Prepare:
    kind = np.dtype(pixels.dtype)
    if kind.kind not in "iu" or scale == "none":
        return Scaled(None)
    largest = int(np.iinfo(kind).max)
    if scale == "unit":
        return Scaled(largest)
    mean, deviation = asked.normalization
    channels = pixels.shape[-3]
    if channels not in (1, len(mean)):
        raise ImageError(
            f"Expected an image of 1 or {len(mean)} channels, to normalize them as {asked.name}'s images, but got "
            f"{channels}; give --scale unit or none, or --channels if another axis has the channels."
        )
    return Scaled(largest, tuple(mean), tuple(deviation))


def _identity(path: Path, image: TiledImage) -> str:
    """Return what changes where an image in a file does."""
    files = [path, *sorted(path.glob("*.json")), *sorted(path.glob(".z*"))] if path.is_dir() else [path]
    stamps = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    return repr((str(path.resolve()), image.shape, stamps))
