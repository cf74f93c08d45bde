"""Trainings that are killed, and trainings of several processes, end like one that ran alone and undisturbed."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from support.trainee import run_an_experiment, train

# One worker of pytest-xdist, so that what several processes are compared with is trained once.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("training_processes")]

_PATH = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
ENVIRONMENT = {**os.environ, "PYTHONPATH": _PATH, "OMP_NUM_THREADS": "1"}
TOGETHER = ("plain", "norms", "parts")


def start(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def torchrun(folder: Path, *options: object) -> "subprocess.Popen[str]":
    return start(
        "-m", "torch.distributed.run", *options, "-m", "support.trainee", folder, *TOGETHER, "apart", "experiment"
    )


def finish(*processes: "subprocess.Popen[str]") -> None:
    for process in processes:
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output


def record(folder: Path, name: str) -> dict[str, Any]:
    return torch.load(folder / f"{name}.pt")


def test_killed_at_any_moment_it_ends_with_the_same_weights(tmp_path: Path, single_thread: None) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    last = parts / "dropout" / "last.pt"
    steps = [0]
    for delay_s in (0.0, 0.07, 0.16):
        before = last.stat().st_mtime_ns if last.exists() else 0
        process = start("-m", "support.trainee", parts, "dropout")
        while process.poll() is None and (not last.exists() or last.stat().st_mtime_ns == before):
            time.sleep(0.001)
        time.sleep(delay_s)
        process.kill()
        output, _ = process.communicate()
        assert process.returncode == -9, f"it ended before: {output}"
        kept = last if last.exists() else last.with_name("previous.pt")  # killed between two renames
        state = torch.load(kept)["state"]
        steps.append(100 * len(state["history"]) + state["position"]["step"])
    assert steps == sorted(set(steps)), "each time it went on from where it was"
    for name in (".last.pt.new.half.tmp", ".best.pt.half.tmp"):
        (parts / "dropout" / name).touch()  # as if killed while it wrote
    for folder in (whole, parts):
        train(folder, "dropout")
    assert not list((parts / "dropout").glob(".*")), "what it left when it was killed is gone"
    expected, found = (record(folder, "dropout-0") for folder in (whole, parts))
    assert found["history"] == expected["history"]
    assert all(torch.equal(found["weights"][name], value) for name, value in expected["weights"].items())


@pytest.fixture
def single_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    for variant in TOGETHER:
        train(folder, variant)
    run_an_experiment(folder)
    return folder


@pytest.mark.parametrize("nodes", [1, 2])
def test_two_processes_train_like_one(nodes: int, alone: Path, tmp_path: Path) -> None:
    """On one machine, and as two machines, each of which is one torchrun command."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = ("--nnodes", nodes, "--nproc-per-node", 2 // nodes, "--master-addr", "127.0.0.1", "--master-port", port)
    finish(*(torchrun(tmp_path, *common, "--node-rank", node) for node in range(nodes)))
    for variant in TOGETHER:
        expected = record(alone, f"{variant}-0")
        for rank in (0, 1):
            got = record(tmp_path, f"{variant}-{rank}")
            torch.testing.assert_close(torch.tensor(got["history"]), torch.tensor(expected["history"]))
            for name, value in expected["weights"].items():
                torch.testing.assert_close(got["weights"][name], value, rtol=1e-9, atol=1e-12)
        curves = torch.tensor(expected["history"])
        assert curves[-1, 0] < curves[0, 0], "it learns"
    one, other = (record(tmp_path, f"apart-{rank}") for rank in (0, 1))
    assert one["history"] == other["history"]
    assert all(torch.equal(one["weights"][name], value) for name, value in other["weights"].items())
    found, expected = (
        json.loads((folder / "run" / "full-seed0" / "result.json").read_text())["metrics"]
        for folder in (tmp_path, alone)
    )
    assert found == pytest.approx(expected, abs=0.003), "predictions near the boundary may fall either way"
    assert (tmp_path / "run" / "report.html").exists()
