"""Tiles against the whole image: `bl.tile`, tiles by themselves, and MONAI's sliding_window_inference.

    python benchmarks/tiling.py                        # U-Nets of 8 to 128 channels, 1,024 x 1,024 px
    python benchmarks/tiling.py --size 2048 --tiles 256 512 --runs 5

A row: the largest difference from the whole image relative to its largest logit, the share of pixels whose label
differs, and processor seconds relative to the whole, timed in turn in one process on one thread; medians and quartiles
of `--runs`. MONAI's arms are left out where it is not installed. Weights and image are random, so that labels are easy
to change: the shares say which arms are exact, not how a trained network fares.
"""

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import product

import torch
from torch import Tensor, nn

import borderless as bl
import record
from tile_memory import UNet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="pixels of a side")
    parser.add_argument("--tiles", type=int, nargs="+", default=[128, 256, 512])
    parser.add_argument("--norms", nargs="+", default=["batch", "group"], choices=["batch", "group"])
    parser.add_argument("--base", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    record.add_options(parser, "tiling")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for norm in options.norms for row in compare(norm, options)]
    record.save("tiling", options, rows)


@torch.no_grad()
def compare(norm: str, options: argparse.Namespace) -> list[dict[str, object]]:
    """One network: every arm, in turn."""
    torch.manual_seed(0)
    model = UNet(options.base, norm).eval()
    image = torch.randn(1, 3, options.size, options.size)
    arms: dict[str, Callable[[], Tensor]] = {"whole": lambda: model(image)}
    for tile in options.tiles:
        arms[f"bl.tile, {tile}"] = lambda tile=tile: bl.tile(model, image, tile=tile)
        arms[f"tiles alone, {tile}"] = lambda tile=tile: alone(model, image, tile)
        arms |= monai_arms(model, image, tile)
    whole, seconds, outputs = model(image), {name: [] for name in arms}, {}
    for _ in range(options.runs):
        for name, arm in arms.items():
            start = time.process_time()
            outputs[name] = arm()
            seconds[name].append(time.process_time() - start)
    base = record.spread(seconds["whole"])["median"]
    rows = []
    for name in arms:
        error = float((outputs[name] - whole).abs().max() / whole.abs().max())
        labels = float((outputs[name].argmax(1) != whole.argmax(1)).float().mean())
        times = record.spread([s / base for s in seconds[name]])
        rows.append({"norm": norm, "arm": name, "error": error, "labels": labels, "times": times})
        print(f"{norm:6} {name:32} {error:.0e} {100 * labels:6.2f} % {times['median']:.2f} x", flush=True)
    return rows


def alone(model: nn.Module, image: Tensor, tile: int) -> Tensor:
    """Every tile by itself, with the model's original padding at its edges."""
    height, width = image.shape[2:]
    rows = [
        torch.cat([model(image[..., y : y + tile, x : x + tile]) for x in range(0, width, tile)], 3)
        for y in range(0, height, tile)
    ]
    return torch.cat(rows, 2)


def monai_arms(model: nn.Module, image: Tensor, tile: int) -> dict[str, Callable[[], Tensor]]:
    """MONAI's inferer with its usual overlaps and blends."""
    if find_spec("monai") is None:
        return {}
    from monai.inferers import sliding_window_inference

    return {
        f"MONAI {overlap} {mode}, {tile}": lambda overlap=overlap, mode=mode: sliding_window_inference(
            image, tile, 1, model, overlap=overlap, mode=mode
        )
        for overlap, mode in product((0.25, 0.5), ("constant", "gaussian"))
    }


if __name__ == "__main__":
    main()
