"""Each page of docs/contributing shows a whole change as a diff: they apply as they stand, and their tests pass."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import borderless

ROOT = Path(__file__).parent.parent
PACKAGE = Path(borderless.__file__).parent
PAGES = sorted(path for path in (ROOT / "docs/contributing").glob("add-*.md"))


def test_the_changes_apply_and_their_tests_pass(tmp_path: Path) -> None:
    """All in one copy of the checkout, and their tests in one process, most of whose time goes into starting it."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(PACKAGE, tmp_path / "src/borderless", ignore=ignored)
    for folder in ("tests", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    tests: list[str] = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        diff = "".join(re.findall(r"^```diff\n(.*?)^```$", text, re.S | re.M))
        named = re.findall(r"^\$ pytest (.+)$", text, re.M)
        assert diff and named, f"{page.name} shows a diff and the command of its test"
        tests += [word for words in named for word in words.split()]
        # File by file, and counting lines anew, so that nobody keeps counts by hand; the context must be there.
        for number, change in enumerate(re.split(r"^(?=--- )", diff, flags=re.M)[1:]):
            (tmp_path / f"{number}.diff").write_text(change, encoding="utf-8")
            subprocess.run(["git", "apply", "--recount", f"{number}.diff"], cwd=tmp_path, check=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "OMP_NUM_THREADS": "1"}
    for name in [name for name in environment if name.startswith("PYTEST_")]:
        del environment[name]
    run = [sys.executable, "-m", "pytest", "-q", "-rA", "-n", "0", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"PASSED {test}::" in done.stdout for test in tests), done.stdout
