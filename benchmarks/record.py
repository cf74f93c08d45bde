"""The record of a benchmark's run: what was run, where, with which versions, and what was measured.

A benchmark calls `add_options` for its parser and `save` at its end. The record goes to --out; with --history it is
also added to benchmarks/history/NAME.jsonl, from which `python benchmarks/page.py` makes docs/reference/benchmarks.md.

Rows are dictionaries. What was timed several times is a `spread`: the median, the quartiles, and every run.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision

from borderless.errors import StorageError
from borderless.report.provenance import commit, versions
from borderless.runtime.files import check_writable

REPOSITORY = Path(__file__).resolve().parents[1]
HISTORY = REPOSITORY / "benchmarks" / "history"
_NOT_SETTINGS = ("out", "history")

Row = Mapping[str, Any]


def add_options(parser: argparse.ArgumentParser, name: str) -> None:
    """Add --out and --history to the options of the benchmark `name`."""
    parser.add_argument(
        "--out", type=_file, default=Path("runs/benchmarks") / f"{name}.json", help="the file of the record"
    )
    parser.add_argument(
        "--history", action="store_true", help=f"also add the record to benchmarks/history/{name}.jsonl"
    )


def _file(word: str) -> Path:
    """Return the path of a file that can be written: asked before the benchmark runs, not after."""
    path = Path(word)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{word} is a folder; expected a file, such as {path / 'record.json'}")
    try:
        check_writable(path.parent)
    except StorageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return path


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Return the median, the quartiles and all of `values`, of which there are two or more."""
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": median, "quartiles": [low, high], "runs": list(values)}


def save(name: str, config: argparse.Namespace, rows: Sequence[Row], **summary: Any) -> Path:
    """Write the record of a run.

    Args:
        name: The benchmark's, that of its file.
        config: Its options, `add_options`' among them.
        rows: What was measured, one row an arm.
        summary: Numbers that are of no single row.

    Returns:
        The file of the record.
    """
    record = make(name, config, rows, **summary)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if config.history:
        HISTORY.mkdir(exist_ok=True)
        with (HISTORY / f"{name}.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(_without_runs(record)) + "\n")
    return config.out


def make(name: str, config: argparse.Namespace, rows: Sequence[Row], **summary: Any) -> dict[str, Any]:
    """Return the record of a run as plain types."""
    settings = {key: value for key, value in vars(config).items() if key not in _NOT_SETTINGS}
    record = {
        "benchmark": name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": shlex.join(["python", f"benchmarks/{name}.py", *_arguments(sys.argv[1:])]),
        "commit": commit(),
        "machine": machine(str(settings.get("device", "cpu"))),
        "versions": {**versions(), "torchvision": torchvision.__version__, "timm": timm.__version__},
        "settings": settings,
        "rows": [dict(row) for row in rows],
        **summary,
    }
    return json.loads(json.dumps(record, default=str))


def machine(device: str) -> dict[str, Any]:
    """Return what the speed depends on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or "CPU",
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _arguments(words: Sequence[str]) -> list[str]:
    """What was typed, less where the record goes."""
    kept, skips = [], False
    for word in words:
        if skips or word == "--history" or word.startswith("--out="):
            skips = False
        elif word == "--out":
            skips = True
        else:
            kept.append(word)
    return kept


def _without_runs(value: Any) -> Any:
    """The history keeps medians and quartiles."""
    if isinstance(value, dict):
        return {key: _without_runs(inner) for key, inner in value.items() if key != "runs" or "median" not in value}
    return [_without_runs(inner) for inner in value] if isinstance(value, list) else value
