"""The tiles tab: feature maps of a large image from tiles, joined in the usual ways and by `bl.tile`.

Shapes: images 1 × 3 × 512 × 512; maps of the stages 1 × C × 512/stride × 512/stride, stride 2 to 16.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from borderless.data.photos import load_photo
from borderless.models.packaged import load_packaged, normalize
from borderless.partition.tile import tile
from borderless.playground.panels import Picture, Row, Shown, feature_map
from borderless.report import plots
from borderless.report.numbers import percent

NAME, TITLE = "tiles", "Tiles"
LEAD = (
    "A large image runs tile by tile through the first stages of EfficientNet-Lite0. The maps show how far the joined "
    "feature maps are from those of the whole image: for tiles that are run one by one, for tiles that overlap and are "
    "blended, and for <code>bl.tile</code>."
)
IMAGE_PX = 512
PHOTOS = ("cat", "coffee")
TILES_PX = (64, 128, 256)
OVERLAPS = ("none", "a quarter", "half")
_SHARE = {"none": 0.0, "a quarter": 0.25, "half": 0.5}
# Stages of the network, and the total stride after each.
STRIDES_PX = {1: 2, 2: 4, 3: 8, 4: 16}
# Differences relative to the largest value, by the powers of ten that the colors run over.
_LEAST, _LOW, _HIGH = 1e-8, -8.0, 0.0
_EXACT = 1e-5


def controls(gr: Any) -> dict[str, Any]:
    """Return the controls by their names in the page's address."""
    with gr.Row():
        photo = gr.Radio(list(PHOTOS), value="cat", label="Photograph", min_width=200)
        tile_px = gr.Radio([str(px) for px in TILES_PX], value="128", label="Tile, px", min_width=200)
    with gr.Row():
        overlap = gr.Radio(list(OVERLAPS), value="half", label="Overlap of the blended tiles", min_width=200)
        stages = gr.Slider(1, max(STRIDES_PX), value=3, step=1, label="Stages of the network", min_width=200)
    return {"photo": photo, "tile": tile_px, "overlap": overlap, "stages": stages}


@lru_cache(maxsize=1)
def _packaged() -> Any:
    return load_packaged().requires_grad_(False)


@lru_cache(maxsize=len(STRIDES_PX))
def network(stages: int) -> nn.Module:
    """Return the stem and the first stages, in eval mode."""
    whole = _packaged()
    return nn.Sequential(whole.conv_stem, whole.bn1, *whole.blocks[:stages]).eval()


