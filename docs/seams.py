"""Draw docs/images/seams.png: feature maps of a large image from tiles, and how far each is from the whole.

`python docs/seams.py` (extra `demo`; half a minute on two cores): the first three stages of EfficientNet-Lite0 with its
ImageNet weights on a microscopy image of scikit-image.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from skimage.data import immunohistochemistry
from torch import Tensor

import borderless as bl
from borderless.models.packaged import normalize
from borderless.playground.tiles_tab import STRIDES_PX, joined, network
from borderless.report import plots

HERE = Path(__file__).parent / "images"
STAGES, TILE_PX, LEAST = 3, 128, 1e-8


@torch.inference_mode()
def main() -> None:
    """Draw the picture."""
    pixels = torch.from_numpy(immunohistochemistry()).permute(2, 0, 1)[None] / 255
    image, model = normalize(pixels), network(STAGES)
    whole = model(image)
    arms: dict[str, Callable[[], Tensor]] = {
        "tiles one by one": lambda: joined(model, image, TILE_PX, STRIDES_PX[STAGES], 0.0),
        "overlap of half a tile,\nblended": lambda: joined(model, image, TILE_PX, STRIDES_PX[STAGES], 0.5),
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
