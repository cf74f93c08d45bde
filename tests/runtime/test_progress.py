"""Progress: lines without a terminal, also while a step lasts; the time that is left."""

import re
import time

import pytest

from borderless.runtime.progress import EVERY_S, remaining, telling


def test_without_a_terminal_a_line_is_written_while_a_step_lasts(capsys: pytest.CaptureFixture[str]) -> None:
    assert EVERY_S <= 5
    with telling("audit", every_s=0.05) as tell:
        tell(0.25, "border error")
        time.sleep(0.3)  # nothing is told meanwhile
        tell(1.0, "")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 3
    assert re.fullmatch(r"audit: 25 %, 0:0\d elapsed, about 0:0\d left, border error", lines[0])
    assert re.fullmatch(r"audit: 100 %, 0:0\d elapsed", lines[-1])


def test_an_error_ends_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), telling("audit", every_s=0.01):
        raise KeyError
    capsys.readouterr()
    time.sleep(0.05)
    assert capsys.readouterr().err == ""


def test_other_processes_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with telling("audit", is_shown=False) as tell:
        tell(0.5, "half")
    assert capsys.readouterr().err == ""


def test_the_rest_is_not_estimated_from_nothing() -> None:
    assert remaining(0.001, 10) == remaining(1.0, 10) == ""
    assert remaining(0.5, 3600) == "about 1:00:00 left"
