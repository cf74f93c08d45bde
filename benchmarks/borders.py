"""What a border costs: multiply-adds, time, time per multiply-add, and peak memory, against the unmodified model.

    python benchmarks/borders.py --model resnet50 --batch 8 --runs 7 --step forward
    python benchmarks/borders.py --model resnet50 --batch 4 --runs 5 --step training

The arms take turns in one process, so that whatever else the machine does hits them alike; medians are reported with
the quartiles. Peak memory is that of a fresh process that runs one arm. On a GPU (--device cuda) TF32 is off.
Writes a table to the screen, and all numbers to --out as JSON.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import borderless as bl
from borderless.models import load

ARMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "unmodified": lambda model: model,
    "zero": lambda model: bl.convert(model, "zero"),
    "full": lambda model: bl.convert(model, "full"),
    "infinite": lambda model: bl.convert(model, "infinite"),
    "infinite, adaptive": lambda model: bl.convert(model, "infinite", phase="adaptive"),
    "infinite, reach 2": lambda model: bl.convert(model, "infinite", reach=2),
}
PUBLISHED = "full as published"  # the paper's own F-Conv network, where `models` has one


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50", help="a name that borderless.models.load knows")
    parser.add_argument("--arms", nargs="*", default=None, help=f"some of: {', '.join([*ARMS, PUBLISHED])}")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224, help="height and width of the images in pixels")
    parser.add_argument("--runs", type=int, default=7, help="timed runs of each arm, after one that is not timed")
    parser.add_argument("--step", choices=["forward", "training"], default="forward")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-memory", action="store_true", help="skip the fresh process for each arm")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder of the JSON file")
    parser.add_argument("--only-memory-of", default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def network(arm: str, config: argparse.Namespace) -> nn.Module:
    torch.manual_seed(0)
    if arm == PUBLISHED:
        model = load(f"fconv_{config.model}")
    else:
        model = ARMS[arm](load(config.model))
    model = model.train(config.step == "training")
    return model.to(config.device, memory_format=torch.channels_last)


def images(config: argparse.Namespace) -> torch.Tensor:
    drawn = torch.randn(config.batch, 3, config.size, config.size, generator=torch.Generator().manual_seed(1))
    return drawn.to(config.device).contiguous(memory_format=torch.channels_last)


def run_once(model: nn.Module, batch: torch.Tensor, step: str) -> None:
    if step == "forward":
        with torch.inference_mode():
            model(batch)
        return
    model.zero_grad(set_to_none=True)
    F.cross_entropy(model(batch), torch.arange(len(batch), device=batch.device)).backward()


def seconds(model: nn.Module, batch: torch.Tensor, step: str) -> float:
    synchronise = torch.cuda.synchronize if batch.is_cuda else lambda: None
    synchronise()
    start = time.perf_counter()
    run_once(model, batch, step)
    synchronise()
    return time.perf_counter() - start


def multiply_adds(model: nn.Module, batch: torch.Tensor) -> float:
    """Of the forward pass of the whole batch."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(batch)
    return counter.get_total_flops() / 2


def peak_mib(arm: str, config: argparse.Namespace) -> float:
    words = [f"--{key.replace('_', '-')}={getattr(config, key)}" for key in ("model", "batch", "size", "step", "device")]
    command = [sys.executable, __file__, *words, f"--only-memory-of={arm}"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def own_peak_mib(arm: str, config: argparse.Namespace) -> float:
    """Peak of a step in this process, above what the model, its images and the libraries take."""
    model, batch = network(arm, config), images(config)
    if batch.is_cuda:
        run_once(model, batch, config.step)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run_once(model, batch, config.step)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    run_once(model, batch[:1, :, :64, :64], config.step)  # libraries are loaded by now
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")  # only Linux tells the peak of a process that began as another
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = _kib(status, "VmRSS")
    run_once(model, batch, config.step)
    return (_kib(status, "VmHWM") - before) / 2**10


def _kib(status: Path, key: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(key))


def measure(config: argparse.Namespace) -> list[dict]:
    arms = config.arms or [*ARMS, *([PUBLISHED] if f"fconv_{config.model}" in bl_names() else [])]
    batch = images(config)
    models = {arm: network(arm, config) for arm in arms}
    macs = {arm: multiply_adds(model, batch) for arm, model in models.items()}
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    for turn in range(config.runs + 1):
        for arm, model in models.items():
            duration = seconds(model, batch, config.step)
            if turn > 0:
                times[arm].append(duration)
    rows = []
    for arm in arms:
        low, median, high = statistics.quantiles(times[arm], n=4)
        # Ratios are taken turn by turn: a slow moment of the machine hits both sides.
        against = [a / b for a, b in zip(times[arm], times[arms[0]], strict=True)]
        cost = macs[arm] / macs[arms[0]]
        rows.append(
            {
                "arm": arm,
                "multiply_adds": macs[arm],
                "cost": cost,
                "median_ms": 1e3 * median,
                "quartiles_ms": [1e3 * low, 1e3 * high],
                "time_ratio": statistics.median(against),
                "time_per_multiply_add": statistics.median(against) / cost,
                "peak_mib": None if config.no_memory else peak_mib(arm, config),
                "times_ms": [1e3 * t for t in times[arm]],
            }
        )
    return rows


def bl_names() -> tuple[str, ...]:
    from borderless.models import names

    return tuple(names())


def table(rows: list[dict]) -> str:
    lines = [
        f"{'arm':20} {'G MACs':>8} {'cost':>6} {'ms':>8} {'quartiles':>15} {'time':>6} {'per MAC':>8} {'peak MiB':>9}"
    ]
    for row in rows:
        low, high = row["quartiles_ms"]
        peak = "" if row["peak_mib"] is None else f"{row['peak_mib']:9.0f}"
        lines.append(
            f"{row['arm']:20} {row['multiply_adds'] / 1e9:8.2f} {row['cost']:6.2f} {row['median_ms']:8.0f} "
            f"{low:7.0f}-{high:<7.0f} {row['time_ratio']:6.2f} {row['time_per_multiply_add']:8.3f} {peak}"
        )
    return "\n".join(lines)


def machine(config: argparse.Namespace) -> dict:
    name = torch.cuda.get_device_name() if config.device.startswith("cuda") else platform.processor() or "CPU"
    return {
        "device": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "tf32": False,
    }


def main() -> None:
    config = options()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if config.only_memory_of is not None:
        print(own_peak_mib(config.only_memory_of, config))
        return
    rows = measure(config)
    setting = {key: getattr(config, key) for key in ("model", "batch", "size", "runs", "step", "device")}
    print(f"{setting}\n{machine(config)}\n\n{table(rows)}")
    config.out.mkdir(parents=True, exist_ok=True)
    path = config.out / f"borders-{config.model.replace('/', '-')}-{config.step}.json"
    path.write_text(json.dumps({"setting": setting, "machine": machine(config), "rows": rows}, indent=1))
    print(f"\nAll numbers are in {path}")


if __name__ == "__main__":
    main()
