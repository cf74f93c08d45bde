"""What memory `bl.tile` takes, beside the whole image at once.

    python benchmarks/tile_memory.py                                # a U-Net of 8 to 128 channels on 2,048 × 2,048
    python benchmarks/tile_memory.py --size 1024 --tiles 128 256 --norm group --memory 50MB

Each arm runs in a process of its own, after a small image: how far the resident set grows above what it was before, the
output included, how far it has grown after, and processor seconds. kept: what the calls keep at the end of a row of
tiles, the rims that the next row reads. `malloc` says how the C library is set: "default", or "mapped" with
MALLOC_MMAP_THRESHOLD_=65536, which gives freed memory back at once. Writes a table to the screen, and the record to
--out.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import borderless as bl
import record
from borderless.engine.torch_internals import tree_leaves
from borderless.partition.runner import Grid, Runner
from borderless.runtime.malloc import give_back_freed_memory

WARM_UP_PX = 64


class UNet(nn.Module):
    """Four strides down and up again, two convolutions a level."""

    def __init__(self, base: int, norm: str) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int) -> nn.Sequential:
            kinds = {"batch": nn.BatchNorm2d, "group": lambda channels: nn.GroupNorm(4, channels)}
            parts = [
                (nn.Conv2d(n, outputs, 3, padding=1), kinds[norm](outputs), nn.ReLU(True)) for n in (inputs, outputs)
            ]
            return nn.Sequential(*parts[0], *parts[1])

        sizes = [base * 2**level for level in range(5)]
        self.down = nn.ModuleList([layer(n, m) for n, m in zip([3, *sizes], sizes, strict=False)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(2 * n, n, 2, 2) for n in sizes[-2::-1]])
        self.join = nn.ModuleList([layer(2 * n, n) for n in sizes[-2::-1]])
        self.head = nn.Conv2d(base, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        skips = []
        for level, down in enumerate(self.down):
            image = down(nn.functional.max_pool2d(image, 2) if level else image)
            skips.append(image)
        skips.pop()
        for up, join in zip(self.up, self.join, strict=True):
            image = join(torch.cat([skips.pop(), up(image)], 1))
        return self.head(image)


def resident_mb(field: str) -> float:
    """VmRSS: now; VmHWM: the most since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def measure(config: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = UNet(config.base, config.norm).eval()
    image = torch.rand(1, 3, config.size, config.size)
    with torch.no_grad():
        model(image[..., :WARM_UP_PX, :WARM_UP_PX])
    give_back_freed_memory()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before, start = resident_mb("VmRSS"), time.process_time()
    if config.tile:
        bl.tile(model, image, tile=config.tile, memory=config.memory)
    else:
        with torch.no_grad():
            model(image)
    seconds, most, after = time.process_time() - start, resident_mb("VmHWM"), resident_mb("VmRSS")
    kept = 0
    if config.tile and config.norm == "batch":
        runner = Runner(model)
        grid = Grid.regular((config.size, config.size), (config.tile, config.tile))
        runner.run(grid, lambda box: image[(..., *(slice(a, b) for a, b in box))], lambda *_: None, range(1))
        cells = [leaf for leaf in tree_leaves([call.state() for call in runner.kept]) if isinstance(leaf, Tensor)]
        kept = sum(one.nbytes for one in cells)
    return {"most_mb": most - before, "after_mb": after - before, "kept_mb": kept / 2**20, "cpu_s": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048, help="height and width of the image, in pixels")
    parser.add_argument("--tiles", type=int, nargs="*", default=[128, 256, 512])
    parser.add_argument("--base", type=int, default=8, help="channels of the first level")
    parser.add_argument("--norm", choices=("batch", "group"), default="batch")
    parser.add_argument("--memory", default=None, help="as of bl.tile: what does not fit waits in files")
    parser.add_argument("--tile", type=int, default=None, help="one arm, in this process: its tile, 0 for the whole")
    record.add_options(parser, "tile_memory")
    config = parser.parse_args()
    if config.tile is not None:
        print(json.dumps(measure(config)))
        return
    rows = []
    print("tile    malloc     most, MB  of whole  after, MB  kept, MB  cpu, s")
    for tile in (0, *config.tiles):
        for malloc in ("default", "mapped") if tile else ("default",):
            environment = {**os.environ, **({"MALLOC_MMAP_THRESHOLD_": "65536"} if malloc == "mapped" else {})}
            words = ["--size", "--base", "--norm", *(["--memory"] if config.memory else [])]
            arm = [word for name in words for word in (name, str(getattr(config, name[2:])))]
            command = [sys.executable, __file__, "--tile", str(tile), *arm]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            row = {"tile": tile or "whole", "malloc": malloc, **json.loads(done.stdout)}
            rows.append(row)
            part = row["most_mb"] / rows[0]["most_mb"]
            numbers = (
                f"{row['most_mb']:11.0f} {part:9.1%} {row['after_mb']:10.0f} {row['kept_mb']:9.1f} {row['cpu_s']:7.1f}"
            )
            print(f"{row['tile']:<7} {malloc:<8} {numbers}", flush=True)
    print(f"\nThe record is in {record.save('tile_memory', config, rows)}")


if __name__ == "__main__":
    main()
