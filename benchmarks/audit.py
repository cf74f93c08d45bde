"""What the audit's passes cost on top of a bare loop: images per second through the same model at the same batch.

    python benchmarks/audit.py
    python benchmarks/audit.py --model resnet18 --side 128 --batch 16

Each turn runs, one after the other: a bare loop over the images, the pass that predicts them, and the pass that
predicts moved views of them. A pass counts every image that it sends through the model. Then the whole audit once, by
parts. Writes a table to the screen, and the record to --out.
"""

import argparse
import statistics
import time
from typing import Any

import torch
from torch import nn

import borderless as bl
import record
from borderless.auditing.outputs import as_readable, predict
from borderless.data import pictures
from borderless.models import load
from borderless.models.choices import ARCHITECTURE


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=ARCHITECTURE)
    parser.add_argument("--side", type=int, default=224, help="height and width of the images, pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--runs", type=int, default=7, help="timed turns, after one that is not timed")
    record.add_options(parser, "audit")
    return parser.parse_args()


class Counted(nn.Module):
    """A model that counts the images that go through it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.images = model, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.images += len(images)
        return self.model(images)


def main() -> None:
    config = options()
    weights = "packaged" if config.model == ARCHITECTURE else None
    model = Counted(load(config.model, weights).to(memory_format=torch.channels_last)).eval()
    images = torch.stack(list(pictures.photographs(config.side)))

    def bare() -> None:
        with torch.no_grad():
            for batch in images.split(config.batch):
                model(batch)

    readable = as_readable(model, images[0][None], None)

    def predictions() -> None:
        predict(readable, images, None, config.batch, workers=0)

    def moved() -> None:
        bl.consistency(model, images, protocol="circular", passes=1, batch_size=config.batch)

    ways = {"bare loop": bare, "predictions": predictions, "moved views": moved}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(config.runs + 1):
        for name, way in ways.items():
            model.images, start = 0, time.perf_counter()
            way()
            if turn:
                rates[name].append(model.images / (time.perf_counter() - start))
    print(f"{'pass':<12} images/s (quartiles)   of the bare loop's")
    rows = []
    for name, found in rates.items():
        images_per_s = record.spread(found)
        middle, (low, high) = images_per_s["median"], images_per_s["quartiles"]
        share = statistics.median(a / b for a, b in zip(found, rates["bare loop"], strict=True))
        rows.append({"pass": name, "images_per_s": images_per_s, "of_bare_loop": share})
        print(f"{name:<12} {middle:6.1f} ({low:.1f}–{high:.1f})   {share:.2f}")
    parts: dict[str, float] = {}
    running: list[Any] = ["", time.perf_counter()]

    def told(_: float, __: int, step: str) -> None:
        part, now = step.split(" (")[0], time.perf_counter()
        if part == running[0]:
            return
        if running[0]:
            parts[running[0]] = now - running[1]
        running[:] = [part, now]

    start = time.perf_counter()
    bl.audit(model.model, images, batch_size=config.batch, progress=told)
    whole_s = time.perf_counter() - start
    for part, seconds in parts.items():
        print(f"{part:<20} {seconds:6.1f} s")
    print(f"{'the whole audit':<20} {whole_s:6.1f} s, {len(images)} images")
    rows += [{"pass": f"audit: {part}", "seconds": seconds} for part, seconds in {**parts, "all": whole_s}.items()]
    print(f"The record is in {record.save('audit', config, rows)}")


if __name__ == "__main__":
    main()
