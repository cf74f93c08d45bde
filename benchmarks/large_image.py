"""A large image through `borderless tile`, zarr to zarr: the most memory, and the bytes after two kills.

    python benchmarks/large_image.py                   # 16,384 × 16,384 px; half an hour on one core
    python benchmarks/large_image.py --size 4096

The image is of random 8-bit pixels, the network a U-Net with random weights. The command runs twice, in processes of
its own: undisturbed, and ended with SIGKILL after a third and again after two thirds of the rows of tiles. A row: the
most memory that was resident in any of its processes, sampled twenty times a second, their processor time, and a digest
of the array, which is to be the same.
"""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import nn

import record
from tile_memory import UNet

KILLED_AT = (1 / 3, 2 / 3)


def network() -> nn.Module:
    """Return the network, for `borderless tile large_image:network`."""
    return UNet(int(os.environ.get("LARGE_IMAGE_BASE", "4")), "batch")


def write_image(path: Path, size: int) -> None:
    """Write random pixels, strip after strip."""
    image = zarr.create_array(path, shape=(3, size, size), dtype=np.uint8, chunks=(3, 512, 512))
    draw = np.random.default_rng(0)
    for row in range(0, size, 512):
        image[:, row : row + 512] = draw.integers(0, 256, (3, min(512, size - row), size), np.uint8)


def run(image: Path, out: Path, options: argparse.Namespace, kill_at: float | None = None) -> tuple[float, float]:
    """Run the command once; return MiB that were resident at most, and processor seconds.

    kill_at: the part of all rows of tiles after which the process is killed; None: it runs to its end.
    """
    words = ["tile", "large_image:network", str(image), str(out), "--scale", "unit", "--tile", str(options.tile)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LARGE_IMAGE_BASE": str(options.base)}
    program = "import sys; from borderless.cli.main import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words], cwd=Path(__file__).parent, env=environment, stderr=subprocess.DEVNULL
    )
    state, most, seconds = out.with_name(f".{out.name}.state"), 0.0, 0.0
    rows, changed = -(-options.size // options.tile), 0
    while process.poll() is None:
        time.sleep(0.05)
        try:
            fields = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            times = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            most = max([most, *(int(line.split()[1]) / 1024 for line in fields if line.startswith("VmHWM"))])
            seconds = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
            now = state.stat().st_mtime_ns
        except (OSError, IndexError):  # it ends, or has no state yet
            continue
        if kill_at is not None and now != changed and _rows_done(state) >= kill_at * rows:
            process.send_signal(signal.SIGKILL)
        changed = now
    if process.returncode != (0 if kill_at is None else -signal.SIGKILL):
        raise RuntimeError(f"Expected the command to end as asked but got the status {process.returncode}.")
    return most, seconds


def _rows_done(state: Path) -> int:
    return int(torch.load(state, weights_only=True)["rows"])


def digest(path: Path) -> str:
    """Return the SHA-256 of the values of an array."""
    array, found = zarr.open(path, mode="r"), hashlib.sha256()
    for row in range(0, array.shape[-2], 512):
        found.update(np.ascontiguousarray(array[..., row : row + 512, :]).tobytes())
    return found.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=16384, help="pixels of a side")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--base", type=int, default=4, help="channels of the first level")
    parser.add_argument("--folder", type=Path, default=None, help="for image and outputs (default: a temporary one)")
    record.add_options(parser, "large_image")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        image, rows = Path(folder) / "image.zarr", []
        write_image(image, options.size)
        for name, kills in (("undisturbed", ()), ("killed twice", KILLED_AT)):
            out = Path(folder) / f"{name.replace(' ', '-')}.zarr"
            found = [run(image, out, options, at) for at in (*kills, None)]
            row: dict[str, Any] = {
                "run": name,
                "most_mib": round(max(most for most, _ in found)),
                "cpu_s": round(sum(seconds for _, seconds in found)),
                "sha256": digest(out)[:16],
            }
            rows.append(row)
            print(row, flush=True)
    same = len({row["sha256"] for row in rows}) == 1
    del options.folder
    print(f"{'the same' if same else 'DIFFERENT'} bytes; the record is in {record.save('large_image', options, rows)}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
