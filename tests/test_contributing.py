"""Each page of docs/contributing shows a whole change as a diff: it applies as it stands, and its test passes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import borderless

ROOT = Path(__file__).parent.parent
PACKAGE = Path(borderless.__file__).parent
PAGES = sorted(path for path in (ROOT / "docs/contributing").glob("add-*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_change_applies_and_its_test_passes(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    diff = "".join(re.findall(r"^```diff\n(.*?)^```$", text, re.S | re.M))
    commands = re.findall(r"^\$ pytest (.+)$", text, re.M)
    assert diff and commands, "a page shows a diff and the command of its test"
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(PACKAGE, tmp_path / "src/borderless", ignore=ignored)
    for folder in ("tests", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    # File by file, and counting lines anew, so that nobody keeps counts by hand; the context must be there.
    for number, change in enumerate(re.split(r"^(?=--- )", diff, flags=re.M)[1:]):
        (tmp_path / f"{number}.diff").write_text(change, encoding="utf-8")
        subprocess.run(["git", "apply", "--recount", f"{number}.diff"], cwd=tmp_path, check=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "OMP_NUM_THREADS": "1"}
    for name in [name for name in environment if name.startswith("PYTEST_")]:
        del environment[name]
    for command in commands:
        run = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *command.split()]
        done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.search(r"\d+ passed", done.stdout), done.stdout
