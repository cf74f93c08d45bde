"""Runs an experiment: its independent cells one by one, each kept as one file, then its figures, table and page.

A run is a folder. `CELL/result.json` says that a cell is done and with which config; running again does what is
missing, so a run may be stopped at any moment and loses at most the cell it was in.
"""

import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from borderless.errors import BorderlessError
from borderless.report import Section, plots, write
from borderless.report.provenance import commit, plain, provenance, versions
from borderless.runtime.distributed import joined, process_group
from borderless.runtime.files import write_atomically, write_csv

RESULT = "result.json"


class RunError(BorderlessError):
    """A run that cannot start or go on: its folder, its cells, or a result that cannot be written."""


class ConfigError(BorderlessError, ValueError):
    """A setting of an experiment that it cannot run with."""


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C during a run. Finished cells are kept; the text says how to go on."""


class CorruptResultWarning(UserWarning):
    """A result file that cannot be read; its cell runs again."""


class OtherVersionWarning(UserWarning):
    """Results that were made with other versions than those that run now; they are kept."""


@dataclass(frozen=True)
class Cell:
    """One independent unit of work. name: a slug, also its folder's name. parameters: what JSON can hold."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """What a cell gave: numbers in `metrics`, arrays as files in `folder`."""

    cell: Cell
    metrics: dict[str, Any]
    folder: Path
    duration_s: float

    @classmethod
    def read(cls, cell: Cell, folder: Path) -> "Result":
        """The result that `folder` holds. KeyError, TypeError or ValueError if it is none."""
        record = _read(folder / cell.name / RESULT)
        return cls(cell, record["metrics"], folder / cell.name, record["duration_s"])


def write_table(results: Sequence[Result], folder: Path) -> None:
    """`folder/table.csv`: a line a cell, its parameters and all of its metrics that are single values."""
    parameters = list(results[0].cell.parameters)
    singles = [key for r in results for key, value in r.metrics.items() if not isinstance(value, list | dict)]
    keys = list(dict.fromkeys(singles))
    write_csv(
        folder / "table.csv",
        [*parameters, *keys],
        [[*(r.cell.parameters[p] for p in parameters), *(r.metrics.get(k) for k in keys)] for r in results],
    )


@dataclass(frozen=True)
class Experiment:
    """What `run` needs to know of an experiment.

    Config: a frozen dataclass, a default for every field; `Config.small()` gives the demo's settings, `Config.paper()`,
    where there is one, the paper's, which the command line starts from when data is given.
    cells: the config's independent units of work. run_cell: (config, cell, folder) -> metrics that JSON can hold;
    arrays go into the folder. draw: (config, results, folder) -> Section; writes the figures and `table.csv` into the
    folder.
    """

    name: str
    title: str
    summary: str
    Config: type
    cells: Callable[[Any], list[Cell]]
    run_cell: Callable[[Any, Cell, Path], dict[str, Any]]
    draw: Callable[[Any, list[Result], Path], Section]


Engine = Literal["local", "ray"]


def run(
    experiment: Experiment,
    config: Any,
    folder: Path | str,
    *,
    engine: Engine = "local",
    address: str | None = None,
    progress: bool = True,
) -> Section:
    """Run the cells of `experiment` that `folder` does not hold yet, then draw, and write `folder/report.html`.

    engine: "local" runs one cell after the other in this process, "ray" spreads them over a cluster at `address`, or
    over this machine if there is none. Started by torchrun, all processes work on each cell together, and the first
    alone writes to `folder`. Raises `RunError` if the folder holds results of another config, `RunInterrupted` on
    Ctrl-C.
    """
    with joined() as processes:
        if processes.size > 1 and engine == "ray":
            raise RunError(
                f"got --engine ray in {processes.size} processes of torchrun; needed: one or the other, because Ray "
                "starts processes of its own"
            )
        if processes.is_leader:
            return _run(experiment, config, Path(folder), engine, address, progress)
        return _work_along(experiment, config)


def _work_along(experiment: Experiment, config: Any) -> Section:
    """What the other processes of torchrun do: their part of each cell that the first one runs. Nothing is kept."""
    while (cell := process_group().broadcast(None)) is not None:
        with tempfile.TemporaryDirectory() as nowhere:
            experiment.run_cell(config, cell, Path(nowhere))
    return Section(experiment.title)


