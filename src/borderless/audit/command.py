"""`borderless audit`: a network by name or from a file, images from a folder, a page; and two audits compared."""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import nn

from borderless.audit.judge import Finding, judge
from borderless.audit.measure import PARTS, Audit, audit
from borderless.audit.page import write_comparison
from borderless.audit.record import read
from borderless.data import pictures
from borderless.data.pictures import Pictures
from borderless.errors import CheckpointError, DataError, UnknownName
from borderless.experiments.arms import check_device
from borderless.models import load
from borderless.models.checkpoint import SUFFIXES
from borderless.models.loading import resolve
from borderless.models.packaged import ARCHITECTURE
from borderless.models.preprocessing import normalisation
from borderless.modes import measured
from borderless.report import Table
from borderless.team import team

_PROGRAMS = (".pt2", ".onnx", ".ptl", ".engine", ".tflite")


class Options(Protocol):
    """What the command line gives; `cli.AuditOptions` says what each is."""

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
    """Audit one network. Returns the findings, the page, and the share of answers that change with the place."""
    check_device(options.device)
    if min(options.size, options.count, options.batch_size) < 1 or options.workers < 0:
        raise DataError(
            f"got size={options.size}, count={options.count}, batch-size={options.batch_size}, "
            f"workers={options.workers}; needed: one pixel, one image and a batch of one at least, no negative number"
        )
    model = network(name, options.arch, options.weights, options.classes, options.seed).to(options.device)
    mean, deviation = shown_as(name, options.arch, options.weights)
    if options.images is None:
        found = pictures.photographs(options.size, options.count, mean, deviation)
    else:
        found = pictures.from_folder(
            options.images, options.count, options.size, options.seed, mean, deviation, options.workers
        )
    folder = options.folder or Path("runs") / "audit" / slug(name)
    made = _measured(model, found, Path(name).stem if _is_file(name) else name, options)
    if _is_random(name, options.weights):
        made = replace(made, notes=(*made.notes, f"its weights are random, drawn with seed {options.seed}"))
    page = made.save(folder) if team().is_leader else folder
    share = None if made.sensitivity is None else made.sensitivity.all_places.flips
    return judge(made), page, share


def _measured(model: nn.Module, found: Pictures, name: str, options: Options) -> Audit:
    console = Console(stderr=True)
    columns = (TextColumn("audit"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, disable=not team().is_leader) as bar:
        task = bar.add_task("", total=PARTS)
        made = audit(
            model,
            found,
            _labels(model, found),
            name=name,
            batch_size=options.batch_size,
            workers=options.workers,
            seed=options.seed,
            progress=lambda done, _, part: bar.update(task, completed=done, description=part),
        )
    return replace(made, drawn_from=found.drawn_from, skipped=found.skipped, kinds=found.kinds)


def network(name: str, arch: str, weights: str, classes: int | None, seed: int = 0) -> nn.Module:
    """A network by name with its library's weights, or the architecture `arch` with those in a file.

    seed: of random weights, where those are asked for or there are no others.
    Raises UnknownName and CheckpointError for what cannot be had, or cannot be read without running code from it.
    """
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if not _is_file(name):
        if arch:
            raise UnknownName(f"got the network {name!r} and --arch {arch!r}; --arch is for files of weights; give one")
        if _is_random(name, weights):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                return load(name, **options)
        if options:
            raise UnknownName(
                f"got --classes {classes} for {name!r} with weights of its library; --classes is for files of weights "
                "and for random ones; leave it out"
            )
        return load(name, _kept(name, weights))
    path = Path(name)
    if path.suffix.lower() in _PROGRAMS or _is_script(path):
        raise CheckpointError(
            f"got {path}, a compiled or exported program, in which borderless cannot change the borders; needed: the "
            f"weights of the Python model it was made from: save model.state_dict(), and give --arch"
        )
    if not arch:
        raise CheckpointError(
            f"got {path} without the architecture that its weights belong to; needed: --arch, for example --arch "
            "resnet50 (a file of torch.save(model) is not read, because unpickling it runs code from the file)"
        )
    return load(arch, path, **options)


def compare(one: Path, other: Path) -> tuple[Path, Sequence[Table]]:
    """Two audits side by side, in a page beside the first one's."""
    records = [read(path) for path in (one, other)]
    folder = one if one.is_dir() else one.parent
    against = slug((other if other.is_dir() else other.parent).name or other.stem)
    return write_comparison(records[0], records[1], folder / f"against-{against}.html")


def shown_as(name: str, arch: str, weights: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation that the images of `network` with the same arguments are normalised by."""
    return normalisation(arch) if _is_file(name) else normalisation(name, _kept(name, weights))


def is_packaged(name: str, weights: str) -> bool:
    """Whether `network` with the same arguments has the weights of a package."""
    return not _is_file(name) and _kept(name, weights) == "packaged"


def _kept(name: str, weights: str) -> str:
    """The weights of a network by name: those asked for, else its library's."""
    library, short = resolve(name)
    if _is_random(name, weights):
        return "random"
    kept = weights or ("packaged" if short == ARCHITECTURE else "default")
    return "pretrained" if kept == "default" and library == "timm" else kept


def _is_random(name: str, weights: str) -> bool:
    """The networks of the paper have no weights to download."""
    if _is_file(name):
        return False
    return weights == "random" or (not weights and resolve(name)[0] == "borderless")


def slug(name: str) -> str:
    """A folder's name for a network; of a file, with the folder that it is in."""
    if _is_file(name):
        path = Path(name)
        name = "-".join([*path.parent.parts[-1:], path.stem])
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")


def _is_file(name: str) -> bool:
    return name.lower().endswith((*SUFFIXES, *_PROGRAMS, ".bin", ".ckpt")) or Path(name).is_file()


def _is_script(path: Path) -> bool:
    """Whether the file is an archive of TorchScript, which holds code beside its tensors."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in entry for entry in archive.namelist())


def _labels(model: nn.Module, found: Pictures) -> Any:
    """The class folders' numbers, if there are as many folders as the network has classes."""
    if found.labels is None:
        return None
    device = next(model.parameters()).device
    with measured(model):
        answer = model(found[0][None].to(device))
    classes = answer.shape[1] if isinstance(answer, torch.Tensor) and answer.ndim == 2 else None
    return found.labels if classes == len(found.classes) else None
