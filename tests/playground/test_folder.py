"""The folder for uploads goes with its process, or with the next start."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from borderless.playground.folder import clear_left_behind, own_folder

KEEP = """
import sys, time
from borderless.playground.folder import own_folder
with own_folder() as folder:
    (folder / "secret.png").write_bytes(b"x")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def test_it_is_removed_at_the_end() -> None:
    with own_folder() as folder:
        (folder / "secret.png").write_bytes(b"x")
    assert not folder.exists()


@pytest.mark.skipif(os.name == "nt", reason="kills by a signal")
def test_a_killed_ones_is_removed_by_the_next_start_and_a_living_ones_is_kept() -> None:
    with subprocess.Popen([sys.executable, "-c", KEEP], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        clear_left_behind()
        assert (left / "secret.png").exists()
        process.send_signal(signal.SIGKILL)
    assert (left / "secret.png").exists()
    with own_folder() as folder:
        assert not left.exists()
        assert folder.exists()
