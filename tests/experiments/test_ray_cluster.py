"""Cells as Ray tasks: the numbers of a local run, lost workers, and errors that a user can read."""

import builtins
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from borderless.errors import DataError, LargeCellWarning, MissingPackage, RunError
from borderless.experiments import EXPERIMENTS
from borderless.experiments import ray_cluster as cluster_engine
from borderless.experiments.experiment import Cell, Experiment, Result
from borderless.experiments.runner import run
from borderless.report import Section
from borderless.runtime import ray_session

# One worker of pytest-xdist for all of them: two Rays that start at once on two cores wait for each other too long.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]


@dataclasses.dataclass(frozen=True)
class Config:
    count: int = 3


def experiment(marks: Path, what: str) -> Experiment:
    """Cells that leave a mark each time they run; what: how the second of them fails. Functions travel by value."""

    def cells(config: Any) -> list[Cell]:
        return [Cell(f"cell-{i}", {"number": i}) for i in range(config.count)]

    def run_cell(config: Any, cell: Cell, folder: Path) -> dict[str, Any]:
        import os
        import signal

        from borderless.errors import DataError

        with (marks / cell.name).open("a") as file:
            file.write("ran\n")
        tries = len((marks / cell.name).read_text().split())
        (folder / "deep").mkdir(exist_ok=True)
        (folder / "deep" / "array.txt").write_text(f"array {cell.name}")
        if cell.name == "cell-1":
            if what == "error":
                raise DataError("got a broken cell; needed: another")
            if what == "dies always" or (what == "dies once" and tries == 1):
                os.kill(os.getpid(), signal.SIGKILL)
        return {"square": cell.parameters["number"] ** 2}

    def draw(config: Any, results: list[Result], folder: Path) -> Section:
        return Section("Squares", [str(result.metrics["square"]) for result in results])

    # The config's class is this module's, which workers cannot import.
    return Experiment("squares", "Squares", "Numbers squared.", dict, cells, run_cell, draw)


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def ray_travels_by_value(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import sys

    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of one machine for the length of this module; skips where Ray itself cannot start."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patched:
        # Not behind all else on a busy machine, as Ray puts them.
        for name, value in {**ray_session.SETTINGS, "RAY_worker_niceness": "0"}.items():
            patched.setenv(name, value)
        try:
            made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        except Exception as error:  # Ray's own, of no type of its own
            pytest.skip(f"Ray starts no cluster on this machine: {error!r}")
        yield made.address
        made.shutdown()


def tries(marks: Path) -> dict[str, int]:
    return {path.name: len(path.read_text().split()) for path in marks.iterdir()}


def test_a_lost_worker_is_replaced_and_its_cell_run_again(marks: Path, tmp_path: Path, cluster: str) -> None:
    folder = tmp_path / "run"
    section = run(experiment(marks, "dies once"), Config(), folder, engine="ray", address=cluster, progress=False)
    assert section.text == ["0", "1", "4"]
    assert tries(marks) == {"cell-0": 1, "cell-1": 2, "cell-2": 1}
    assert (folder / "cell-2" / "deep" / "array.txt").read_text() == "array cell-2"
    assert json.loads((folder / "cell-1" / "result.json").read_text())["metrics"] == {"square": 1}
    run(experiment(marks, "dies once"), Config(), folder, engine="ray", address=cluster, progress=False)
    assert tries(marks) == {"cell-0": 1, "cell-1": 2, "cell-2": 1}, "finished cells are not run again"


def test_a_cell_that_kills_every_worker_is_named_and_the_others_are_kept(
    marks: Path, tmp_path: Path, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_engine, "RETRIES", 1)
    with pytest.raises(RunError, match="'cell-1' but got none: its worker was lost 2 times"):
        run(experiment(marks, "dies always"), Config(), tmp_path / "run", engine="ray", address=cluster, progress=False)
    assert tries(marks)["cell-1"] == 2


def test_an_error_in_a_cell_arrives_as_itself(marks: Path, tmp_path: Path, cluster: str) -> None:
    with pytest.raises(DataError, match="got a broken cell") as caught:
        run(experiment(marks, "error"), Config(), tmp_path / "run", engine="ray", address=cluster, progress=False)
    assert any("'cell-1'" in note for note in caught.value.__notes__)
    assert tries(marks)["cell-1"] == 1, "an error of the cell is not a lost worker"


def test_without_an_address_ray_starts_here_beside_another(marks: Path, tmp_path: Path, cluster: str) -> None:
    import ray

    started = ray.init
    addresses = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ray, "init", lambda **how: addresses.append(started(**how).address_info["gcs_address"]))
        try:
            section = run(experiment(marks, ""), Config(), tmp_path / "run", engine="ray", progress=False)
        except RunError as error:
            if "timed out" not in str(error):
                raise
            pytest.skip(f"the machine is too busy for Ray, which gives itself 30 s to start: {error}")
    assert section.text == ["0", "1", "4"]
    assert addresses != [cluster]


