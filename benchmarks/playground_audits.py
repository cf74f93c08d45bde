"""Audits in the playground, one after another: do memory and disk stay flat?

    python -m benchmarks.playground_audits --count 30

Each audit goes through `audit_tab.run`, as in the page: a thread of its own, a copy of the network, the report. Prints
the resident memory, what lies in the playground's folder, and the threads, after each fifth audit.
"""

import argparse
import os
import tempfile
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from borderless.playground import audit_tab
from borderless.playground.folder import own_folder
from borderless.runtime.malloc import keep_freed_memory


def resident_mib() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def pictures(folder: Path, count: int) -> list[Path]:
    draw = np.random.default_rng(0)
    paths = [folder / f"{i}.png" for i in range(count)]
    for path in paths:
        Image.fromarray(draw.integers(0, 255, (96, 128, 3), dtype=np.uint8)).save(path)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--network", default="timm/test_resnet")
    parser.add_argument("--size", type=int, default=64)
    options = parser.parse_args()
    keep_freed_memory()  # as the command does
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as uploads, own_folder() as folder:
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        paths = pictures(Path(uploads), 4)
        print(f"{options.network}, {len(paths)} images of {options.size} px")
        print("audits  resident MiB  files  bytes on disk  threads")
        for done in range(1, options.count + 1):
            *_, (state, report) = audit_tab.run(paths, options.network, "random", options.size)
            assert state.startswith("done") and report
            if done == 1 or done % 5 == 0:
                kept = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
                print(
                    f"{done:6}  {resident_mib():12.0f}  {len(kept):5}  {sum(kept):13}  {threading.active_count():7}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
