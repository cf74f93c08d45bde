"""Take out of whatever a network returns what a task is about, and run the network on all images.

The output, or its entry in a dict, a tuple or a list, decides the task unless it is named.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from borderless.auditing.tasks import Adapter, Task, discover, entries
from borderless.conversion import conversion_of
from borderless.data.pictures import Pictures
from borderless.errors import ImageError, UnknownName
from borderless.measures.batches import Batch, check_labels, of_each_batch
from borderless.measures.comparisons import OutputComparison
from borderless.measures.detections import is_detection
from borderless.runtime.blame import is_bug
from borderless.runtime.did_you_mean import unknown
from borderless.runtime.distributed import process_group
from borderless.runtime.evaluation import evaluating


@dataclass(frozen=True)
class Readable:
    """A network that returns one tensor, and what that means.

    Attributes:
        model: Returns it.
        task: What it means.
        guessed_from: The output that the task was guessed from, in words; "" for a task that was asked for.
        notes: What was chosen besides, in words.
    """

    model: nn.Module
    task: Task
    guessed_from: str
    notes: tuple[str, ...]


def as_readable(model: nn.Module, images: Tensor, asked: str | None) -> Readable:
    """Return `model`, or a module around it that returns one tensor, with the task that is asked for or guessed.

    Raises:
        ImageError: The model cannot run on the images, or returns nothing that the task fits.
        UnknownName: There is no such task.
    """
    tasks = discover()
    if asked is not None and asked not in tasks:
        raise UnknownName(unknown("task", asked, list(tasks), f"it is one of {', '.join(tasks)}"))
    output = _run(model, images)
    tried = tasks.values() if asked is None else [tasks[asked]]
    for task in tried:
        # The whole output first: its entries are looked at where it means nothing by itself.
        for key, found in [(None, output), *entries(output)]:
            if task.fits(found, images, asked is not None):
                guessed_from = "" if asked is not None else described(found)
                adapt, note = task.adapter(found)
                notes = [note] if note else []
                if key is not None:
                    entry = f"of the model's {type(output).__name__}, the entry {key!r} is taken for its output"
                    notes.insert(0, entry)
                return Readable(_around(model, key, adapt, notes), task, guessed_from, tuple(notes))
    if asked is not None:
        wanted = f"Expected an output for --task {asked}"
    else:
        wanted = f"Expected an output that a task fits ({', '.join(tasks)})"
    raise ImageError(
        f"{wanted} but {type(model).__name__} returns {described(output)} for {len(images)} images of "
        f"{' × '.join(map(str, images.shape[1:]))}; put a module around it that returns one tensor (images, …)."
    )


def _run(model: nn.Module, images: Tensor) -> Any:
    try:
        with evaluating(model):
            return model(images.clone())
    except Exception as error:
        if is_bug(error):
            raise
        line = next(iter(str(error).splitlines()), "").removesuffix(".")
        raise ImageError(
            f"Expected images that {type(model).__name__} takes but it cannot run on shape {tuple(images.shape)}, "
            f"{images.dtype} ({type(error).__name__}: {line}); pass images as it takes them, or put a module around it "
            "that does so and needs nothing else."
        ) from error


def described(output: Any) -> str:
    """Return an output in words: its kind, and the shapes in it."""
    if isinstance(output, Tensor):
        return f"a tensor {tuple(output.shape)}" if output.is_floating_point() else f"{output.dtype}"
    inside = [f"{key!r}: {described(found)}" for key, found in entries(output)[:4]]
    if is_detection(output):
        return f"a list of {len(output)}, each {described(output[0])}"
    return f"a {type(output).__name__} ({', '.join(inside)})" if inside else f"a {type(output).__name__}"


def _around(model: nn.Module, key: Any, adapt: Adapter | None, notes: list[str]) -> nn.Module:
    if key is None and adapt is None:
        return model
    if conversion_of(model) is not None:
        raise ImageError(
            f"Expected a converted model that returns one tensor but got {type(model).__name__}, of which "
            f"{notes[0].split(',')[0].removeprefix('of ')} would have to be taken; convert a module around it that "
            "does so."
        )
    return _Entry(model, key, adapt)


class _Entry(nn.Module):
    def __init__(self, model: nn.Module, key: Any, adapt: Adapter | None) -> None:
        super().__init__()
        self.model, self.key, self.adapt = model, key, adapt

    def forward(self, images: Tensor) -> Tensor:
        output = self.model(images)
        if self.key is not None:
            output = output[self.key]
        return output if self.adapt is None else self.adapt(output)


@dataclass(frozen=True)
class Predictions:
    """A network's outputs for images as they are.

    Attributes:
        comparison: How its outputs are compared.
        classes: The predicted class of each image (N,); None of another task than classification.
        labels: The right class of each image (N,), None if it is not known. The numbers of class folders are right if
            there are as many folders as classes.
        count: How many classes or channels the output has.
        repeat: The relative difference of the outputs between two runs on the same images.
    """

    comparison: OutputComparison
    classes: Tensor | None
    labels: Tensor | None
    count: int
    repeat: float


def predict(readable: Readable, images: Any, labels: Tensor | None, batch_size: int, workers: int) -> Predictions:
    """Run the network on all images, of which every process takes its share.

    Raises:
        ImageError: Labels that do not fit, outputs that are not finite or that do not differ between images.
    """
    model, task = readable.model, readable.task
    if labels is not None:
        if not task.HAS_LABELS:
            raise ImageError(f"Expected no labels for the task {task.NAME} but got some; leave them out.")
        check_labels(labels, len(images))
    count, repeat = 0, 0.0

    def predicted(batch: Batch) -> Tensor:
        nonlocal count, repeat
        outputs = model(batch.images.clone())
        if not torch.isfinite(outputs).all():
            raise ImageError(
                f"Expected finite {task.WORDS.numbers} of {type(model).__name__} but got others; check that the images "
                "are normalized as it expects."
            )
        if batch.start == 0:
            again = model(batch.images)
            count = outputs.shape[1] if outputs.ndim in (2, 4) else 1
            repeat = float((again - outputs).abs().max() / outputs.abs().max().clamp(min=1e-30))
        return task.summary(outputs).cpu()

    summaries, own_labels = of_each_batch(images, batch_size, model, predicted, workers)
    count, repeat = process_group().broadcast((count, repeat))  # the first process has the first batch
    summary = torch.cat(summaries)
    right = (own_labels if labels is None else labels.cpu()) if task.HAS_LABELS else None
    if right is None and task.HAS_LABELS and isinstance(images, Pictures) and len(images.classes) == count:
        right = images.labels
    if right is not None and not 0 <= int(right.min()) <= int(right.max()) < count:
        raise ImageError(
            f"Expected labels from 0 to {count - 1} for a model with {count} classes but got {int(right.min())} to "
            f"{int(right.max())}; check their order."
        )
    return Predictions(task.comparison(summary), summary if task.HAS_LABELS else None, right, count, repeat)
