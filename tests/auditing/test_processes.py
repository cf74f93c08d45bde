"""An audit shared by several processes gives the numbers of one process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.nightly

COMMAND = ("audit", "timm/test_resnet", "--weights", "random", "--size", "40", "--batch-size", "2")


@pytest.fixture
def photographs(photographs: Path) -> Path:
    (photographs / "broken.png").write_text("not a picture")
    return photographs


def audited(photographs: Path, folder: Path, *launcher: str, options: tuple[str, ...] = ()) -> dict[str, Any]:
    done = subprocess.run(
        [
            sys.executable,
            *launcher,
            "-m",
            "borderless",
            *COMMAND,
            "--images",
            photographs,
            "--folder",
            folder,
            *options,
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The report is in") == 1
    return json.loads((folder / "audit.json").read_text())


def test_two_processes_measure_what_one_does(photographs: Path, tmp_path: Path) -> None:
    alone = audited(photographs, tmp_path / "alone")
    shared = audited(
        photographs,
        tmp_path / "shared",
        *("-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2"),
        options=("--workers", "1"),
    )
    assert alone["images"] == shared["images"]
    assert alone["images"]["count"] == 7
    assert len(alone["images"]["skipped"]) == 1
    assert (alone["missing"], alone["shifts"]) == (shared["missing"], shared["shifts"])
    assert len(alone["border_error"]["layers"]) > 5
    for one, other in zip(alone["border_error"]["layers"], shared["border_error"]["layers"], strict=True):
        assert one["module"] == other["module"]
        np.testing.assert_allclose(one["by_distance"], other["by_distance"], rtol=1e-5, atol=1e-7)
