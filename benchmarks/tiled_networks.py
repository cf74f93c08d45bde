"""Tiles against the whole: every network that docs/reference/coverage.md calls exact, in float64.

    python benchmarks/tiled_networks.py [--only 'timm/*'] [--out runs/tiled_networks.jsonl]

Each network, with random weights, gets an image of an odd size in uneven tiles (a seed of its own); dense outputs and
classes are compared with the untouched network on the whole image. One line a network: the largest difference relative
to the largest value, how often parts waited for one another, or the error. An interrupted run goes on where it stopped.
"""

import argparse
import fnmatch
import json
import multiprocessing
import random
import re
import sys
import warnings
from collections.abc import Iterator
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from borderless.partition.outputs import Outputs
from borderless.partition.runner import Grid, Runner
from coverage_networks import build

REPOSITORY = Path(__file__).resolve().parents[1]
ROW = re.compile(r"\| (timm|torchvision)/([\w.]+) \| (?:16 × )?(\d+) \|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="PATTERN", default="*")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "runs" / "tiled_networks.jsonl")
    parser.add_argument("--limit-s", type=float, default=300)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = {json.loads(line)["key"] for line in options.out.read_text().splitlines()} if options.out.exists() else set()
    for library, name, canvas_px in exact_networks():
        key = f"{library}/{name}"
        if key in done or not fnmatch.fnmatch(key, options.only):
            continue
        row = {"key": key} | apart(library, name, canvas_px, options.limit_s)
        print(row, flush=True)
        with options.out.open("a") as lines:
            lines.write(json.dumps(row) + "\n")


def exact_networks() -> Iterator[tuple[str, str, int]]:
    page = (REPOSITORY / "docs" / "reference" / "coverage.md").read_text(encoding="utf-8")
    section = page[page.index("## Exact") :]
    for line in section[: section.index("\n## ", 1)].splitlines():
        if found := ROW.match(line):
            yield found[1], found[2], int(found[3])


def apart(library: str, name: str, canvas_px: int, limit_s: float) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(library, name, canvas_px, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(limit_s) else {"failed": f"no output within {limit_s:.0f} s"}
    except EOFError:
        return {"failed": "the process ended"}
    finally:
        process.kill()
        process.join()


def _child(library: str, name: str, canvas_px: int, sender: Connection) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        sender.send(compare(library, name, canvas_px))
    except Exception as error:
        sender.send({"failed": f"{type(error).__name__}: {error}"[:400]})


def compare(library: str, name: str, canvas_px: int) -> dict[str, Any]:
    """Tiles and whole of one network."""
    torch.manual_seed(0)
    model = build(library, name).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and scales that are 0 or 1 would hide mistakes
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model = model.double()
    is_clip = "r3d" in name or "mc3" in name or "r2plus1d" in name or name == "s3d"
    size = (16, canvas_px, canvas_px) if is_clip else (canvas_px + 32, canvas_px)
    size = size if is_clip or name not in ("hrnet_w18_small",) else (canvas_px, canvas_px)
    image = torch.randn(1, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        whole = [leaf for leaf in tree_leaves(model(image)) if isinstance(leaf, Tensor)]
    draw = random.Random(name)
    grid = Grid(tuple(_cuts(n, draw) for n in size))
    outputs, runner = Outputs(None, torch.device("cpu"), True), Runner(model)
    runner.run(grid, lambda box: image[(..., *(slice(a, b) for a, b in box))], outputs.put)
    got = [leaf for leaf in tree_leaves(outputs.whole()) if isinstance(leaf, Tensor)]
    pairs = list(zip(whole, got, strict=True))
    error = max(float((a - b).abs().max() / a.abs().max().clamp_min(1e-300)) for a, b in pairs)
    return {"error": error, "tiles": [len(cuts) for cuts in grid.cuts], "waits": runner.waits}


def _cuts(n: int, draw: random.Random) -> tuple[tuple[int, int], ...]:
    edges = [0]
    while edges[-1] < n:
        edges.append(min(n, edges[-1] + draw.randint(max(3, n // 6), max(4, n // 3))))
    return tuple(pairwise(edges))


if __name__ == "__main__":
    sys.exit(main())
