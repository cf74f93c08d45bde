"""The paper's trainings as `docs/how-to/cluster.md` starts them, on tiny data of the same layout, in two processes.

`patch-matching`, whose loss is that of a whole batch, trains a cell in one process.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.labeled_images import write_folder
from support.phototour import write_scene
from support.videos import write_ucf101

SCENES = {"yosemite": 40, "notredame": 36, "liberty": 36}
# torchvision holds how many patches the scenes of the real data set have.
PROGRAM = f"""
import sys
from torchvision.datasets import PhotoTour
PhotoTour.lens = { ({name: 3 * points for name, points in SCENES.items()}) }
from borderless.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
TRAINED = ("--epochs", "1", "--batch-size", "4", "--seeds", "1")


def imagenet(root: Path) -> Path:
    write_folder(root / "train", {"a": 24, "b": 24})
    write_folder(root / "val", {"a": 6, "b": 6}, first=100)
    return root


def phototour(root: Path) -> Path:
    for name, points in SCENES.items():
        write_scene(root, name, points)
    return root


def ucf101(root: Path) -> Path:
    write_ucf101(root)
    return root / "videos"


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "write", "options"),
    [
        ("shifts", imagenet, ("--archs", "small", "--arms", "own-moved", "recipe", "--passes", "1")),
        ("data-efficiency", imagenet, ("--arch", "small", "--arms", "own-moved", "recipe", "--per-class", "4")),
        ("patch-matching", phototour, ("--pairs", "8", "--arms", "same", "full")),
        ("actions", ucf101, ("--archs", "small", "--arms", "same", "full")),
    ],
)
def test_they_train_and_the_same_command_goes_on(
    tmp_path: Path, name: str, write: Callable[[Path], Path], options: tuple[str, ...]
) -> None:
    program, folder = tmp_path / "program.py", tmp_path / "run"
    program.write_text(PROGRAM)
    data = write(tmp_path / "data")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2"]
    command = [sys.executable, *([] if name == "patch-matching" else torchrun), str(program)]
    command += ["run", name, "--data", str(data), *TRAINED, *options, "--folder", str(folder)]

    def run() -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)

    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    results = {path: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*/result.json"))}
    assert len(results) == 2 and (folder / "report.html").stat().st_size > 10_000
    lost, kept = results
    lost.unlink()  # as if the machine had gone down before it was written
    assert (again := run()).returncode == 0, again.stdout + again.stderr
    assert kept.read_text(encoding="utf-8") == results[kept]
    before, after = (json.loads(text)["metrics"] for text in (results[lost], lost.read_text(encoding="utf-8")))
    single = [key for key, value in before.items() if isinstance(value, float)]
    assert [after[key] for key in single] == pytest.approx([before[key] for key in single], rel=1e-4)
