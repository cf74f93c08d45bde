"""Draw docs/images/world_map.png: clouds drift over a map of the world, under the original padding and without a seam.

`python docs/world_map.py` (extra `demo`; a few seconds): the network of docs/how-to/axes.md, convolutions that carry
clouds eastward and spread them. The maps go round, and are shown with longitude 0, their first column, in the middle.
"""

import math
from pathlib import Path

import torch
from torch import Tensor, nn

import borderless as bl
from borderless.report import plots

HERE = Path(__file__).parent / "images"
HEIGHT_PX, WIDTH_PX, STEPS, OCTAVES = 120, 240, 48, 20


def waves(seed: int) -> Tensor:
    """Return a picture on the sphere in [0, 1], (1, 1, height, width): waves in all directions."""
    latitude = math.pi * ((torch.arange(HEIGHT_PX) + 0.5) / HEIGHT_PX - 0.5)
    longitude = 2 * math.pi * torch.arange(WIDTH_PX) / WIDTH_PX
    lat, lon = torch.meshgrid(latitude, longitude, indexing="ij")
    points = torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], -1)
    draw, heights = torch.Generator().manual_seed(seed), torch.zeros(HEIGHT_PX, WIDTH_PX)
    for octave in range(1, OCTAVES):
        direction = nn.functional.normalize(torch.randn(3, generator=draw), dim=0)
        phase = 2 * math.pi * torch.rand((), generator=draw)
        heights += torch.cos(1.6 * octave * (points @ direction) + phase) / octave**0.7
    return ((heights - heights.min()) / (heights.max() - heights.min()))[None, None]


def drift() -> nn.Sequential:
    """Return as many steps of wind as there are layers: from the west, and to all sides."""
    step = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    step.weight.data = torch.tensor([[[[0.00, 0.05, 0.00], [0.55, 0.35, 0.00], [0.00, 0.05, 0.00]]]])
    return nn.Sequential(*[step] * STEPS)


@torch.inference_mode()
def main() -> None:
    """Draw the picture."""
    clouds, land, model = waves(4), waves(1)[0, 0] > 0.55, drift()
    arms = {
        "clouds": clouds,
        "original padding": model(clouds),
        '("replicate", "circular")': bl.convert(model, ("replicate", "circular"))(clouds),
    }
    fig, axes = plots.new_figure(1, 3, panel_size=(1.75, 2.6))
    for ax, (title, maps) in zip(axes[0], arms.items(), strict=True):
        shown = maps[0, 0].roll(WIDTH_PX // 2, 1)
        ax.imshow(shown, cmap=plots.SEQUENTIAL, vmin=0, vmax=float(clouds.max()))
        ax.contour(land.roll(WIDTH_PX // 2, 1), levels=[0.5], colors="white", linewidths=0.6)
        ax.set_title(f"{title}\n{100 * float(maps.sum() / clouds.sum()):.0f} % of the clouds")
        plots.bare(ax)
    plots.save(fig, HERE / "world_map.png")


if __name__ == "__main__":
    main()