def _run(
    experiment: Experiment, config: Any, folder: Path, engine: Engine, address: str | None, progress: bool
) -> Section:
    cells = experiment.cells(config)
    names = [cell.name for cell in cells]
    if not cells or len(set(names)) < len(names):
        raise RunError(
            f"got the cells {names} from {experiment.name!r}; it needs at least one, each with a name of its own; "
            "change its config"
        )
    done = _finished(experiment, config, cells, folder)
    has_kept = bool(done)
    console = Console(stderr=True, quiet=not progress)
    try:
        with Progress(
            TextColumn("{task.fields[title]:<14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
        ) as bar:
            task = bar.add_task("", total=len(cells), completed=len(done), title=experiment.name)

            def started(name: str) -> None:
                bar.update(task, description=name)

            missing = [cell for cell in cells if cell.name not in done]
            for result in _results(experiment, config, missing, folder, engine, address, started):
                done[result.cell.name] = result
                bar.advance(task)
            bar.update(task, description="drawing")
            with plots.style():
                section = _drawn(experiment, config, [done[name] for name in names], folder, has_kept)
            bar.update(task, description="")
    except KeyboardInterrupt:
        raise RunInterrupted(
            f"stopped: {len(done)} of {len(cells)} cells of {experiment.name!r} are done and kept in {folder}; run "
            "the same command again to go on from there"
        ) from None
    write([section], folder / "report.html", experiment.title, experiment.summary, provenance(config))
    return section


def _drawn(experiment: Experiment, config: Any, results: list[Result], folder: Path, has_kept: bool) -> Section:
    """has_kept: whether some of the results are of an earlier run, whose version may have measured less."""
    try:
        return experiment.draw(config, results, folder)
    except KeyError as error:
        if not has_kept:
            raise
        raise RunError(
            f"got no {error} in a result that {folder} holds; needed: results of this version of borderless; choose "
            f"another with --folder, or delete {folder}"
        ) from error


def _results(
    experiment: Experiment,
    config: Any,
    cells: list[Cell],
    folder: Path,
    engine: Engine,
    address: str | None,
    started: Callable[[str], Any],
) -> Iterator[Result]:
    if engine == "ray" and cells:
        from borderless.experiments.ray_cluster import run_on_ray

        yield from run_on_ray(experiment, config, cells, folder, address, started)
        return
    for cell in cells:
        started(cell.name)
        process_group().broadcast(cell)
        yield run_and_keep(experiment, config, cell, folder)
    process_group().broadcast(None)


def _finished(experiment: Experiment, config: Any, cells: list[Cell], folder: Path) -> dict[str, Result]:
    """The results that `folder` already holds, by cell name."""
    wanted, now = plain(config), versions()
    by_name = {cell.name: cell for cell in cells}
    done = {}
    for path in sorted(folder.glob(f"*/{RESULT}")):
        try:
            record = _read(path)
        except (ValueError, TypeError, KeyError) as error:
            warnings.warn(
                f"{path} cannot be read ({type(error).__name__}: {error}); its cell runs again",
                CorruptResultWarning,
                stacklevel=3,
            )
            continue
        if record["experiment"] != experiment.name:
            raise RunError(
                f"got the folder {folder}, which holds results of {record['experiment']!r}; {experiment.name!r} "
                "needs one "
                f"of its own; choose another with --folder, or delete {folder}"
            )
        if record["config"] != wanted:
            raise RunError(
                f"got the folder {folder}, which holds results with another config "
                f"({_differences(record['config'], wanted)}); a folder holds one config; "
                f"choose another with --folder, or delete {folder}"
            )
        name = record["cell"]["name"]
        if name not in by_name:
            continue
        if record["versions"] != now:
            warnings.warn(
                f"{path} was made with other versions ({_differences(record['versions'], now)}) and is kept; "
                "delete it to run its cell again",
                OtherVersionWarning,
                stacklevel=3,
            )
        done[name] = Result(by_name[name], record["metrics"], path.parent, record["duration_s"])
    return done


def _read(path: Path) -> dict[str, Any]:
    """A result file; KeyError, TypeError or ValueError if it is not one."""
    record = json.loads(path.read_text(encoding="utf-8"))
    for key, kind in {"experiment": str, "cell": dict, "config": dict, "versions": dict, "metrics": dict}.items():
        if not isinstance(record[key], kind):
            raise TypeError(f"{key!r} is a {type(record[key]).__name__}")
    if record["cell"]["name"] != path.parent.name:
        raise ValueError(f"it is of the cell {record['cell']['name']!r}")
    float(record["duration_s"])
    return record


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{key} {found.get(key)} → {wanted.get(key)}"
        for key in sorted({*found, *wanted})
        if found.get(key) != wanted.get(key)
    )


def run_and_keep(experiment: Experiment, config: Any, cell: Cell, folder: Path) -> Result:
    """Run one cell and write its result below `folder`."""
    cell_folder = folder / cell.name
    cell_folder.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    try:
        metrics = experiment.run_cell(config, cell, cell_folder)
    except Exception as error:
        error.add_note(f"in the cell {cell.name!r} of the experiment {experiment.name!r}")
        raise
    duration_s = time.perf_counter() - begin
    record = {
        "experiment": experiment.name,
        "cell": {"name": cell.name, "parameters": dict(cell.parameters)},
        "config": plain(config),
        "seed": cell.parameters.get("seed", getattr(config, "seed", None)),
        "versions": versions(),
        "commit": commit(),
        "metrics": metrics,
        "duration_s": duration_s,
    }
    try:
        text = json.dumps(record, indent=2, default=_number)
    except TypeError as error:
        raise RunError(
            f"got metrics of the cell {cell.name!r} that JSON cannot hold ({error}); metrics are numbers, texts, "
            "lists and dicts; save arrays in the folder"
        ) from error
    write_atomically(cell_folder / RESULT, text + "\n")
    # Read back, so that drawing sees the same whether the cell ran now or on another day.
    return Result.read(cell, folder)


def _number(value: object) -> object:
    """NumPy's and PyTorch's single numbers as Python's."""
    if isinstance(value, np.generic) or (hasattr(value, "item") and getattr(value, "ndim", None) == 0):
        return value.item()  # type: ignore[union-attr]
    raise TypeError(f"{type(value).__name__} is not a number, text, list or dict")
