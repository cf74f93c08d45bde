"""What an occlusion map costs: a loop over hidden images in batches, Captum's `Occlusion`, or `bl.occlude`.

    python benchmarks/occlusion.py                                     # ResNet-18 and 50, BagNet-33 at 224 px
    python benchmarks/occlusion.py --models resnet18 --sides 1024 --windows 16

Windows of --size px, one every --stride px, or --windows of them along each axis. All ways give the output of the image
too. They take turns in one process, the loop and Captum at the fastest of the --batches, which a first turn finds;
medians are reported with the quartiles, of wall time and of CPU time. The first call on a model plans, and is given by
itself. Multiply-adds are counted, and the outputs of the ways compared. Captum runs where it is installed (it is no
dependency). Writes a table to the screen, and the record to --out.
"""

import argparse
import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import borderless as bl
import record
from borderless.placement.occlusion import firsts
from placement import multiply_adds, network


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["resnet18", "resnet50", "bagnet33"])
    parser.add_argument("--sides", nargs="*", type=int, default=[224], help="height and width of the image, pixels")
    parser.add_argument("--size", type=int, default=32, help="height and width of a window, pixels")
    parser.add_argument("--stride", type=int, default=16, help="pixels between windows")
    parser.add_argument("--windows", type=int, help="windows along each axis, instead of --stride")
    parser.add_argument("--batches", nargs="*", type=int, default=[4, 16, 64], help="batch sizes to choose from")
    parser.add_argument("--runs", type=int, default=5, help="timed turns")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    record.add_options(parser, "occlusion")
    return parser.parse_args()


def looped(model: nn.Module, image: Tensor, size: int, stride: int, batch: int) -> Tensor:
    """Return the outputs of a loop over the image and hidden images, in batches: the image's is the first."""
    places = firsts(image.shape[-1], size, stride)
    corners: list[tuple[int, int] | None] = [None, *((row, column) for row in places for column in places)]
    outputs = []
    with torch.no_grad():
        for first in range(0, len(corners), batch):
            some = corners[first : first + batch]
            hidden = image.repeat(len(some), 1, 1, 1)
            for one, corner in zip(hidden, some, strict=True):
                if corner is not None:
                    one[:, corner[0] : corner[0] + size, corner[1] : corner[1] + size] = 0
            outputs.append(model(hidden))
    return torch.cat(outputs)


def by_captum(model: nn.Module, image: Tensor, size: int, stride: int, batch: int) -> Tensor:
    """Return Captum's attribution of class 0."""
    from captum.attr import Occlusion  # pyright: ignore[reportMissingImports]

    with torch.no_grad():
        return Occlusion(model).attribute(
            image, (3, size, size), (3, stride, stride), target=0, perturbations_per_eval=batch
        )


def timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def _fastest(way: Callable[[int], Tensor], batches: list[int]) -> int:
    return min(batches, key=lambda batch: timed(lambda: way(batch))[1])


def measure(name: str, side: int, config: argparse.Namespace) -> dict[str, Any]:
    model = network(name)
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    image = image.contiguous(memory_format=torch.channels_last)
    stride = config.stride if config.windows is None else max(1, (side - config.size) // (config.windows - 1))

    def occluded() -> Tensor:
        found = bl.occlude(model, image, config.size, stride)
        return torch.cat([found.whole[None], found.outputs.flatten(0, 1)])

    ways: dict[str, Callable[[int], Tensor]] = {"loop": lambda batch: looped(model, image, config.size, stride, batch)}
    if importlib.util.find_spec("captum") is not None and stride <= config.size:  # which Captum asks for
        ways["captum"] = lambda batch: by_captum(model, image, config.size, stride, batch)
    first_wall_s, first_cpu_s = timed(occluded)
    best = {way: _fastest(ways[way], config.batches) for way in ways}
    work = {way: lambda way=way: ways[way](best[way]) for way in ways} | {"occlude": occluded}
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in work}
    for _ in range(config.runs):
        for way in work:
            found[way].append(timed(work[way]))
    expected, got = work["loop"](), occluded()
    row: dict[str, Any] = {
        "model": name,
        "side_px": side,
        "windows": len(expected) - 1,
        "stride_px": stride,
        "batches": best,
        "first_wall_s": first_wall_s,
        "first_cpu_s": first_cpu_s,
    }
    for i, kind in enumerate(("wall", "cpu")):
        for way, runs in found.items():
            row[f"{way}_{kind}_s"] = record.spread([run[i] for run in runs])
            if way != "occlude":
                quotients = [run[i] / ours[i] for run, ours in zip(runs, found["occlude"], strict=True)]
                row[f"{way}_times_{kind}"] = statistics.median(quotients)
    row["multiply_adds_loop"], row["multiply_adds"] = multiply_adds(work["loop"]), multiply_adds(occluded)
    row["largest_difference"] = float((got - expected).abs().max() / expected.abs().max())
    return row


def main() -> None:
    config = options()
    torch.set_num_threads(config.threads)
    rows = []
    print("model        side windows  loop, CPU s  occlude, CPU s  first  times (wall)  of Captum  of MACs difference")
    for name in config.models:
        for side in config.sides:
            row = measure(name, side, config)
            rows.append(row)
            captum = f"{row['captum_times_cpu']:.2f}" if "captum_times_cpu" in row else "-"
            fewer = row["multiply_adds_loop"] / row["multiply_adds"]
            loop_s, ours_s = (row[f"{way}_cpu_s"]["median"] for way in ("loop", "occlude"))
            print(
                f"{name:12} {side:4} {row['windows']:7}{loop_s:13.2f}"
                f"{ours_s:16.2f}{row['first_cpu_s']:7.2f}{row['loop_times_cpu']:7.2f} ({row['loop_times_wall']:.2f})"
                f"{captum:>11}{fewer:9.2f} {row['largest_difference']:10.0e}",
                flush=True,
            )
    path = record.save("occlusion", config, rows, load_1_min=os.getloadavg()[0])
    print(f"\nThe record is in {path}")


if __name__ == "__main__":
    main()
