"""`borderless occlude NETWORK IMAGE`: which parts of an image a prediction depends on, as a picture and a record."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from PIL import Image
from torch import Tensor

from borderless.cli.options import MOST_PX, Classes, Seed, Side, split_off_words
from borderless.cli.parsing import parse
from borderless.conversion import convert
from borderless.engine.border import BorderName
from borderless.errors import ImageError
from borderless.models.packaged import class_names
from borderless.models.request import NetworkRequest, slug
from borderless.partition.image_files import open_image
from borderless.placement.occlusion import OcclusionMap, occlude
from borderless.report import plots
from borderless.report.overlay import overlay
from borderless.report.provenance import plain, provenance
from borderless.runtime.devices import check_device
from borderless.runtime.files import check_writable, write_atomically
from borderless.runtime.progress import telling
from borderless.runtime.settings import Range, Settings

USAGE = """\
Usage: borderless occlude NETWORK IMAGE [options]

Hide one window of an image after another, and show how much the probability of a class drops.
NETWORK: a classifier of torchvision, timm/NAME, of the paper, your own as package.module:build,
         or a file of weights with --arch
IMAGE:   .npy, .zarr, .tif, or what Pillow reads (.png, .jpg, …)"""


@dataclass(frozen=True)
class OccludeOptions(Settings):
    """Hide one window of an image after another, and show how much the probability of a class drops."""

    size: Side = 32
    """Height and width of the window, in pixels."""
    stride: Side = 8
    """Pixels from one window to the next."""
    target: Annotated[int | None, Range(0)] = None
    """Number of the class (default: the predicted one)."""
    background: Annotated[float | None, Range(0, 1)] = None
    """Gray that hides a window, 0 to 1 (default: the mean color that the network's images are normalized by)."""
    side: Annotated[int, Range(0, MOST_PX)] = 224
    """Pixels that the shorter side of the image is scaled to; 0: as it is."""
    border: tuple[BorderName, ...] | None = None
    """The border to run the network under: one for all axes, or one for each (default: its original padding)."""
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
    folder: Path | None = None
    """Folder for the picture and the record (default: runs/occlude/NETWORK-IMAGE)."""


MAIN = ("size", "stride", "target", "background", "side", "border", "weights", "arch", "device", "folder")


def execute(words: list[str]) -> None:
    """Hide windows of the image that the second word names from the network that the first one names."""
    (name, image), words = split_off_words(words, 2, "a network and an image", "occlude resnet18 image.jpg")
    options, path = parse(OccludeOptions, words, USAGE, MAIN), Path(image)
    folder = options.folder or Path("runs/occlude") / f"{slug(name)}-{slug(path.stem)}"
    print(occlude_file(name, path, folder, options))
    print(f"The picture is in {folder / 'occlusion.png'}")


def occlude_file(name: str, path: Path, folder: Path, options: OccludeOptions) -> str:
    """Write picture and record to `folder`; return one sentence that says what they show.

    Raises:
        BorderlessError: Network, image and options do not fit one another.
    """
    check_device(options.device)
    check_writable(folder)
    asked = NetworkRequest(name, options.arch, options.weights, options.classes, options.seed)
    picture = _picture(path, options.side)
    mean, deviation = (torch.tensor(values).reshape(3, 1, 1) for values in asked.normalization)
    model = asked.load().to(options.device).eval()
    model = model if options.border is None else convert(model, options.border)
    image = ((picture - mean) / deviation).to(options.device)
    with torch.inference_mode():
        whole = model(image[None])
    if not isinstance(whole, torch.Tensor) or whole.ndim != 2:
        what = f"shape {tuple(whole.shape)}" if isinstance(whole, torch.Tensor) else f"type {type(whole).__name__}"
        raise ImageError(
            f"Expected a classifier, one number per class, but got an output of {what}; use bl.occlude from Python, "
            "with output= and pool=."
        )
    count = whole.shape[1]
    target = int(whole.argmax()) if options.target is None else options.target
    if target >= count:
        raise ImageError(f"Expected --target to be 0 to {count - 1} but got {target}.")
    shown = mean if options.background is None else torch.full((3, 1, 1), options.background)
    with telling("occlude") as tell:
        found = occlude(
            model,
            image,
            options.size,
            options.stride,
            ((shown - mean) / deviation).flatten().tolist(),
            progress=lambda done, total: tell(done / total, f"{done} of {total} windows"),
        )
    likely = _of_class(found, target)
    called = class_names()[target] if count == len(class_names()) else f"class {target}"
    title = f"{called}: {100 * float(likely.whole):.1f} %"
    _draw(picture, likely, title, folder / "occlusion.png")
    record = {
        "network": name,
        "image": path.name,
        "class": target,
        "name": called,
        "probability": float(likely.whole),
        "rows": likely.rows,
        "columns": likely.columns,
        "probabilities": likely.outputs.tolist(),
        "options": plain(options),
        "made_with": provenance(),
    }
    write_atomically(folder / "occlusion.json", json.dumps(record, indent=1))
    worst = int(likely.drops.argmax())
    row, column = likely.rows[worst // len(likely.columns)], likely.columns[worst % len(likely.columns)]
    return (
        f"The probability of {called} is {100 * float(likely.whole):.1f} %, and at least "
        f"{100 * float(likely.outputs.min()):.1f} % with a window hidden: the one at row {row}, column {column}."
    )


def _of_class(found: OcclusionMap, target: int) -> OcclusionMap:
    """Return the map of the probability of a class."""
    outputs, whole = found.outputs.double().softmax(-1)[..., target], found.whole.double().softmax(-1)[target]
    return OcclusionMap(outputs.cpu(), whole.cpu(), found.rows, found.columns, found.size, found.image_size)


def _picture(path: Path, side: int) -> Tensor:
    """Return the image (3, height, width) in [0, 1], its shorter side scaled to `side` pixels, unless that is 0."""
    opened = open_image(path)
    pixels = np.asarray(opened[tuple(slice(None) for _ in opened.shape)])
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3, 4):
        raise ImageError(
            f"Expected an image of 1, 3 or 4 channels in {path} but got an array of shape {pixels.shape}; choose "
            "another one."
        )
    largest = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "iu" else 1
    values = torch.from_numpy(pixels.astype(np.float32) / largest).clamp(0, 1)[:3].expand(3, -1, -1)
    if not side:
        return values
    scale = side / min(values.shape[1:])
    size = (max(1, round(values.shape[2] * scale)), max(1, round(values.shape[1] * scale)))
    whole = Image.fromarray((255 * values).round().byte().permute(1, 2, 0).numpy())
    resized = np.array(whole.resize(size, Image.Resampling.BICUBIC))
    return torch.from_numpy(resized).permute(2, 0, 1).float() / 255


def _draw(picture: Tensor, found: OcclusionMap, title: str, path: Path) -> None:
    heat, pixels = 100 * found.per_pixel().numpy(), picture.permute(1, 2, 0).numpy()
    limit = float(np.nanmax(np.abs(heat)))
    height, width = found.image_size
    figure, axes = plots.new_figure(1, 2, panel_size=(3.0 * height / width + 0.4, 3.4))
    image, over = axes[0]
    image.imshow(pixels)
    image.set_title("image")
    over.imshow(overlay(pixels, heat, limit))
    over.set_title(title)
    for ax in (image, over):
        plots.bare(ax)
    colors = ScalarMappable(Normalize(-limit, limit), plots.DIVERGING)
    bar = figure.colorbar(colors, ax=over, label="drop, percentage points")
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    plots.save(figure, path)