def joined(model: nn.Module, image: Tensor, tile_px: int, stride_px: int, overlap: float) -> Tensor:
    """Return the outputs of tiles that are run one by one; those that overlap are blended by Gaussian weights.

    Args:
        model: Network of this total stride.
        image: (1, C, height, width), whose sides the tiles divide.
        tile_px: Side of a tile.
        stride_px: Total stride.
        overlap: Share of a tile that the next one covers too.
    """
    side, step_px = tile_px // stride_px, round(tile_px * (1 - overlap))
    weights = gaussian(side) if overlap else torch.ones(side, side)
    total, sums = None, None
    starts = [[*range(0, n - tile_px, step_px), n - tile_px] for n in image.shape[2:]]
    for row, column in product(*starts):
        found = model(image[..., row : row + tile_px, column : column + tile_px])
        if total is None or sums is None:
            height, width = (n // stride_px for n in image.shape[2:])
            total, sums = found.new_zeros(1, found.shape[1], height, width), found.new_zeros(height, width)
        rows, columns = (slice(start // stride_px, start // stride_px + side) for start in (row, column))
        total[..., rows, columns] += weights * found
        sums[rows, columns] += weights
    assert total is not None and sums is not None
    return total / sums


def gaussian(side: int) -> Tensor:
    """Return weights (side, side) that fall off to the edge of a tile, as sliding-window inference blends with them."""
    along = torch.linspace(-1, 1, side)
    return torch.exp(-0.5 * ((along / 0.25) ** 2 + (along[:, None] / 0.25) ** 2))


@lru_cache(maxsize=64)
@torch.inference_mode()
def differences(photo: str, tile_px: int, overlap: str, stages: int) -> dict[str, np.ndarray]:
    """Return, by the way of joining, the largest difference from the whole at each cell, of the largest value."""
    model, image = network(stages), normalize(load_photo(photo, IMAGE_PX))[None]
    whole = model(image)
    stride_px = STRIDES_PX[stages]
    ways = {
        "Tiles one by one": joined(model, image, tile_px, stride_px, 0.0),
        "Overlapping, blended": joined(model, image, tile_px, stride_px, _SHARE[overlap]),
        "bl.tile": tile(model, image, tile=tile_px),
    }
    return {name: ((found - whole).abs().amax(1)[0] / whole.abs().max()).numpy() for name, found in ways.items()}


def shown(photo: str, tile_px: str, overlap: str, stages: float) -> Shown:
    """Return what the tab shows for the values of its controls."""
    found = differences(photo, int(tile_px), overlap, int(stages))
    worst = {name: float(errors.max()) for name, errors in found.items()}
    sentence = (
        f"Tiles of {tile_px} px differ from the whole image by up to {percent(worst['Tiles one by one'])} of the "
        f"largest value one by one, by {percent(worst['Overlapping, blended'])} overlapping and blended, and by "
        f"rounding ({worst['bl.tile']:.0e}) with bl.tile."
    )
    maps = [_map(name, errors) for name, errors in found.items()]
    picture = Picture("Image", _with_tiles(photo, int(tile_px)), f"a photograph ({photo}), cut into tiles", "the tiles")
    heading = "Differences: violet is rounding, green a hundredth of a percent, yellow the largest value itself"
    is_good = worst["bl.tile"] < _EXACT < worst["Tiles one by one"]
    return Shown(sentence, [Row([picture, *maps], heading)], "good" if is_good else "plain")


def _map(title: str, errors: np.ndarray) -> Picture:
    powers = np.log10(np.maximum(errors, _LEAST))
    height, width = errors.shape
    image = feature_map(powers, (0, 0, height, width), low=_LOW, high=_HIGH, colors=plots.SEQUENTIAL)
    largest = errors.max()
    note = f"at most {percent(largest)}" if largest > _EXACT else f"rounding, at most {largest:.0e}"
    return Picture(title, image, f"{title}: differences from the whole image, {note}", note)


def _with_tiles(photo: str, tile_px: int) -> Image.Image:
    pixels = (255 * load_photo(photo, IMAGE_PX)).permute(1, 2, 0).round().to(torch.uint8).numpy()
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for at in range(tile_px, IMAGE_PX, tile_px):
        draw.line([(at, 0), (at, IMAGE_PX)], "white", 3)
        draw.line([(0, at), (IMAGE_PX, at)], "white", 3)
    return image


def frames(photo: str, tile_px: str, overlap: str, _: float) -> Iterator[tuple[dict[str, Any], Shown]]:
    """Yield the number of stages, and what is shown, from the first stage on."""
    for stages in STRIDES_PX:
        yield {"stages": stages}, shown(photo, tile_px, overlap, stages)


def code(photo: str, tile_px: str, overlap: str, stages: float) -> str:  # noqa: ARG001  as of every tab
    """Return a program that prints the differences of tiles one by one and of bl.tile."""
    return f"""\
import torch
from torch import nn

import borderless as bl
from borderless.data.photos import load_photo
from borderless.models.packaged import load_packaged, normalize

network = load_packaged()
model = nn.Sequential(network.conv_stem, network.bn1, *network.blocks[:{int(stages)}]).eval()
image = normalize(load_photo({photo!r}, {IMAGE_PX}))[None]

with torch.inference_mode():
    whole = model(image)
    rows = [torch.cat([model(part) for part in row.split({tile_px}, 3)], 3) for row in image.split({tile_px}, 2)]
    for joined in (torch.cat(rows, 2), bl.tile(model, image, tile={tile_px})):
        print(f"{{(joined - whole).abs().max() / whole.abs().max():.3g}}")
"""
