"""A release is what its files say, and what is tested on the oldest versions is what pyproject.toml promises."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest

import borderless as bl

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "src" / "borderless").mkdir(parents=True)
    (tmp_path / "src" / "borderless" / "version.py").write_text('__version__ = "1.2.0"\n')
    (tmp_path / "CITATION.cff").write_text("title: borderless\nversion: 1.2.0\n")
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.0] - 2030-01-01\n")
    return tmp_path


def mistakes(tag: str, checkout: Path) -> list[str]:
    return runpy.run_path(str(ROOT / "tools" / "check_release.py"))["find_mistakes"](tag, checkout)


def test_a_tag_is_the_version_of_every_file(checkout: Path) -> None:
    assert mistakes("v1.2.0", checkout) == []
    (wrong,) = mistakes("v1.3.0", checkout)
    assert wrong.startswith("Expected the tag v1.2.0 but got v1.3.0")
    (checkout / "CITATION.cff").write_text("title: borderless\nversion: 1.1.0\n")
    (checkout / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n\n## [1.1.0]\n")
    citation, changes = mistakes("v1.2.0", checkout)
    assert "CITATION.cff but got 1.1.0" in citation
    assert "a section [1.2.0] in CHANGELOG.md but got none" in changes


def test_one_version() -> None:
    assert mistakes(f"v{bl.__version__}", ROOT) == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert (ROOT / project["tool"]["hatch"]["version"]["path"]).is_file()


def test_the_oldest_versions_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", line).groups() for line in project["dependencies"])
    oldest = f"{bounds['torch']}.0 {bounds['torchvision']}.0"
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    assert f"tools/matrix {oldest}\n" in workflow
    assert f'python: ["{project["requires-python"].removeprefix(">=")}", ' in workflow
    matrix = (ROOT / "tools" / "matrix").read_text(encoding="utf-8")
    assert re.findall(r"versions\[[01]\]:-([\d.]+)", matrix) == oldest.split()
