"""Processes that work together: what one says, all hear, also when it is an error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from borderless.runtime.distributed import ProcessGroup

PROGRAM = """
import sys
from borderless.errors import DataError
from borderless.runtime.distributed import joined

class Unsendable(Exception):
    def __init__(self, one, other):
        super().__init__(one)

def fails():
    if group.rank == 1:
        raise DataError("got nothing; needed: something")
    return 1

def fails_strangely():
    if group.rank == 0:
        raise Unsendable("odd", lambda: 0)

with joined() as group:
    assert group.map(lambda: 10 * group.rank) == [0, 10]
    for compute, expected in ((fails, "DataError: got nothing"), (fails_strangely, "RuntimeError: Unsendable: odd")):
        try:
            group.map(compute)
        except Exception as error:
            assert f"{type(error).__name__}: {error}".startswith(expected), repr(error)
        else:
            raise AssertionError("no error")
    assert group.on_leader(lambda: group.rank + 5) == 5
    try:
        group.on_leader(fails_strangely)
    except Exception as error:
        assert f"{type(error).__name__}: {error}".startswith("RuntimeError: Unsendable: odd"), repr(error)
    else:
        raise AssertionError("no error")
    assert group.map(lambda: "still together") == ["still together"] * 2
    print("done")
"""


def test_alone() -> None:
    assert ProcessGroup().map(lambda: 3) == [3]
    assert ProcessGroup().on_leader(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        ProcessGroup().map(lambda: 1 // 0)


@pytest.mark.slow
def test_an_error_in_one_process_is_raised_in_all(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--local-addr",
            "127.0.0.1",
            "--nproc-per-node",
            "2",
            program,
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("done") == 2
