"""What an output for a placed object costs: a whole canvas each, or `bl.place`.

    python benchmarks/placement.py                                        # ResNet-18 and 50, BagNet-33, DenseNet-121
    python benchmarks/placement.py --models resnet18 --borders 0 32 512

The paper's quadrant set-up: objects of 56 px on a canvas of 120 px inside a border of zeros, each at (0, 0) and at
(64, 64) of it, so every object makes two images. The two ways take turns in one process; medians are reported with the
quartiles. The empty canvas runs once for all images and is given by itself; an image's time is what `bl.place` takes
for all of them without it, over their number. Where no cell sees both an object and the edge of the canvas, the two
answers of an object are one and are computed once. Multiply-adds are counted, the answers of the two ways compared.
Writes a table to the screen, and the record to --out.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import borderless as bl
import record
from borderless.models import load

OBJECT_PX, CANVAS_PX, FIRSTS_PX = 56, 120, (0, 64)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["resnet18", "resnet50", "bagnet33", "densenet121"])
    parser.add_argument("--borders", nargs="*", type=int, default=[0, 128, 512], help="pixels of zeros on each side")
    parser.add_argument("--batch", type=int, default=16, help="objects at a time")
    parser.add_argument("--runs", type=int, default=5, help="timed turns, after one that is not timed")
    record.add_options(parser, "placement")
    return parser.parse_args()


def network(name: str) -> nn.Module:
    """With biases and statistics that make the border visible."""
    torch.manual_seed(0)
    model = load(name).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return model.to(memory_format=torch.channels_last)


def whole(model: nn.Module, objects: Tensor, position: tuple[int, int], canvas_px: int) -> Tensor:
    images = torch.zeros(len(objects), 3, canvas_px, canvas_px).contiguous(memory_format=torch.channels_last)
    row, column = position
    images[:, :, row : row + OBJECT_PX, column : column + OBJECT_PX] = objects
    with torch.no_grad():
        return model(images)


def multiply_adds(work: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 2


def measure(name: str, border_px: int, config: argparse.Namespace) -> dict:
    model, canvas_px = network(name), CANVAS_PX + 2 * border_px
    # One object more: the first runs by itself and shows how much memory an object takes.
    objects = torch.randn(config.batch + 1, 3, OBJECT_PX, OBJECT_PX, generator=torch.Generator().manual_seed(1))
    positions = [(border_px + first, border_px + first) for first in FIRSTS_PX]
    began, took = [], []
    model.register_forward_pre_hook(lambda *_: began.append(time.perf_counter()))
    model.register_forward_hook(lambda *_: took.append(time.perf_counter() - began[-1]))

    def placed() -> Tensor:
        return bl.place(model, objects, positions, (canvas_px, canvas_px))

    whole_s, image_s, canvas_s, difference = [], [], [], 0.0
    for turn in range(config.runs + 1):
        took.clear()
        expected = whole(model, objects[:1], positions[1], canvas_px)
        start = time.perf_counter()
        got = placed()
        total_s = time.perf_counter() - start
        dense_s, empty_s = took[:2]
        difference = max(difference, float((got[1, :1] - expected).abs().max() / expected.abs().max()))
        if turn > 0:
            whole_s.append(dense_s)
            image_s.append((total_s - empty_s) / got.shape[:2].numel())
            canvas_s.append(empty_s)
    with torch.no_grad():
        own = multiply_adds(lambda: model(torch.zeros(1, 3, canvas_px, canvas_px)))
    per_image = (multiply_adds(placed) - own) / got.shape[:2].numel()
    return {
        "model": name,
        "border_px": border_px,
        "whole_ms": record.spread([1e3 * s for s in whole_s]),
        "image_ms": record.spread([1e3 * s for s in image_s]),
        "canvas_ms": record.spread([1e3 * s for s in canvas_s]),
        "times": statistics.median(w / o for w, o in zip(whole_s, image_s, strict=True)),
        "multiply_adds_whole": own,
        "multiply_adds_image": per_image,
        "largest_difference": difference,
    }


def text(spread: dict[str, Any]) -> str:
    low, high = spread["quartiles"]
    return f"{spread['median']:7.1f} ({low:.1f}-{high:.1f})"


def main() -> None:
    config = options()
    rows = []
    columns = ("whole, ms", "placed, ms", "empty canvas, ms")
    print("model            border" + "".join(f"{c:>25}" for c in columns) + "   times  of MACs difference")
    for name in config.models:
        for border_px in config.borders:
            row = measure(name, border_px, config)
            rows.append(row)
            fewer = row["multiply_adds_whole"] / row["multiply_adds_image"]
            print(
                f"{name:16} {border_px:6}{text(row['whole_ms']):>25}{text(row['image_ms']):>25}"
                f"{text(row['canvas_ms']):>25} {row['times']:7.1f} {fewer:8.1f} {row['largest_difference']:10.0e}",
                flush=True,
            )
    print(f"\nThe record is in {record.save('placement', config, rows)}")


if __name__ == "__main__":
    main()
