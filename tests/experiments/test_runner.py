"""The runner's promises: results are whole or absent, done cells are not run again, nothing is overwritten unasked."""

import dataclasses
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from borderless.errors import CorruptResultWarning, OtherVersionWarning, RunError, RunInterrupted
from borderless.experiments import EXPERIMENTS
from borderless.experiments.experiment import Cell, Experiment, Result
from borderless.experiments.published import QUADRANT, RED_GREEN, TABLES
from borderless.experiments.results_on_disk import RESULT
from borderless.experiments.runner import run
from borderless.report import Section, Table
from borderless.report.provenance import versions
from borderless.runtime.arrays import load_arrays, save_arrays
from borderless.runtime.files import write_csv


@dataclasses.dataclass(frozen=True)
class Config:
    factors: tuple[int, ...] = (1, 2, 3)
    seed: int = 5

    @classmethod
    def small(cls) -> "Config":
        return cls((1,))


class Squares:
    """An experiment that counts what it ran and can be told to fail in one cell."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.failure: BaseException | None = None
        self.failing = "factor-2"
        self.metrics_extra: dict[str, Any] = {}

    @property
    def experiment(self) -> Experiment:
        return Experiment("squares", "Squares", "Numbers squared.", Config, self.cells, self.run_cell, self.draw)

    def cells(self, config: Config) -> list[Cell]:
        return [Cell(f"factor-{factor}", {"factor": factor}) for factor in config.factors]

    def run_cell(self, config: Config, cell: Cell, folder: Path) -> dict[str, Any]:
        if self.failure is not None and cell.name == self.failing:
            raise self.failure
        self.ran.append(cell.name)
        return {"square": np.int64(cell.parameters["factor"] ** 2), **self.metrics_extra}

    def draw(self, config: Config, results: list[Result], folder: Path) -> Section:
        rows = [[result.cell.name, result.metrics["square"]] for result in results]
        write_csv(folder / "table.csv", ["cell", "square"], rows)
        return Section("Squares", ["All of them."], tables=[Table(["cell", "square"], rows)])


@pytest.fixture
def squares() -> Squares:
    return Squares()


def test_a_run_writes_results_table_and_page(squares: Squares, tmp_path: Path) -> None:
    section = run(squares.experiment, Config(), tmp_path, progress=False)
    record = json.loads((tmp_path / "factor-3" / "result.json").read_text())
    assert record["metrics"] == {"square": 9}
    assert record["config"] == {"factors": [1, 2, 3], "seed": 5}
    assert record["cell"] == {"name": "factor-3", "parameters": {"factor": 3}}
    assert record["seed"] == 5
    assert record["versions"] == versions()
    assert set(record["versions"]) == {"borderless", "torch", "python"}
    assert record["duration_s"] >= 0
    assert "commit" in record
    assert (tmp_path / "table.csv").read_text() == "cell,square\nfactor-1,1\nfactor-2,4\nfactor-3,9\n"
    assert "All of them." in (tmp_path / "report.html").read_text()
    assert section.tables[0].rows[2] == ["factor-3", 9]
    assert not list(tmp_path.rglob("*.tmp"))


def test_done_cells_are_skipped_and_missing_ones_run(squares: Squares, tmp_path: Path) -> None:
    first = run(squares.experiment, Config(), tmp_path, progress=False)
    (tmp_path / "factor-2" / "result.json").unlink()
    squares.ran.clear()
    assert run(squares.experiment, Config(), tmp_path, progress=False) == first
    assert squares.ran == ["factor-2"]


def test_another_config_in_the_folder_is_refused_and_nothing_is_touched(squares: Squares, tmp_path: Path) -> None:
    run(squares.experiment, Config(), tmp_path, progress=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    squares.ran.clear()
    with pytest.raises(RunError) as caught:
        run(squares.experiment, Config(seed=6), tmp_path, progress=False)
    text = str(caught.value)
    assert str(tmp_path) in text
    assert "seed 5 → 6" in text
    assert "--folder" in text
    assert squares.ran == []
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_another_experiment_in_the_folder_is_refused(squares: Squares, tmp_path: Path) -> None:
    run(squares.experiment, Config(), tmp_path, progress=False)
    with pytest.raises(RunError, match="results of 'squares'"):
        run(dataclasses.replace(squares.experiment, name="cubes"), Config(), tmp_path, progress=False)


@pytest.mark.parametrize("content", ["", '{"experiment": "squa', "[]", '{"experiment": "squares"}'])
def test_a_corrupt_result_is_named_and_its_cell_runs_again(squares: Squares, tmp_path: Path, content: str) -> None:
    first = run(squares.experiment, Config(), tmp_path, progress=False)
    path = tmp_path / "factor-1" / "result.json"
    path.write_text(content)
    squares.ran.clear()
    with pytest.warns(CorruptResultWarning) as caught:
        again = run(squares.experiment, Config(), tmp_path, progress=False)
    assert str(path) in str(caught[0].message)
    assert squares.ran == ["factor-1"]
    assert again == first
    assert json.loads(path.read_text())["metrics"] == {"square": 1}


@pytest.mark.parametrize("square", ["1", None, [1], 2])
def test_metrics_that_were_not_written_are_named_and_their_cell_runs_again(
    squares: Squares, tmp_path: Path, square: Any
) -> None:
    first = run(squares.experiment, Config(), tmp_path, progress=False)
    path = tmp_path / "factor-1" / RESULT
    path.write_text(json.dumps(json.loads(path.read_text()) | {"metrics": {"square": square}}))
    squares.ran.clear()
    with pytest.warns(CorruptResultWarning, match=r"factor-1.*its metrics are not those that were written"):
        again = run(squares.experiment, Config(), tmp_path, progress=False)
    assert (squares.ran, again) == (["factor-1"], first)


def test_arrays_come_back_and_what_is_no_such_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cell" / "maps.npz"
    save_arrays(path, a=np.arange(6).reshape(2, 3), start=(1, 2))
    found = load_arrays(path)
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]] and found["start"].tolist() == [1, 2]
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[60] ^= 255
    for content in (b"", whole[:7], whole[: len(whole) // 2], whole[:-1], b"text", bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"Expected the arrays of a finished cell in .*maps\.npz but got .*; delete"):
            load_arrays(path)
    path.unlink()
    with pytest.raises(RunError, match="No such file"):
        load_arrays(path)


def test_three_runs_in_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each runs cells that another has finished, and reads their arrays while they are written again."""

    class Arrays(Squares):
        def run_cell(self, config: Config, cell: Cell, folder: Path) -> dict[str, Any]:
            save_arrays(folder / "maps.npz", a=np.full((64, 64), cell.parameters["factor"]))
            return super().run_cell(config, cell, folder)

        def draw(self, config: Config, results: list[Result], folder: Path) -> Section:
            for result in results:
                assert (load_arrays(result.folder / "maps.npz")["a"] == result.cell.parameters["factor"]).all()
            return super().draw(config, results, folder)

    def again(number: int) -> None:
        for _ in range(4):
            run(Arrays().experiment, Config(), tmp_path, progress=False)
            (tmp_path / f"factor-{number}" / RESULT).unlink(missing_ok=True)

    with ThreadPoolExecutor(3) as pool:
        assert [*pool.map(again, (1, 2, 3))] == [None] * 3
    run(Arrays().experiment, Config(), tmp_path, progress=False)
    assert (tmp_path / "table.csv").read_text() == "cell,square\nfactor-1,1\nfactor-2,4\nfactor-3,9\n"
    assert not [*tmp_path.rglob("*.tmp")]


