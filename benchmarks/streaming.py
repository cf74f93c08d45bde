"""Chunks of a signal through `bl.Stream`, and each by itself, against the whole signal.

    python benchmarks/streaming.py                     # ten seconds of audio at 16 kHz
    python benchmarks/streaming.py --seconds 60 --chunks 320 16000

A row: the largest difference from the whole's output relative to its largest value, the latency in samples, the bytes
that a stream keeps between chunks, processor milliseconds for a chunk, and processor seconds relative to the whole,
timed in turn in one process on one thread; medians and quartiles of `--runs`. The networks are those of the tests
(Demucs-, SEANet- and WaveNet-like) with `--channels` channels and random weights.
"""

import argparse
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import borderless as bl
import record

sys.path.append(str(record.REPOSITORY / "tests" / "tiling"))
from stream_networks import Demucs, Seanet, Wavenet

SAMPLES_PER_SECOND = 16_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--chunks", type=int, nargs="+", default=[320, 1600, 16000], help="samples of a chunk")
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    record.add_options(parser, "streaming")
    options = parser.parse_args()
    torch.set_num_threads(1)
    networks: dict[str, Callable[[], nn.Module]] = {
        "Demucs-like": lambda: Demucs(options.channels, 3),
        "SEANet-like, causal": lambda: Seanet(options.channels),
        "WaveNet-like, causal": lambda: Wavenet(options.channels),
    }
    rows = [row for name, build in networks.items() for row in compare(name, build, options)]
    record.save("streaming", options, rows)


@torch.inference_mode()
def compare(name: str, build: Callable[[], nn.Module], options: argparse.Namespace) -> list[dict[str, object]]:
    """One network: every arm, in turn."""
    torch.manual_seed(0)
    model, signal = build().eval(), torch.randn(1, 1, options.seconds * SAMPLES_PER_SECOND)
    kept: dict[str, tuple[int, int]] = {}

    def streamed(chunk: int) -> Tensor:
        stream, parts = bl.Stream(model), []
        for part in signal.split(chunk, -1):
            parts.append(stream.push(part))
        kept[f"bl.Stream, {chunk}"] = int(stream.latency or 0), stream.nbytes
        return torch.cat([*parts, stream.push(signal[..., :0], last=True)], -1)

    def alone(chunk: int) -> Tensor:
        found = torch.cat([model(part) for part in signal.split(chunk, -1)], -1)
        return nn.functional.pad(found, (0, whole.shape[-1] - found.shape[-1]))  # unpadded layers lose cells

    arms: dict[str, Callable[[], Tensor]] = {"whole": lambda: model(signal)}
    for chunk in options.chunks:
        arms[f"bl.Stream, {chunk}"] = lambda chunk=chunk: streamed(chunk)
        arms[f"chunks alone, {chunk}"] = lambda chunk=chunk: alone(chunk)
    whole, seconds, outputs = model(signal), {arm: [] for arm in arms}, {}
    for _ in range(options.runs):
        for arm, run in arms.items():
            start = time.process_time()
            outputs[arm] = run()
            seconds[arm].append(time.process_time() - start)
    base, rows = record.spread(seconds["whole"])["median"], []
    for arm, output in outputs.items():
        error = float((output - whole).abs().max() / whole.abs().max())
        times = record.spread([s / base for s in seconds[arm]])
        latency, nbytes = kept.get(arm, (None, None))
        size = int(arm.rpartition(" ")[2]) if arm != "whole" else signal.shape[-1]
        each_ms = 1000 * record.spread(seconds[arm])["median"] * size / signal.shape[-1]
        row = {"network": name, "arm": arm, "error": error, "latency": latency, "nbytes": nbytes}
        rows.append({**row, "ms_per_chunk": each_ms, "times": times})
        print(f"{name:22} {arm:22} {error:.0e} {latency} {nbytes} {each_ms:.1f} ms {times['median']:.2f} x", flush=True)
    return rows


if __name__ == "__main__":
    main()
