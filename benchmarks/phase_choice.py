"""From what should an adaptive phase be chosen: from a strided operation's input, or from its output at stride 1?

    python benchmarks/phase_choice.py --pairs 200

On an endless canvas both are exact. On real crops content enters and leaves at the edges, and the choice can flip; a
choice from the output also costs the operation at stride 1. The packaged ImageNet network (extra `demo`) sees pairs of
224 px crops of photographs, offsets drawn from [0, 32) in both directions, as Zhang (2019) measures consistency. Per
arm: the share of pairs with the same top-1, with its 95 % interval (bootstrap over pairs), the relative change of the
logits (median), and the time of a forward pass, the arms taking turns. Writes all numbers to --out as JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import borderless as bl
from borderless.lattice import choose_phase
from borderless.models.packaged import load_packaged, normalise
from borderless.rules.registry import find_rule, rule
from borderless.signal import Signal

CROP_PX, RESIZED_PX, OFFSETS_PX = 224, 256, 32
PHOTOGRAPHS = ("astronaut", "cat", "coffee", "rocket", "chelsea", "hubble_deep_field", "immunohistochemistry")


@contextmanager
def chosen_from_the_output() -> Iterator[None]:
    """For the length of the block a strided convolution on a new lattice chooses by what it gives at stride 1."""
    from_input = find_rule(torch.conv2d)

    def from_output(
        function: Any, signal: Signal, weight: Tensor, bias: Any, stride: tuple[int, int], *options: Any
    ) -> Signal:
        if signal.border.is_adaptive and max(stride) > 1 and signal.lattice.coarser(stride) is None:
            dense = from_input(function, signal, weight, bias, (1, 1), *options)
            phase = choose_phase(dense.deviation(), dense.axes, dense.start, stride)
            signal.lattice.coarsen(stride, phase, tuple(s - 1 for s in stride))
        return from_input(function, signal, weight, bias, stride, *options)

    rule(torch.conv2d)(from_output)
    try:
        yield
    finally:
        rule(torch.conv2d)(from_input)


@contextmanager
def as_it_is() -> Iterator[None]:
    yield


def photographs() -> list[Tensor]:
    """[3, 256, width] in [0, 1], the shorter side at 256 px or the next that holds all offsets."""
    import skimage.data
    import skimage.transform

    found = []
    for name in PHOTOGRAPHS:
        try:
            pixels = getattr(skimage.data, name)()
        except (AttributeError, ModuleNotFoundError, OSError):
            continue  # not carried by this version of scikit-image
        scale = RESIZED_PX / min(pixels.shape[:2])
        size = [max(RESIZED_PX, round(side * scale)) for side in pixels.shape[:2]]
        resized = skimage.transform.resize(pixels, size, anti_aliasing=True)
        found.append(torch.from_numpy(np.asarray(resized, np.float32)).permute(2, 0, 1))
    return found


def pairs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two crops of `count` photographs, taken in turn at random places: [count, 3, 224, 224] each."""
    generator = torch.Generator().manual_seed(seed)
    photos, crops = photographs(), ([], [])
    for i in range(count):
        photo = photos[i % len(photos)]
        slack = [side - CROP_PX - OFFSETS_PX + 1 for side in photo.shape[1:]]
        corner = [int(torch.randint(max(1, room), (), generator=generator)) for room in slack]
        for side in crops:
            row, column = (start + int(torch.randint(OFFSETS_PX, (), generator=generator)) for start in corner)
            side.append(photo[:, row : row + CROP_PX, column : column + CROP_PX])
    return torch.stack(crops[0]), torch.stack(crops[1])


def answers(model: nn.Module, crops: Tensor, batch: int) -> Tensor:
    with torch.inference_mode():
        return torch.cat([model(normalise(part)) for part in crops.split(batch)])


def interval(same: Tensor, seed: int) -> tuple[float, float]:
    drawn = torch.randint(len(same), (2000, len(same)), generator=torch.Generator().manual_seed(seed))
    low, high = torch.quantile(same.float()[drawn].mean(1), torch.tensor([0.025, 0.975]))
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--runs", type=int, default=7, help="timed forward passes of each arm")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/phase_choice.json"))
    config = parser.parse_args()

    own = load_packaged()
    adaptive = bl.convert(own, "infinite", phase="adaptive")
    arms = {
        "own padding": (own, as_it_is),
        "infinite, fixed": (bl.convert(own, "infinite"), as_it_is),
        "infinite, from the input": (adaptive, as_it_is),
        "infinite, from the output": (adaptive, chosen_from_the_output),
        "reach 1, from the input": (bl.convert(own, bl.Border("infinite", "adaptive", reach=1)), as_it_is),
        "reach 1, from the output": (
            bl.convert(own, bl.Border("infinite", "adaptive", reach=1)),
            chosen_from_the_output,
        ),
    }
    here, there = pairs(config.pairs, config.seed)
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    for turn in range(config.runs + 1):
        for arm, (model, choice) in arms.items():
            with choice():
                start = time.perf_counter()
                answers(model, here[: config.batch], config.batch)
                if turn:
                    times[arm].append(time.perf_counter() - start)
    rows = []
    for arm, (model, choice) in arms.items():
        with choice():
            first, second = answers(model, here, config.batch), answers(model, there, config.batch)
        same = first.argmax(1) == second.argmax(1)
        change = (first - second).abs().amax(1) / first.abs().amax(1)
        low, high = interval(same, config.seed)
        rows.append(
            {
                "arm": arm,
                "consistency": float(same.float().mean()),
                "interval": [low, high],
                "median_change": float(change.median()),
                "median_ms": 1e3 * statistics.median(times[arm]),
            }
        )
        print(
            f"{arm:28} same top-1 {100 * rows[-1]['consistency']:5.1f} % ({100 * low:.1f}-{100 * high:.1f})  "
            f"change {rows[-1]['median_change']:.3f}  {rows[-1]['median_ms']:6.0f} ms",
            flush=True,
        )
    config.out.parent.mkdir(parents=True, exist_ok=True)
    setting = {"pairs": config.pairs, "batch": config.batch, "seed": config.seed, "torch": torch.__version__}
    config.out.write_text(json.dumps({"setting": setting, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