@pytest.mark.nightly
def test_three_processes_that_draw_in_one_folder_end_with_the_same_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "borderless", "run", "rook", "--borders", "zero", "full", "--epochs", "20"]
    alone, together = tmp_path / "alone", tmp_path / "together"
    subprocess.run([*command, "--folder", str(alone)], check=True, capture_output=True)
    processes = [
        subprocess.Popen([*command, "--folder", str(together)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(3)
    ]
    printed = [process.communicate()[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], printed
    for path in sorted(alone.rglob("*")):
        if path.suffix in (".csv", ".png", ".gif", ".npz"):
            assert path.read_bytes() == (together / path.relative_to(alone)).read_bytes(), path
    assert {path.name for path in together.iterdir()} == {path.name for path in alone.iterdir()}


def test_results_of_another_version_are_kept_and_named(squares: Squares, tmp_path: Path) -> None:
    run(squares.experiment, Config(), tmp_path, progress=False)
    path = tmp_path / "factor-1" / "result.json"
    record = json.loads(path.read_text())
    record["versions"]["torch"] = "1.4.0"
    path.write_text(json.dumps(record))
    squares.ran.clear()
    with pytest.warns(OtherVersionWarning, match=r"factor-1.*torch 1\.4\.0"):
        run(squares.experiment, Config(), tmp_path, progress=False)
    assert squares.ran == []


def test_a_result_without_what_is_drawn_is_named(squares: Squares, tmp_path: Path) -> None:
    run(squares.experiment, Config(), tmp_path, progress=False)
    path = tmp_path / "factor-1" / RESULT
    record = json.loads(path.read_text())
    record["metrics"] = {"cube": 1}
    del record["digest"]  # an older version wrote none
    path.write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"Expected results of this version .* but got no 'square' in a result that"):
        run(squares.experiment, Config(), tmp_path, progress=False)


def test_a_mistake_in_drawing_is_not_blamed_on_old_results(
    squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(squares.experiment, Config(), tmp_path, progress=False)
    monkeypatch.setattr(squares, "draw", lambda *_: {}["color"])
    with pytest.raises(KeyError, match="color"):
        run(squares.experiment, Config(), tmp_path, progress=False)


def test_ctrl_c_leaves_finished_cells_and_says_how_to_go_on(squares: Squares, tmp_path: Path) -> None:
    squares.failure = KeyboardInterrupt()
    with pytest.raises(RunInterrupted, match=r"1 of 3 cells .* run the same command again") as caught:
        run(squares.experiment, Config(), tmp_path, progress=False)
    assert str(tmp_path) in str(caught.value)
    assert [path.parent.name for path in tmp_path.glob("*/result.json")] == ["factor-1"]
    assert not list(tmp_path.rglob("*.tmp"))
    squares.failure = None
    run(squares.experiment, Config(), tmp_path, progress=False)
    assert squares.ran == ["factor-1", "factor-2", "factor-3"]


def test_an_error_in_a_cell_names_it_and_leaves_no_result(squares: Squares, tmp_path: Path) -> None:
    squares.failure = ZeroDivisionError("by zero")
    with pytest.raises(ZeroDivisionError) as caught:
        run(squares.experiment, Config(), tmp_path, progress=False)
    assert caught.value.__notes__ == ["in the cell 'factor-2' of the experiment 'squares'"]
    assert not (tmp_path / "factor-2" / "result.json").exists()


def test_metrics_that_json_cannot_hold_are_refused(squares: Squares, tmp_path: Path) -> None:
    squares.metrics_extra = {"map": np.zeros((2, 2))}
    with pytest.raises(RunError, match="ndarray"):
        run(squares.experiment, Config(), tmp_path, progress=False)
    assert not list(tmp_path.rglob("result.json"))


@pytest.mark.parametrize("factors", [(), (2, 2)])
def test_cells_need_names_of_their_own(squares: Squares, tmp_path: Path, factors: tuple[int, ...]) -> None:
    with pytest.raises(RunError, match="a name of its own"):
        run(squares.experiment, Config(factors), tmp_path, progress=False)


def test_every_experiment_has_defaults_and_small_settings() -> None:
    story = "equivariance conv-types rook one-place placed-object quadrant red-green shifts data-efficiency"
    story += " patch-matching actions finetune moving-objects"
    assert list(EXPERIMENTS) == story.split()
    for name, experiment in EXPERIMENTS.items():
        assert experiment.name == name
        assert len(experiment.cells(experiment.Config())) >= len(experiment.cells(experiment.Config.small())) > 0
        assert all(json.dumps(dict(cell.parameters)) for cell in experiment.cells(experiment.Config()))


def test_published_numbers_have_sources_and_read_as_printed() -> None:
    assert all(table.source and table.title and table.unit and table.numbers for table in TABLES.values())
    assert RED_GREEN.text("circular", "similar") == "73.7 ± 1.0"
    assert QUADRANT.text("ResNet-18", "random", 64) == "≈ 80.5"
    assert QUADRANT.points([("a", "b", 0), ("DenseNet-121", "pretrained", 256)]) == {1: 87.5}
    assert RED_GREEN.axes == ("border", "test set")
    assert RED_GREEN.text("reflect", "similar") == "–"


@pytest.mark.nightly
def test_a_killed_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGKILL in the middle; the same command then leaves finished cells alone, and ends with the same table."""
    command = [sys.executable, "-m", "borderless", "run", "rook", "--borders", "zero", "infinite", "--seeds", "3"]
    command += ["--epochs", "30", "--folder"]
    folder = tmp_path / "killed"
    process = subprocess.Popen([*command, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while len(list(folder.glob(f"*/{RESULT}"))) < 2:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    before = {path: path.stat().st_mtime_ns for path in folder.glob(f"*/{RESULT}")}
    assert 2 <= len(before) < 6, "killed in the middle"
    assert not (folder / "table.csv").exists()
    subprocess.run([*command, str(folder)], check=True, capture_output=True)
    rook = EXPERIMENTS["rook"]
    run(rook, rook.Config(borders=("zero", "infinite"), seeds=3, epochs=30), tmp_path / "whole", progress=False)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(folder.glob(f"*/{RESULT}"))) == 6
    assert (folder / "table.csv").read_bytes() == (tmp_path / "whole" / "table.csv").read_bytes()
