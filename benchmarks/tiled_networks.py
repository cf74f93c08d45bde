"""Tiles against the whole: every network that coverage.md calls exact, and those of other packages, in float64.

    python benchmarks/tiled_networks.py [--only 'timm/*'] [--results runs/tiled_networks.jsonl] [--history]
    python benchmarks/tiled_networks.py --families segmentation medical      # of benchmarks/networks, installed there

Each network, with random weights, gets an image of an odd size in uneven tiles (a seed of its own); dense outputs and
classes are compared with the untouched network on the whole image. One line a network: the largest difference relative
to the largest value, how often parts waited for one another, or the error. An interrupted run goes on where it stopped.
The record has a row a library: how many networks ran, how many of them within 1e-12, and what became of the others.
"""

import argparse
import fnmatch
import importlib
import json
import multiprocessing
import random
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import record
from borderless.partition.outputs import Outputs
from borderless.partition.runner import Grid, Runner
from coverage_networks import build

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.append(str(REPOSITORY))  # for benchmarks.networks
EXACT = 1e-12
ROW = re.compile(r"\| (timm|torchvision)/([\w.]+) \| (?:16 × )?(\d+) \|")


class Case(NamedTuple):
    """A network, the channels of its images, and their size."""

    key: str
    build: Callable[[], nn.Module]
    channels: int
    size: tuple[int, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="PATTERN", default="*")
    parser.add_argument(
        "--families", nargs="*", default=[], help="files of benchmarks/networks, instead of coverage.md"
    )
    parser.add_argument("--results", type=Path, default=REPOSITORY / "runs" / "tiled_networks.jsonl")
    parser.add_argument("--limit-s", type=float, default=300)
    record.add_options(parser, "tiled_networks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    found = read(options.results)
    wanted = [case for case in cases(options.families) if fnmatch.fnmatch(case.key, options.only)]
    for case in wanted:
        if case.key in found:
            continue
        found[case.key] = {"key": case.key} | apart(case, options.limit_s)
        print(found[case.key], flush=True)
        with options.results.open("a") as lines:
            lines.write(json.dumps(found[case.key]) + "\n")
    del options.results
    print(record.save("tiled_networks", options, by_library([found[case.key] for case in wanted])))


def read(results: Path) -> dict[str, dict[str, Any]]:
    lines = results.read_text().splitlines() if results.exists() else []
    return {row["key"]: row for row in map(json.loads, lines)}


def by_library(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    libraries: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        libraries.setdefault(row["key"].partition("/")[0], []).append(row)
    made = []
    for library, own in libraries.items():
        exact = [row for row in own if row.get("error", 1) <= EXACT]
        others = [f"{row['key']}: {row.get('failed', row.get('error'))}" for row in own if row not in exact]
        largest = max((row["error"] for row in exact), default=0.0)
        row = {"library": library, "networks": len(own), "exact": len(exact), "largest_error": largest}
        made.append(row | {"others": "; ".join(others)})
    return made


def cases(families: list[str]) -> Iterator[Case]:
    """Yield the networks of coverage.md, or those of families that take an image alone."""
    for library, name, canvas_px in exact_networks() if not families else ():
        is_clip = "r3d" in name or "mc3" in name or "r2plus1d" in name or name == "s3d"
        height = canvas_px if name == "hrnet_w18_small" else canvas_px + 32
        size = (16, canvas_px, canvas_px) if is_clip else (height, canvas_px)
        yield Case(f"{library}/{name}", partial(build, library, name), 3, size)
    for family in families:
        networks = importlib.import_module(f"benchmarks.networks.{family}").NETWORKS
        alone = importlib.import_module("benchmarks.networks").image_alone
        for key, network in networks.items():
            if network.arguments is alone and network.images is None:
                channels, first, *others = network.shape
                yield Case(key, network.build, channels, (first + 32, *others))


def exact_networks() -> Iterator[tuple[str, str, int]]:
    page = (REPOSITORY / "docs" / "reference" / "coverage.md").read_text(encoding="utf-8")
    section = page[page.index("## Exact") :]
    for line in section[: section.index("\n## ", 1)].splitlines():
        if found := ROW.match(line):
            yield found[1], found[2], int(found[3])


def apart(case: Case, limit_s: float) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(case, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(limit_s) else {"failed": f"no output within {limit_s:.0f} s"}
    except EOFError:
        return {"failed": "the process ended"}
    finally:
        process.kill()
        process.join()


def _child(case: Case, sender: Connection) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        sender.send(compare(case))
    except Exception as error:
        sender.send({"failed": f"{type(error).__name__}: {error}"[:400]})


def compare(case: Case) -> dict[str, Any]:
    """Tiles and whole of one network."""
    torch.manual_seed(0)
    model = case.build().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and scales that are 0 or 1 would hide mistakes
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model = model.double()
    image = torch.randn(1, case.channels, *case.size, dtype=torch.float64)
    with torch.no_grad():
        whole = [leaf for leaf in tree_leaves(model(image)) if isinstance(leaf, Tensor)]
    draw = random.Random(case.key.partition("/")[2])
    grid = Grid(tuple(_cuts(n, draw) for n in case.size))
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
