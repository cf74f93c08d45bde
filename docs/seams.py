"""Draw docs/images/seams.png: feature maps of a large image from tiles, and how far each is from the whole.

`python docs/seams.py` (extra `demo`; half a minute on two cores): the first three stages of EfficientNet-Lite0 with its
ImageNet weights on a microscopy image of scikit-image.
"""

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import torch
from skimage.data import immunohistochemistry
from torch import Tensor, nn

import borderless as bl
from borderless.models.packaged import load_packaged, normalize
from borderless.report import plots

HERE = Path(__file__).parent / "images"
TILE_PX, STRIDE_PX, LEAST = 128, 8, 1e-8
SIDE = TILE_PX // STRIDE_PX


def network() -> nn.Module:
    """Return the first three stages, (1, 3, height, width) to (1, 40, height / 8, width / 8)."""
    whole: nn.Module = load_packaged()
    return nn.Sequential(whole.conv_stem, whole.bn1, *whole.blocks[:3]).eval()  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues, reportIndexIssue]


def alone(model: nn.Module, image: Tensor, step_px: int, weights: Tensor) -> Tensor:
    """Return the maps of tiles that begin every `step_px` pixels, joined by the weights of their cells."""
    height, width = (n // STRIDE_PX for n in image.shape[2:])
    total, sums = torch.zeros(1, 40, height, width), torch.zeros(height, width)
    for row, column in product(*(range(0, n - TILE_PX + 1, step_px) for n in image.shape[2:])):
        found = model(image[..., row : row + TILE_PX, column : column + TILE_PX])
        box = tuple(slice(start // STRIDE_PX, start // STRIDE_PX + SIDE) for start in (row, column))
        total[..., *box] += weights * found
        sums[box] += weights
    return total / sums


def gaussian() -> Tensor:
    """Return weights for a tile's cells that fall off to its edge, as sliding-window inference blends with them."""
    along = torch.linspace(-1, 1, SIDE)
    return torch.exp(-0.5 * ((along / 0.25) ** 2 + (along[:, None] / 0.25) ** 2))


@torch.inference_mode()
def main() -> None:
    """Draw the picture."""
    pixels = torch.from_numpy(immunohistochemistry()).permute(2, 0, 1)[None] / 255
    image, model = normalize(pixels), network()
    whole = model(image)
    arms: dict[str, Callable[[], Tensor]] = {
        "tiles one by one": lambda: alone(model, image, TILE_PX, torch.ones(SIDE, SIDE)),
        "overlap of half a tile,\nblended": lambda: alone(model, image, TILE_PX // 2, gaussian()),
        "bl.tile": lambda: bl.tile(model, image, tile=TILE_PX),
    }
    fig, axes = plots.new_figure(1, 4, panel_size=(2.6, 2.5))
    left, *others = axes[0]
    left.imshow(pixels[0].permute(1, 2, 0))
    left.set_title("image, 512 × 512 px")
    shown = None
    for ax, (title, arm) in zip(others, arms.items(), strict=True):
        error = ((arm() - whole).abs().amax(1)[0] / whole.abs().max()).numpy()
        shown = ax.imshow(np.log10(np.maximum(error, LEAST)), cmap=plots.SEQUENTIAL, vmin=-8, vmax=0)
        largest = f"{100 * error.max():.2g} %" if error.max() > 1e-3 else f"{error.max():.0e}"
        ax.set_title(f"{title}\nat most {largest}")
    for ax in axes[0]:
        plots.bare(ax)
    bar = fig.colorbar(shown, ax=list(axes[0]), shrink=0.8, ticks=[-8, -6, -4, -2, 0])
    bar.set_ticklabels(["rounding", "10⁻⁶", "10⁻⁴", "1 %", "100 %"])
    bar.set_label("difference from the whole,\nof the largest value")
    plots.save(fig, HERE / "seams.png")


if __name__ == "__main__":
    main()
