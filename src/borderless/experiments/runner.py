"""Run an experiment: its independent cells one by one, each kept as one file, then its figures, table and page.

A run is a folder. Running again does what is missing, so a run may be stopped at any moment and loses at most the cell
it was in.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from borderless.errors import RunError, RunInterrupted
from borderless.experiments.experiment import Cell, Experiment, MissingMetric, Result
from borderless.experiments.ray_cluster import run_on_ray
from borderless.experiments.results_on_disk import finished, run_and_keep
from borderless.report import Section, plots, write
from borderless.report.provenance import provenance
from borderless.runtime.distributed import joined, process_group

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

    Started by torchrun, all processes work on each cell together, and the first alone writes to `folder`.

    Args:
        experiment: The experiment.
        config: Its settings.
        folder: Folder of the results.
        engine: "local" runs one cell after the other in this process, "ray" spreads them over a cluster at `address`,
            or over this machine if there is none.
        address: Address of a running Ray cluster.
        progress: Whether to show a bar.

    Raises:
        RunError: The folder holds results of another config.
        RunInterrupted: On Ctrl-C.
    """
    with joined() as processes:
        if processes.size > 1 and engine == "ray":
            raise RunError(
                f"Expected torchrun or --engine ray but got both, in {processes.size} processes; start it without one "
                "of them, because Ray starts processes of its own."
            )
        if not processes.is_leader:
            return _work_along(experiment, config)
        columns = (TextColumn("{task.fields[title]:<14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        console = Console(stderr=True, quiet=not progress)
        with Progress(*columns, TextColumn("{task.description}"), console=console) as bar:
            return _run(experiment, config, Path(folder), engine, address, bar)


def _work_along(experiment: Experiment, config: Any) -> Section:
    """Do the part of torchrun's other processes in each cell that the first one runs. Nothing is kept."""
    while (cell := process_group().broadcast(None)) is not None:
        with tempfile.TemporaryDirectory() as nowhere:
            experiment.run_cell(config, cell, Path(nowhere))
    return Section(experiment.title)


def _run(
    experiment: Experiment, config: Any, folder: Path, engine: Engine, address: str | None, bar: Progress
) -> Section:
    cells = experiment.cells(config)
    names = [cell.name for cell in cells]
    if not cells or len(set(names)) < len(names):
        raise RunError(
            f"Expected at least one cell, each with a name of its own, but got {names} from {experiment.name!r}; "
            "change its config."
        )
    done = finished(experiment, config, cells, folder)
    has_kept = bool(done)
    task = bar.add_task("", total=len(cells), completed=len(done), title=experiment.name)

    def tell(doing: str) -> None:
        bar.update(task, description=doing)

    try:
        missing = [cell for cell in cells if cell.name not in done]
        if engine == "ray" and missing:
            results = run_on_ray(experiment, config, missing, folder, address, tell)
        else:
            results = _one_by_one(lambda cell: run_and_keep(experiment, config, cell, folder), missing, tell)
        for result in results:
            done[result.cell.name] = result
            bar.advance(task)
        tell("drawing")
        section = _drawn(experiment, config, [done[name] for name in names], folder, has_kept)
        tell("")
    except KeyboardInterrupt:
        raise RunInterrupted(
            f"stopped: {len(done)} of {len(cells)} cells of {experiment.name!r} are done and kept in {folder}; run "
            "the same command again to go on from there"
        ) from None
    write([section], folder / "report.html", experiment.title, experiment.summary, provenance(config))
    return section


def _drawn(experiment: Experiment, config: Any, results: list[Result], folder: Path, has_kept: bool) -> Section:
    """Draw the section; has_kept: whether some results are of an earlier run, whose version may have measured less."""
    try:
        with plots.style():
            return experiment.draw(config, results, folder)
    except MissingMetric as error:
        if not has_kept:
            raise
        raise RunError(
            f"Expected results of this version of borderless but got no {error} in a result that {folder} holds; "
            f"choose another with --folder, or delete {folder}"
        ) from error


def _one_by_one(run: Callable[[Cell], Result], cells: list[Cell], started: Callable[[str], Any]) -> Iterator[Result]:
    """Run the cells in this process, and tell the others of torchrun each cell, then that there are no more."""
    for cell in cells:
        started(cell.name)
        process_group().broadcast(cell)
        yield run(cell)
    process_group().broadcast(None)
