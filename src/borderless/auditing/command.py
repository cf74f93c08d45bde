"""`borderless audit`: a network by name or from a file, images from a folder, a page; and two audits compared."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import nn

from borderless.auditing.comparison import write_comparison
from borderless.auditing.record import read
from borderless.auditing.result import Finding
from borderless.auditing.run import Audit, audit
from borderless.auditing.verdict import judge
from borderless.data import pictures
from borderless.data.pictures import Pictures
from borderless.errors import DataError
from borderless.models.request import NetworkRequest, slug
from borderless.report.content import Table
from borderless.runtime.devices import check_device
from borderless.runtime.distributed import process_group
from borderless.runtime.evaluation import evaluating


class AuditSettings(Protocol):
    """What the command line gives; `AuditOptions` there says what each is."""

    images: Path | None
    weights: str
    arch: str
    size: int
    count: int
    batch_size: int
    workers: int
    classes: int | None
    seed: int
    device: str
    folder: Path | None


def run(name: str, options: Any) -> tuple[list[Finding], Path, float | None]:
    """Audit one network by name or from a file, on images from a folder.

    Returns:
        The findings, the page, and the share of predictions that change with the position (None if not measured).

    Raises:
        ConfigError: There is no such device here.
        DataError: Numbers that are too small, or a folder without images.
    """
    check_device(options.device)
    if min(options.size, options.count, options.batch_size) < 1 or options.workers < 0:
        raise DataError(
            f"got size={options.size}, count={options.count}, batch-size={options.batch_size}, "
            f"workers={options.workers}; needed: one pixel, one image and a batch of one at least, no negative number"
        )
    asked = NetworkRequest(name, options.arch, options.weights, options.classes, options.seed)
    model = asked.load().to(options.device)
    mean, deviation = asked.normalization
    if options.images is None:
        found = pictures.photographs(options.size, options.count, mean, deviation)
    else:
        found = pictures.from_folder(
            options.images, options.count, options.size, options.seed, mean, deviation, options.workers
        )
    folder = options.folder or Path("runs") / "audit" / asked.slug
    made = _measured(model, found, Path(name).stem if asked.is_file else name, options)
    if asked.is_random:
        made = replace(made, notes=(*made.notes, f"its weights are random, drawn with seed {options.seed}"))
    page = process_group().on_leader(lambda: made.save(folder))
    share = None if made.sensitivity is None else made.sensitivity.all_places.flips
    return judge(made), page, share


def _measured(model: nn.Module, found: Pictures, name: str, options: AuditSettings) -> Audit:
    console = Console(stderr=True)
    columns = (TextColumn("audit"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, disable=not process_group().is_leader) as bar:
        task = bar.add_task("", total=None)
        made = audit(
            model,
            found,
            _labels(model, found),
            name=name,
            batch_size=options.batch_size,
            workers=options.workers,
            seed=options.seed,
            progress=lambda done, of, step: bar.update(task, completed=done, total=of, description=step),
        )
    return replace(made, drawn_from=found.drawn_from, skipped=found.skipped, kinds=found.kinds)


def compare(one: Path, other: Path) -> tuple[Path, Sequence[Table]]:
    """Write two audits side by side, in a page beside the first one's; returns its path and its tables."""
    records = [read(path) for path in (one, other)]
    folder = one if one.is_dir() else one.parent
    against = slug((other if other.is_dir() else other.parent).name or other.stem)
    return write_comparison(records[0], records[1], folder / f"against-{against}.html")


def _labels(model: nn.Module, found: Pictures) -> Any:
    """Return the class folders' numbers, if there are as many folders as the network has classes."""
    if found.labels is None:
        return None
    device = next(model.parameters()).device
    with evaluating(model):
        answer = model(found[0][None].to(device))
    classes = answer.shape[1] if isinstance(answer, torch.Tensor) and answer.ndim == 2 else None
    return found.labels if classes == len(found.classes) else None
