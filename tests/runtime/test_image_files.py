"""Files of unknown origin: whoever reads them starts no program, and waits for no pipe."""

import ast
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from borderless.data import labeled, quadrant
from borderless.data.annotations import masks
from borderless.errors import BorderlessError
from borderless.partition.image_files import open_image
from borderless.runtime.image_files import open_safely

SOURCES = Path(__file__).parents[2] / "src" / "borderless"
SCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\nshowpage\n"
READERS: dict[str, Callable[[Path], object]] = {
    "open_safely": lambda path: open_safely(path).load(),
    "occlude, tile": open_image,
    "labeled": labeled._opened,
    "quadrant": quadrant.as_published,
    "masks": masks._labels,
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_no_reader_starts_a_program_or_waits_for_a_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Callable[[Path], object]
) -> None:
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("a program was started"))
    (tmp_path / "script.png").write_bytes(SCRIPT)
    os.mkfifo(tmp_path / "pipe.png")
    for name in ("script.png", "pipe.png"):
        with pytest.raises((OSError, BorderlessError)):
            reader(tmp_path / name)


def test_files_are_opened_in_one_module() -> None:
    """Others may open bytes of their own, in formats that they name, or pictures that they have just written."""
    own = {"runtime/image_files.py", "measures/fragility.py", "report/page.py"}
    for path in SOURCES.rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        opens = [call for call in calls if ast.unparse(call.func) == "Image.open"]
        if path.relative_to(SOURCES).as_posix() not in own:
            assert all(any(word.arg == "formats" for word in call.keywords) for call in opens), path
