"""Results as files: `CELL/result.json` records that a cell is done, and with which config."""

import hashlib
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from borderless.errors import CorruptResultWarning, OtherVersionWarning, RunError
from borderless.experiments.experiment import Cell, Experiment, Metrics, Result
from borderless.report.provenance import commit, plain, versions
from borderless.runtime.files import clear_abandoned, write_atomically

RESULT = "result.json"


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
        text = json.dumps(record | {"digest": _digest(metrics)}, indent=2, default=_number)
    except TypeError as error:
        raise RunError(
            f"Expected metrics that JSON can hold but got others from the cell {cell.name!r} ({error}); return "
            "numbers, texts, lists and dicts, and save arrays in the folder."
        ) from error
    write_atomically(cell_folder / RESULT, text + "\n")
    # Read back, so that drawing sees the same whether the cell ran now or on another day.
    return read_result(cell, folder)


def read_result(cell: Cell, folder: Path) -> Result:
    """Return the result of `cell` that `folder` holds.

    Raises:
        KeyError, TypeError, ValueError: The file is not a result.
    """
    record = _read(folder / cell.name / RESULT)
    return Result(cell, Metrics(record["metrics"]), folder / cell.name, record["duration_s"])


def finished(experiment: Experiment, config: Any, cells: Sequence[Cell], folder: Path) -> dict[str, Result]:
    """Return the results that `folder` already holds, by the name of the cell.

    Raises:
        RunError: The folder holds results of another experiment or config.
    """
    wanted, now = plain(config), versions()
    by_name = {cell.name: cell for cell in cells}
    done = {}
    for written_to in (folder, *(folder / name for name in by_name)):
        clear_abandoned(written_to)
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
            raise _taken(folder, f"results of {record['experiment']!r}", f"{experiment.name!r} needs one of its own")
        if record["config"] != wanted:
            changes = _differences(record["config"], wanted)
            raise _taken(folder, f"results with another config ({changes})", "a folder holds one config")
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
        done[name] = Result(by_name[name], Metrics(record["metrics"]), path.parent, record["duration_s"])
    return done


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a result file.

    Raises:
        KeyError, TypeError, ValueError: It is not one.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    for key, kind in {"experiment": str, "cell": dict, "config": dict, "versions": dict, "metrics": dict}.items():
        if not isinstance(record[key], kind):
            raise TypeError(f"{key!r} is a {type(record[key]).__name__}")
    if record["cell"]["name"] != path.parent.name:
        raise ValueError(f"it is of the cell {record['cell']['name']!r}")
    float(record["duration_s"])
    if "digest" in record and record["digest"] != _digest(record["metrics"]):
        raise ValueError("its metrics are not those that were written")
    return record


def _digest(metrics: Mapping[str, Any]) -> str:
    """Return a number for metrics, as they are when they are read, that others hardly have."""
    as_read = json.loads(json.dumps(metrics, default=_number))
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()[:16]


def _taken(folder: Path, what: str, why: str) -> RunError:
    return RunError(
        f"Expected a folder of this run but got {folder}, which holds {what}; {why}; choose another with --folder, or "
        f"delete {folder}"
    )


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{key} {found.get(key)} → {wanted.get(key)}"
        for key in sorted({*found, *wanted})
        if found.get(key) != wanted.get(key)
    )


def _number(value: object) -> object:
    """Return NumPy's and PyTorch's single numbers as Python's."""
    if isinstance(value, np.generic) or (hasattr(value, "item") and getattr(value, "ndim", None) == 0):
        return value.item()  # pyright: ignore[reportAttributeAccessIssue]
    raise TypeError(f"{type(value).__name__} is not a number, text, list or dict")
