"""What a killed process leaves half written is deleted by the next, which leaves alone what another is writing now."""

import os
import time
from pathlib import Path

import pytest

from borderless.runtime.files import check_writable, clear_abandoned, write_atomically


def test_half_written_files_of_an_hour_ago_are_deleted_and_younger_ones_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise SystemExit

    left = {}
    with monkeypatch.context() as patched:
        patched.setattr("os.replace", killed)
        patched.setattr(Path, "unlink", lambda *_, **__: None)  # a killed process does not tidy up
        for name in ("table.csv", "report.html"):
            with pytest.raises(SystemExit):
                write_atomically(tmp_path / name, "half")
            (left[name],) = tmp_path.glob(f".{name}.*")
    hour_ago = time.time() - 3700
    os.utime(left["table.csv"], (hour_ago, hour_ago))
    (tmp_path / ".hidden").write_text("of somebody else")
    check_writable(tmp_path)
    assert left["table.csv"].exists(), "a folder of the user's that is only asked about stays as it is"
    clear_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([left["report.html"], tmp_path / ".hidden"])
