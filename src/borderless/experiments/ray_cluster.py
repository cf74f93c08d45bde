"""Run cells as Ray tasks, on this machine or on a cluster. Ray schedules, moves results, and replaces lost workers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from borderless.errors import RunError
from borderless.experiments.experiment import Cell, Experiment, Result
from borderless.experiments.results_on_disk import RESULT, read_result, run_and_keep
from borderless.runtime.files import write_atomically
from borderless.runtime.malloc import keep_freed_memory
from borderless.runtime.ray_session import HERE, check_room, ray_session

# A worker that dies is replaced, and its cell run again, at most this often.
RETRIES = 3
# Checkpoints stay where the cell ran: the next try finds them there, and no result needs them.
_STAYS = ".pt"


def run_on_ray(
    experiment: Experiment,
    config: Any,
    cells: list[Cell],
    folder: Path,
    address: str | None,
    started: Callable[[str], Any],
) -> Iterator[Result]:
    """Yield the results, as they come; warn if cells have to wait for a larger machine.

    Each task has as many threads as PyTorch has here, so numbers come out the same. Every machine needs borderless.
    Where they share `folder`, a cell that is run again finds its checkpoint.

    Args:
        experiment: The experiment.
        config: Its settings.
        cells: Its cells that are to run.
        folder: Folder of the results on this machine.
        address: Address of a running cluster, "auto" to look for one; None takes Ray's own RAY_ADDRESS, and without it
            starts Ray on this machine and ends it afterwards.
        started: Called with the name of each cell.

    Raises:
        MissingPackage: Ray is not installed.
        RunError: The cluster cannot be reached, Ray does not start, the device is one GPU by its number, or a cell
            loses its worker too often.
    """
    device = torch.device(getattr(config, "device", "cpu"))
    needs_gpu = device.type == "cuda"
    if device.index is not None:
        raise RunError(
            f"Expected the device {device.type} for Ray, which gives each cell a GPU of its own, but got {device}; "
            "leave out its number."
        )
    with ray_session(address) as (ray, found):
        threads = torch.get_num_threads()
        check_room(ray.nodes(), threads, needs_gpu, may_grow=found != HERE)
        task = ray.remote(num_cpus=threads, num_gpus=int(needs_gpu), max_retries=RETRIES)(_run)
        shared = ray.put((experiment, config))
        waiting = {task.remote(shared, cell, str(folder.resolve()), threads): cell for cell in cells}
        while waiting:
            (first, *_), _ = ray.wait(list(waiting))
            cell = waiting.pop(first)
            started(cell.name)
            yield _kept(ray, first, cell, folder)


def _run(shared: tuple[Experiment, Any], cell: Cell, folder: str, threads: int) -> dict[str, bytes]:
    """Run the cell in a worker; return the files that it left, by their path in the cell's folder."""
    experiment, config = shared
    torch.set_num_threads(threads)
    keep_freed_memory()
    result = run_and_keep(experiment, config, cell, Path(folder))
    files = [path for path in result.folder.rglob("*") if path.is_file() and path.suffix not in (_STAYS, ".tmp")]
    return {path.relative_to(result.folder).as_posix(): path.read_bytes() for path in files}


def _kept(ray: Any, task: Any, cell: Cell, folder: Path) -> Result:
    try:
        files = ray.get(task)
    except ray.exceptions.RayTaskError as error:  # the cell raised: the cause is what the user can mend
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise RunError(
            f"Expected a result of the cell {cell.name!r} but got none: its worker was lost {RETRIES + 1} times "
            f"({type(error).__name__}); is there enough memory? The finished cells are kept in {folder}"
        ) from error
    for name in sorted(files, key=lambda name: name == RESULT):  # the result last: it says that all is there
        path = folder / cell.name / name
        if not path.is_file() or path.read_bytes() != files[name]:
            write_atomically(path, files[name])
    return read_result(cell, folder)