def test_results_are_those_of_a_local_run(tmp_path: Path, cluster: str) -> None:
    rook = EXPERIMENTS["rook"]
    config = rook.Config(borders=("zero", "infinite"), seeds=2, epochs=6)
    for engine in ("local", "ray"):
        address = cluster if engine == "ray" else None
        run(rook, config, tmp_path / engine, engine=engine, address=address, progress=False)
    local, spread = (
        {
            path.parent.name: json.loads(path.read_text())["metrics"]
            for path in (tmp_path / engine).glob("*/result.json")
        }
        for engine in ("local", "ray")
    )
    assert len(local) == 4
    assert local == spread
    assert (tmp_path / "local" / "table.csv").read_bytes() == (tmp_path / "ray" / "table.csv").read_bytes()
    for path in (tmp_path / "local").glob("*/history.npz"):
        assert path.read_bytes() == (tmp_path / "ray" / path.relative_to(tmp_path / "local")).read_bytes()


def test_no_cluster_at_the_address(marks: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"Expected a Ray cluster at '127\.0\.0\.1:1' but got"):
        run(experiment(marks, ""), Config(), tmp_path / "run", engine="ray", address="127.0.0.1:1", progress=False)


def test_ray_does_not_start(marks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def fail(**_: Any) -> None:
        raise Exception("The current node timed out during startup")  # Ray's own error

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(RunError, match=r"Ray to start .* but got The current node timed out.*leave out --engine ray"):
        run(experiment(marks, ""), Config(), tmp_path / "run", engine="ray", progress=False)


def test_a_gpu_by_its_number_is_refused(marks: Path, tmp_path: Path) -> None:
    config = Config()
    object.__setattr__(config, "device", "cuda:1")
    with pytest.raises(RunError, match=r"Expected the device cuda for Ray, .* but got cuda:1"):
        run(experiment(marks, ""), config, tmp_path / "run", engine="ray", progress=False)


def test_cells_that_no_machine_has_room_for_are_told() -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 4.0}},
        {"Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    for threads, needs_gpu in ((4, False), (2, True)):
        ray_session.check_room(nodes, threads, needs_gpu, may_grow=True)  # filterwarnings turns warnings into errors
    for threads, needs_gpu in ((8, False), (4, True)):
        with pytest.warns(LargeCellWarning, match="4 cores, 0 GPUs; 2 cores, 1 GPUs; take a larger"):
            ray_session.check_room(nodes, threads, needs_gpu, may_grow=True)
        with pytest.raises(RunError, match=r"take a larger machine, or smaller cells \(OMP_NUM_THREADS"):
            ray_session.check_room(nodes, threads, needs_gpu, may_grow=False)


def test_without_ray(marks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingPackage, match=r"pip install \"borderless\[cluster\]\""):
        run(experiment(marks, ""), Config(), tmp_path / "run", engine="ray", progress=False)
