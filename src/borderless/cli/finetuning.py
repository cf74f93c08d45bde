"""Run `borderless finetune`: convert a pretrained network, train it further on anyone's images, audit it.

The folder that it writes is a training's (`best.pt`, `last.pt`) with an audit in `before` and one in `after`, and a
page that puts the two side by side. Repeating the command resumes where it was interrupted.
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset
from torchvision.transforms import v2

from borderless.auditing.comparison import write_comparison
from borderless.auditing.record import read
from borderless.auditing.run import audit
from borderless.cli.options import FinetuneOptions
from borderless.conversion import convert
from borderless.data import imagenet
from borderless.data.labeled import Labeled, LabeledSplit, load_labeled
from borderless.engine.border import Border
from borderless.errors import ConversionError, DataError
from borderless.models.head import with_classes
from borderless.models.loading import load
from borderless.models.request import NetworkRequest
from borderless.report import Table
from borderless.runtime.distributed import process_group
from borderless.runtime.files import check_writable, printable, write_atomically
from borderless.training.checkpoint import BEST
from borderless.training.loop import fit
from borderless.training.objective import evaluate


@dataclass(frozen=True)
class Outcome:
    """The results of a fine-tuning.

    Attributes:
        weights: The file of the fine-tuned weights.
        page: The two audits side by side; None without audits.
        tables: Those of the page; none without audits.
        accuracy_before: In [0, 1], on the test images; None if the last layer had to be a new one.
        accuracy: The same of the fine-tuned network.
        loading: Python that loads the fine-tuned network.
    """

    weights: Path
    page: Path | None
    tables: tuple[Table, ...]
    accuracy_before: float | None
    accuracy: float
    loading: str


def finetune_network(name: str, options: FinetuneOptions) -> Outcome:
    """Fine-tune the network `name`, or one from a file.

    Raises:
        DataError: The folder has fewer than two classes, or was made with other settings.
        ConversionError: The network has several outputs in training.
    """
    assert options.data is not None
    split = load_labeled(options.data, seed=options.seed)
    classes = len(split.classes)
    if classes < 2:
        raise DataError(
            f"Expected two classes but got {classes} in {printable(options.data)!r}; add a folder of images for each."
        )
    asked = NetworkRequest(name, options.arch, options.weights, options.classes, options.seed)
    folder = options.folder or Path("runs") / "finetune" / asked.slug
    normalized = asked.normalization
    seen = {
        "train": shown(split.train, options.size, *normalized, in_training=True),
        "validation": shown(split.validation, options.size, *normalized),
        "test": shown(split.test, options.size, *normalized),
    }
    process_group().on_leader(lambda: check_writable(folder))
    original = asked.load().to(options.device)
    process_group().on_leader(lambda: _check_settings(folder, _settings(name, options, split)))
    image = seen["test"][0][0][None].to(options.device)
    network_of_classes = with_classes(original, classes, image, options.seed)
    keeps_head = network_of_classes is original
    _check_training(network_of_classes, image)
    _audited(original, seen["test"], keeps_head, f"{name}, original padding", folder / "before", options)
    border = options.made_border
    model = convert(network_of_classes, border)
    batch_size, workers = options.training.batch_size, options.training.workers
    accuracy_before = evaluate(model, seen["test"], batch_size, workers=workers).accuracy if keeps_head else None
    fit(model, seen["train"], seen["validation"], options.training, folder, options.seed, progress=_say)
    accuracy = evaluate(model, seen["test"], batch_size, workers=workers).accuracy
    _audited(model, seen["test"], True, f"{name}, {' × '.join(border.names)}, fine-tuned", folder / "after", options)
    loading = _loading(asked, model, image, classes, border)
    page, tables = None, ()
    if process_group().is_leader:
        record = {
            "classes": split.classes,
            "accuracy_before": accuracy_before,
            "accuracy": accuracy,
            "test_images": len(split.test),
            "load": loading,
        }
        write_atomically(folder / "finetune.json", json.dumps(record, indent=2) + "\n")
        if options.audit_images:
            before, after = (read(folder / when) for when in ("before", "after"))
            page, found = write_comparison(before, after, folder / "report.html")
            tables = tuple(found)
    return Outcome(folder / BEST, page, tables, accuracy_before, accuracy, loading)


def _settings(name: str, options: FinetuneOptions, split: LabeledSplit) -> dict[str, Any]:
    """Return what distinguishes one fine-tuning from another."""
    assert options.data is not None
    return {
        "network": name,
        "arch": options.arch,
        "weights": options.weights,
        "data": str(options.data.resolve()),
        "classes": list(split.classes),
        "images": [len(split.train), len(split.validation), len(split.test)],
        "size": options.size,
        "border": repr(options.made_border),
        "audit_images": options.audit_images,
        "seed": options.seed,
    }


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write down what `folder` is made with; raise DataError if it was made with something else."""
    path = folder / "settings.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else settings
    except ValueError:
        found = {}
    different = ", ".join(key for key in settings if found.get(key) != settings[key])
    if different:
        raise DataError(
            f"Expected a folder of this fine-tuning but got {printable(folder)}, which has one with another "
            f"{different}; choose another with --folder, or delete it."
        )
    write_atomically(path, json.dumps(settings, indent=2) + "\n")


