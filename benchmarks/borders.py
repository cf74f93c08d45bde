"""What a border costs: multiply-adds, time, time per multiply-add, and peak memory, against the unmodified model.

    python benchmarks/borders.py --model resnet50 --batch 8 --runs 7 --step forward
    python benchmarks/borders.py --model resnet50 --batch 4 --runs 5 --step training
    python benchmarks/borders.py --arms unmodified "unmodified, compiled" infinite "infinite, frozen"

The arms take turns in one process, so that whatever else the machine does hits them alike; medians are reported with
the quartiles. Peak memory is the largest sum of bytes of tensors alive at a time, less the model and its images.
On a GPU (--device cuda) TF32 is off.
Writes a table to the screen, and the record to --out.
"""

import argparse
import statistics
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import borderless as bl
import record
from borderless.models import load, names

ARMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "unmodified": lambda model: model,
    "zero": lambda model: bl.convert(model, "zero"),
    "full": lambda model: bl.convert(model, "full"),
    "infinite": lambda model: bl.convert(model, "infinite"),
    "infinite, adaptive": lambda model: bl.convert(model, "infinite", phase="adaptive"),
    "infinite, reach 2": lambda model: bl.convert(model, "infinite", reach=2),
}
FROZEN = {  # programs of `bl.freeze`, for the forward pass
    "unmodified, compiled": lambda model, _: torch.compile(model),
    "infinite, frozen": lambda model, batch: bl.freeze(bl.convert(model, "infinite"), batch).module(),
    "infinite, frozen, compiled": lambda model, batch: torch.compile(
        bl.freeze(bl.convert(model, "infinite"), batch).module()
    ),
}
PUBLISHED = "full as published"  # the paper's own F-Conv network, where `models` has one


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50", help="a name that borderless.models.load knows")
    parser.add_argument("--arms", nargs="*", default=None, help=f"some of: {', '.join([*ARMS, *FROZEN, PUBLISHED])}")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224, help="height and width of the images in pixels")
    parser.add_argument("--runs", type=int, default=7, help="timed runs of each arm, after one that is not timed")
    parser.add_argument("--step", choices=["forward", "training"], default="forward")
    parser.add_argument("--device", default="cpu")
    record.add_options(parser, "borders")
    return parser.parse_args()


def network(arm: str, config: argparse.Namespace, batch: torch.Tensor) -> nn.Module:
    torch.manual_seed(0)
    model = load(f"fconv_{config.model}" if arm == PUBLISHED else config.model)
    model = model.train(config.step == "training").to(config.device, memory_format=torch.channels_last)
    if arm in FROZEN:
        return FROZEN[arm](model, batch)
    return model if arm == PUBLISHED else ARMS[arm](model)


def images(config: argparse.Namespace) -> torch.Tensor:
    drawn = torch.randn(config.batch, 3, config.size, config.size, generator=torch.Generator().manual_seed(1))
    return drawn.to(config.device).contiguous(memory_format=torch.channels_last)


def run_once(model: nn.Module, batch: torch.Tensor, step: str) -> None:
    if step == "forward":
        with torch.no_grad():
            model(batch)
        return
    model.zero_grad(set_to_none=True)
    F.cross_entropy(model(batch), torch.arange(len(batch), device=batch.device)).backward()


def seconds(model: nn.Module, batch: torch.Tensor, step: str) -> float:
    synchronize = torch.cuda.synchronize if batch.is_cuda else lambda: None
    synchronize()
    start = time.perf_counter()
    run_once(model, batch, step)
    synchronize()
    return time.perf_counter() - start


def multiply_adds(model: nn.Module, batch: torch.Tensor) -> float:
    """Of the forward pass of the whole batch."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(batch)
    return counter.get_total_flops() / 2


class LivePeak(TorchDispatchMode):
    """The largest sum of bytes of all tensors that live at one time, those that were there before not counted."""

    def __init__(self, before: nn.Module, batch: torch.Tensor) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = {t.untyped_storage()._cdata for t in (*before.parameters(), *before.buffers(), batch)}

    def __torch_dispatch__(
        self, func: Any, _: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if type(tensor) is torch.Tensor and tensor.device.type != "meta":
                self._follow(tensor.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or size == 0:
            return

        def freed() -> None:
            self.live -= size
            self._known.discard(key)

        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, freed)


def peak_mib(model: nn.Module, batch: torch.Tensor, step: str) -> float:
    model.zero_grad(set_to_none=True)
    with LivePeak(model, batch) as memory:
        run_once(model, batch, step)
    return memory.peak / 2**20


def measure(config: argparse.Namespace) -> list[dict]:
    arms = config.arms or [*ARMS, *([PUBLISHED] if f"fconv_{config.model}" in names() else [])]
    batch = images(config)
    models = {arm: network(arm, config, batch) for arm in arms}
    macs = {arm: multiply_adds(getattr(model, "_orig_mod", model), batch) for arm, model in models.items()}
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    for turn in range(config.runs + 1):
        for arm, model in models.items():
            duration = seconds(model, batch, config.step)
            if turn > 0:
                times[arm].append(duration)
    rows = []
    for arm in arms:
        # Ratios are taken turn by turn: a slow moment of the machine hits both sides.
        against = [a / b for a, b in zip(times[arm], times[arms[0]], strict=True)]
        cost = macs[arm] / macs[arms[0]]
        rows.append(
            {
                "arm": arm,
                "multiply_adds": macs[arm],
                "cost": cost,
                "ms": record.spread([1e3 * t for t in times[arm]]),
                "time_ratio": statistics.median(against),
                "time_per_multiply_add": statistics.median(against) / cost,
                "peak_mib": peak_mib(models[arm], batch, config.step),
            }
        )
    return rows


def table(rows: list[dict]) -> str:
    lines = [
        f"{'arm':20} {'G MACs':>8} {'cost':>6} {'ms':>8} {'quartiles':>15} {'time':>6} {'per MAC':>8} {'peak MiB':>9}"
    ]
    for row in rows:
        low, high = row["ms"]["quartiles"]
        lines.append(
            f"{row['arm']:20} {row['multiply_adds'] / 1e9:8.2f} {row['cost']:6.2f} {row['ms']['median']:8.0f} "
            f"{low:7.0f}-{high:<7.0f} {row['time_ratio']:6.2f} {row['time_per_multiply_add']:8.3f} "
            f"{row['peak_mib']:9.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    config = options()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    rows = measure(config)
    print(table(rows))
    print(f"\nThe record is in {record.save('borders', config, rows, tf32=False)}")


if __name__ == "__main__":
    main()
