"""The README's Python runs as it stands there, and its numbers say what its text says."""

import re
from pathlib import Path

import pytest

import borderless as bl

README = Path(__file__).parent.parent / "README.md"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_the_twelve_lines_run_and_keep_their_promise(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks()
    assert sum(bool(line.strip()) for line in code.splitlines()) == 12
    names: dict[str, object] = {}
    exec(compile(code, str(README), "exec"), names)
    own, converted, explanation = capsys.readouterr().out.split("\n", 2)
    assert own.startswith("tensor(") and converted.startswith("tensor(")
    images, shifts = names["images"], names["shifts"]
    assert bl.equivariance_error(names["model"], images, shifts).min() > 1e-2
    assert bl.equivariance_error(names["same_everywhere"], images, shifts).max() < 1e-6
    assert "layer4.1.conv2" in explanation and "multiply-adds" in explanation


def test_pictures_are_there() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README.read_text(encoding="utf-8"))
    assert pictures
    for picture in pictures:
        assert (README.parent / picture).is_file(), picture