def _check_training(model: nn.Module, image: torch.Tensor) -> None:
    """Raise ConversionError for a network with other outputs in training, such as a second head's."""
    output = copy.deepcopy(model).train()(torch.cat([image, image]))
    if not isinstance(output, torch.Tensor):
        raise ConversionError(
            f"Expected logits from {type(model).__name__} in training but got {type(output).__name__}; switch its "
            "auxiliary heads off."
        )


def shown(
    images: Labeled,
    size_px: int,
    mean: Sequence[float] = imagenet.MEAN,
    deviation: Sequence[float] = imagenet.DEVIATION,
    in_training: bool = False,
) -> Labeled:
    """Return `images` as ImageNet's networks are shown them; in training, with other crops in each epoch."""
    if in_training:
        crops = [v2.RandomResizedCrop(size_px, scale=(0.35, 1.0), antialias=True), v2.RandomHorizontalFlip()]
    else:
        crops = imagenet.middle(size_px)
    steps = [v2.ToImage(), *crops, v2.RGB(), *imagenet.normalized(mean, deviation)]
    return images.through(v2.Compose(steps), is_random=in_training)


def _audited(
    model: nn.Module, test: Labeled, has_labels: bool, name: str, folder: Path, options: FinetuneOptions
) -> None:
    """Audit `model` on some test images, unless that was done before; labels count where its classes are theirs."""
    if not options.audit_images or process_group().broadcast((folder / "audit.json").is_file()):
        return
    some: Any = test.some(options.audit_images, options.seed)
    judged = some if has_labels else Unlabeled(some)
    found = audit(model, judged, name=name, seed=options.seed, workers=options.training.workers)
    found = replace(found, drawn_from=len(test))
    process_group().on_leader(lambda: found.save(folder))


class Unlabeled(Dataset[torch.Tensor]):
    """The images alone: of a network whose classes are others, labels would say nothing."""

    def __init__(self, images: Labeled) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.images[index][0]


def _loading(asked: NetworkRequest, model: nn.Module, image: torch.Tensor, classes: int, border: Border) -> str:
    """Return Python that loads the fine-tuned network, or a remark if its architecture alone is not enough."""
    weights = {name: value.cpu() for name, value in model.state_dict().items()}
    built: dict[str, Any] = {"num_classes": classes}
    arch = asked.arch or asked.name
    try:
        again = load(arch, **built)
        again.load_state_dict(weights)
        again = convert(again.eval(), border)
        with torch.no_grad():
            is_same = torch.allclose(again(image.cpu()), model.eval()(image).cpu(), rtol=1e-3, atol=1e-4)
    except (RuntimeError, TypeError, ValueError):
        is_same = False
    if not is_same:
        return (
            f"# {arch} built anew is another network than the one with its library's weights: build it with them first"
        )
    given = ", ".join(f"{key}={value}" for key, value in built.items())
    return f'bl.convert(load("{arch}", "best.pt", {given}), bl.{border!r})'


def _say(done: int, total: int) -> None:
    if process_group().is_leader:
        print(f"epoch {done} of {total}", flush=True)
