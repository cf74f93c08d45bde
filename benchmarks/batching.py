"""Images of unequal sizes in one batch: `bl.batched` against the same batch padded with zeros, which is wrong.

    python benchmarks/batching.py                          # batch 16, sides from 112 to 224 px
    python benchmarks/batching.py --networks resnet50 --backward

Sides are drawn evenly, in steps of 16 px, between half of --size and --size; one image has --size on both. The two
arms, and a loop over single images, take turns in one process; times are processor seconds relative to the padded batch
of the same turn.
`error` is the largest difference of each arm from the image alone, relative to the largest value. Other jobs on the
machine (`load`, the mean number of running processes) stretch all arms.
"""

import argparse
import os
import random
import time
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
import record
from tile_memory import UNet

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": torchvision.models.resnet18,
    "resnet50": torchvision.models.resnet50,
    "mobilenet_v3_large": torchvision.models.mobilenet_v3_large,
    "efficientnet_b0": torchvision.models.efficientnet_b0,
    "convnext_tiny": torchvision.models.convnext_tiny,
    "densenet121": torchvision.models.densenet121,
    "unet_batch_norm": lambda: UNet(16, "batch"),
    "unet_group_norm": lambda: UNet(16, "group"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224, help="pixels of the largest side")
    parser.add_argument("--runs", type=int, default=5, help="timed turns, after one that is not timed")
    parser.add_argument("--backward", action="store_true", help="also time gradients for all parameters")
    record.add_options(parser, "batching")
    options = parser.parse_args()
    rows = [compare(name, options) for name in options.networks]
    record.save("batching", options, rows, load=os.getloadavg()[0])


def compare(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One network: all arms, in turn."""
    torch.manual_seed(0)
    draw = random.Random(0)
    model = NETWORKS[name]().eval()
    steps = options.size // 32, options.size // 16  # U-Nets want multiples of 16
    sides = [[16 * draw.randint(*steps) for _ in range(2)] for _ in range(options.batch - 1)]
    images = [torch.randn(3, *side) for side in [*sides, [options.size] * 2]]
    arms: dict[str, Callable[[], Any]] = {
        "padded": lambda: model(padded(images)),
        "batched": lambda: bl.batched(model, images),
        "alone": lambda: [model(image[None])[0] for image in images],
    }
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    with torch.set_grad_enabled(options.backward):
        for turn in range(options.runs + 1):
            for arm, run in arms.items():
                start = time.process_time()
                output = run()
                if options.backward:
                    torch.stack([one.float().sum() for one in output]).sum().backward()
                if turn:
                    seconds[arm].append(time.process_time() - start)
    with torch.no_grad():
        outputs = {arm: run() for arm, run in arms.items()}
    times = {
        arm: record.spread([own / base for own, base in zip(seconds[arm], seconds["padded"], strict=True)])
        for arm in ("batched", "alone")
    }
    errors = {f"error_{arm}": error(outputs[arm], outputs["alone"]) for arm in ("padded", "batched")}
    print(f"{name:20} {times['batched']['median']:.2f} x {errors['error_batched']:.0e}", flush=True)
    return {"network": name, **times, **errors, "padded_s": record.spread(seconds["padded"])}


def padded(images: list[Tensor]) -> Tensor:
    """All images at the upper left of a batch, with zeros after them."""
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    return torch.stack([F.pad(one, (0, width - one.shape[2], 0, height - one.shape[1])) for one in images])


def error(found: Any, expected: list[Tensor]) -> float:
    """The largest difference on the frames of the images, relative to the largest value."""
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        own = one[tuple(slice(n) for n in other.shape)]
        worst = max(worst, float((own - other).abs().max() / other.abs().max()))
    return worst


if __name__ == "__main__":
    main()
