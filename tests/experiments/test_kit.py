"""What experiments are made of: cells, groups, settings that check themselves, the list of experiments, tables."""

import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Literal

import pytest

from borderless.errors import ConfigError, RunError
from borderless.experiments.experiment import Cell, Metrics, Result, grid
from borderless.experiments.kit import by, means, percents
from borderless.experiments.registry import Registry
from borderless.report import Section
from borderless.runtime.settings import Choice, Range, Settings


def test_a_grid_has_every_combination_the_first_axis_slowest() -> None:
    settings = SimpleNamespace(seeds=2, arms=("own", "a/b"))
    cells = grid("{arm}-{count}-seed{seed}", {"count": {0: "all"}}, seed="seeds", arm="arms", count=(0, 5))(settings)
    assert [cell.name for cell in cells[:5]] == [
        "own-all-seed0",
        "own-5-seed0",
        "a-b-all-seed0",
        "a-b-5-seed0",
        "own-all-seed1",
    ]
    assert list(cells[2].parameters.items()) == [("arm", "a/b"), ("count", 0), ("seed", 0)]
    assert len(cells) == len({cell.name for cell in cells}) == 8


def test_results_are_grouped_in_the_order_of_the_cells(tmp_path: Path) -> None:
    cells = grid("{arm}-seed{seed}", seed=range(2), arm=("own", "full"))(None)
    results = [Result(cell, Metrics(accuracy=i / 4), tmp_path, 0.0) for i, cell in enumerate(cells)]
    assert {arm: percents(group, "accuracy") for arm, group in by(results, "arm").items()} == {
        "own": [0, 50],
        "full": [25, 75],
    }
    assert list(by(results, "arm", "seed")) == [("own", 0), ("full", 0), ("own", 1), ("full", 1)]


def test_tables_of_means_show_lists_as_mean_and_interval() -> None:
    assert means([["a", [1.0, 2.0, 3.0], 7, [4.0]]]) == [["a", "2.0 ± 2.5", 7, "4.0"]]


@dataclasses.dataclass(frozen=True)
class Some(Settings):
    count: Annotated[int, Range(1, 9)] = 1
    reach: Annotated[int | None, Range(0)] = None
    names: Annotated[tuple[str, ...], Choice(("a", "b"))] = ("a",)
    kind: Literal["x", "y"] = "x"
    sizes: tuple[int, ...] = (1,)
    free: float = 0.5


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"count": 0}, "Expected count to be from 1 to 9 but got count=0."),
        ({"count": 10}, "Expected count to be from 1 to 9 but got count=10."),
        ({"reach": -1}, "Expected reach to be at least 0 but got reach=-1."),
        ({"names": ()}, "Expected names to be one or more values, each once, each one of a, b but got names=()."),
        ({"names": ("a", "a")}, "each once"),
        ({"names": ("c",)}, "each one of a, b but got names=('c',)."),
        ({"kind": "z"}, "Expected kind to be one of x, y but got kind='z'."),
        ({"sizes": (2, 2)}, "Expected sizes to be one or more values, each once but got sizes=(2, 2)."),
    ],
)
def test_settings_are_checked_by_what_their_fields_declare(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Some(**wrong)
    assert text in str(caught.value)
    assert Some(count=9, reach=0, names=("b", "a"), kind="y", sizes=(2, 3)).small() == Some()


SOURCE = '''
"""Cubes.

Numbers
cubed.
"""

from borderless.experiments.experiment import grid, register


@register(chapter={chapter}, cells=grid("one"))
class CubesConfig:
    pass
'''
EXPERIMENT = """
def run_cell(config, cell, folder):
    return {"cube": 8}
"""
PAGE = """
from borderless.report import Section


def draw(config, results, folder):
    return Section("Cubes", [str(results)])
"""


def test_a_new_experiment_is_a_folder_and_no_list_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, chapter in (("cubes_late", 20), ("cubes_early", 3)):
        (tmp_path / "house_of_cubes" / folder).mkdir(parents=True)
        source = SOURCE.format(chapter=chapter)
        (tmp_path / "house_of_cubes" / folder / "__init__.py").write_text(source)
        (tmp_path / "house_of_cubes" / folder / "experiment.py").write_text(EXPERIMENT)
        (tmp_path / "house_of_cubes" / folder / "page.py").write_text(PAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = Registry("house_of_cubes", tmp_path / "house_of_cubes")
    assert found.summaries == {"cubes-early": "Numbers cubed.", "cubes-late": "Numbers cubed."}
    assert "house_of_cubes.cubes_late" not in sys.modules, "listing imports nothing"
    late = found["cubes-late"]
    assert (late.name, late.chapter) == ("cubes-late", 20)
    assert (late.title, late.summary) == ("Cubes", "Numbers cubed.")
    assert late.cells(None) == [Cell("one", {})]
    assert {"house_of_cubes.cubes_late.experiment", "house_of_cubes.cubes_late.page"}.isdisjoint(sys.modules), (
        "nor do settings"
    )
    assert late.run_cell(None, Cell("one", {}), tmp_path) == {"cube": 8}
    assert late.draw(None, [], tmp_path) == Section("Cubes", ["[]"])
    assert "house_of_cubes.cubes_early" not in sys.modules


@pytest.mark.parametrize(
    ("source", "got"),
    [
        ('"""Title.\n\nSummary."""\n', "the summary 'Summary.' and the chapter None"),
        ('"""Title."""\n@register(chapter=3, cells=cells)\nclass Config: ...\n', "the summary '' and the chapter 3"),
    ],
)
def test_a_folder_without_registration_or_summary_is_named(source: str, got: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "__init__.py").write_text(source)
    with pytest.raises(RunError, match=rf"Expected title and summary .* in .*empty.__init__\.py but got {got}"):
        list(Registry("nowhere", tmp_path))
