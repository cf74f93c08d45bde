"""Audit: measure how a network's predictions depend on absolute position, on anyone's images.

What cannot be measured on a network (an operation without a rule, too few images) is left out and named with its
reason; the rest goes on. What draws is imported where it is needed, so that `import borderless` does without it.

Shapes: images (N, C, H, W); objects (M, C, h, w), cut from the images unless given.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from borderless.auditing.outputs import as_readable, predict
from borderless.auditing.result import NOT_ASKED, Accuracy, Measurements, Origin
from borderless.auditing.subject import OBJECT_SHARE, Background, Progress, Subject, middles
from borderless.auditing.tasks import Task
from borderless.conversion import conversion_of
from borderless.data.annotated import AnnotatedPictures, annotated_pictures
from borderless.data.pictures import Pictures, from_folder
from borderless.errors import DataError, ImageError, UnknownName
from borderless.measures.batches import load
from borderless.measures.intervals import over_objects
from borderless.measures.programs import as_module, is_program
from borderless.runtime.did_you_mean import unknown

if TYPE_CHECKING:
    from borderless.auditing.decoding import Decodability
    from borderless.auditing.parts import Part
    from borderless.auditing.parts.layout import NetworkLayout
    from borderless.auditing.parts.reach import ReachPoint
    from borderless.measures.border_effect import BorderEffect
    from borderless.measures.fragility import Fragility
    from borderless.measures.position_sensitivity import Sensitivity
    from borderless.measures.prediction_changes import Effect
    from borderless.measures.shift_consistency import Consistency
    from borderless.measures.uneven_padding import Influence

# Images that a part gets which needs them side by side; the others go through all of them, batch by batch.
MOST_IN_MEMORY = 64


@dataclass(frozen=True)
class Audit(Measurements):
    """Every number of an audit; `print` shows the findings, `save` writes the page.

    The results of parts that are not named here are in `results`.
    """

    @property
    def layout(self) -> "NetworkLayout | None":
        """Strides, receptive field, costs, and what reads absolute position."""
        return self.results.get("layout")

    @property
    def influence(self) -> "Influence | None":
        """Dependence of the output on each row and column of pixels."""
        return self.results.get("influence")

    @property
    def errors(self) -> "BorderEffect | None":
        """Effect of the border on every feature map."""
        return self.results.get("border_error")

    @property
    def sensitivity(self) -> "Sensitivity | None":
        """Dependence of predictions on the position of an object on a canvas."""
        return self.results.get("sensitivity")

    @property
    def on_photograph(self) -> "Effect | None":
        """The same on photographs instead of an empty canvas."""
        return self.results.get("on_photograph")

    @property
    def fragility(self) -> "Fragility | None":
        """Shares of predictions that small changes of the same images change."""
        return self.results.get("fragility")

    @property
    def accuracy_at_middle(self) -> float | None:
        """Accuracy of the objects at the middle of the canvas; None without labels."""
        return self.results.get("accuracy_at_middle")

    @property
    def accuracy_elsewhere(self) -> float | None:
        """Accuracy of the objects at all other positions; None without labels."""
        return self.results.get("accuracy_elsewhere")

    @property
    def shifts(self) -> "dict[str, Consistency]":
        """Consistency of predictions when the whole image moves, by protocol."""
        return self.results.get("shifts", {})

    @property
    def decodability(self) -> "Decodability | None":
        """Position that a linear layer decodes from the features."""
        return self.results.get("decodability")

    @property
    def reach(self) -> "tuple[ReachPoint, ...]":
        """Effect and cost of bounds on how far feature maps may grow."""
        return self.results.get("reach", ())

    def to_dict(self) -> dict[str, Any]:
        """Return what `audit.json` holds: see docs/reference/audit.md for its schema."""
        from borderless.auditing.record import to_dict

        return to_dict(self)

    def save(self, folder: Path | str) -> Path:
        """Write audit.json and report.html into `folder`; returns the path of the page."""
        from borderless.auditing.page import save

        return save(self, folder)

    def __str__(self) -> str:
        from borderless.auditing.verdict import judge
        from borderless.report.content import LEVELS, plain_text

        return "\n".join(f"{LEVELS[finding.level]:<8} {plain_text(finding.text)}" for finding in judge(self))


def audit(
    model: nn.Module,
    images: Any,
    labels: Tensor | None = None,
    *,
    task: str | None = None,
    count: int = 64,
    size: int = 224,
    objects: Tensor | None = None,
    background: Background = 0.0,
    name: str = "",
    parts: Sequence[str] | None = None,
    position_count: int = 25,
    object_count: int | None = None,
    passes: int = 2,
    batch_size: int = 8,
    workers: int = 0,
    seed: int = 0,
    annotations: Path | str | None = None,
    class_names: Sequence[str] = (),
    origin: Origin | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Measure how the outputs of `model` depend on absolute position, on `images`.

    All images are used for predictions, border error and shifts, which under torchrun the processes share. The other
    parts use the first ones, and every process runs them. All processes return the same. The model runs in eval mode
    where its parameters are and is left as it was.

    Args:
        model: Returns what a task is about: logits (N, classes), label maps (N, classes, h, w), numbers, embeddings;
            of a dict, a tuple or a list, the first such tensor is taken, as `notes` say.
        images: A tensor (N, C, H, W) as the model takes it, or a data set of images or of (image, label) pairs, all
            equal in size; or the path of a folder of images, which are normalized as ImageNet's.
        labels: The right classes (N,), if the data set does not have them. Class folders are labels if there are as
            many as the network has classes.
        task: What the output means: classification, segmentation, dense (numbers per pixel), regression or embedding;
            by default it is guessed from the output's shape, as `task` and `guessed_from` of the result say.
        count: How many images of a folder to draw.
        size: Height and width of the images of a folder, in pixels.
        objects: What to place on photographs and canvases (M, C, h, w); without them, the middles of the first images.
        background: Of the canvases, in input units; 0 is the mean of normalized images.
        name: The name of the model on the page; by default its class.
        parts: Names of the parts to run, with those that they need; by default all.
        position_count: About how many positions on a canvas.
        object_count: How many objects to cut from the images; by default from 8 on as many as it takes until half the
            width of the verdict's interval is 10 points, or until there are no more images.
        passes: Pairs of moved views of each image.
        batch_size: Images per batch.
        workers: Processes that load a data set's images.
        seed: The random seed.
        annotations: What is annotated on the images of a folder, for scores by zone: a JSON file of COCO, a folder with
            XML files of VOC, or a folder of masks. Objects are then cut around annotated ones.
        class_names: Of the network's labels, in their order, from 0 on; by default labels are the numbers of classes.
        origin: Where model and images come from, for the page.
        progress: Called with the number of steps done (weighted by how long each takes), of all, and what is being
            done.

    Raises:
        ImageError: The images do not fit the model. What cannot be measured otherwise is named in `missing`.
        UnknownName: There is no task or part of that name.
        DataError: There is no such folder, no file in it can be used, or the annotations do not fit.
    """
    started = time.perf_counter()
    if isinstance(images, str | Path):
        images = from_folder(images, count, size, seed, workers=workers)
        origin = origin or Origin(mean=images.mean, deviation=images.deviation, names=images.names)
    if len(images) < 1 or batch_size < 1:
        raise ImageError(f"Expected an image and a batch_size of 1 but got {len(images)} and {batch_size}; add some.")
    first = load(images, range(min(MOST_IN_MEMORY, len(images))))[0].cpu()
    model = as_module(model)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    readable = as_readable(model, first[:batch_size].to(device), task)
    known = _annotated(annotations, class_names, images, readable.task, seed)
    chosen, left_out = _chosen(parts, readable.task, known is not None)
    things = _objects(known, first[:object_count]) if objects is None else objects
    origin = origin or Origin(class_names=tuple(class_names))
    predictions = predict(readable, images, labels, batch_size, workers)
    right = predictions.labels
    if isinstance(images, Pictures) and right is not None:
        labels, origin = right, replace(origin, class_names=origin.class_names or images.classes)
    subject = Subject(
        model=readable.model,
        body=readable.task.body(readable.model),
        images=images,
        labels=labels,
        first=first,
        objects=things,
        annotated=known,
        object_count=len(things) if objects is not None else object_count,
        object_labels=right[: len(things)] if right is not None and objects is None else None,
        predictions=predictions,
        background=background,
        position_count=position_count,
        passes=passes,
        batch_size=batch_size,
        workers=workers,
        seed=seed,
        closed=_closed(chosen) if is_program(model) else (),
        steps={step: cost for part in chosen for step, cost in part.STEPS.items()},
        origin=origin,
        progress=progress,
    )
    for part in chosen:
        subject.results |= part.measure(subject)
    subject.report("")
    own = conversion_of(model)
    return Audit(
        name=name or type(model).__name__,
        kind=type(model).__name__,
        border="the original padding" if own is None else repr(own.border),
        parameters=sum(p.numel() for p in model.parameters()),
        size=subject.size,
        images=len(images),
        task=readable.task.NAME,
        classes=predictions.count,
        seed=seed,
        accuracy=None if right is None or predictions.classes is None else _accuracy(predictions.classes, right, seed),
        repeat=predictions.repeat,
        results=subject.results,
        missing=subject.missing | dict.fromkeys(left_out, NOT_ASKED),
        notes=readable.notes,
        duration_s=time.perf_counter() - started,
        origin=origin,
        guessed_from=readable.guessed_from,
        **({} if not isinstance(images, Pictures) else _of_pictures(images)),
    )


def _of_pictures(images: Pictures) -> dict[str, Any]:
    return {"drawn_from": images.drawn_from, "skipped": images.skipped, "kinds": images.kinds}


def _annotated(
    path: Path | str | None, class_names: Sequence[str], images: Any, task: Task, seed: int
) -> AnnotatedPictures | None:
    """Return what is annotated on the images of a folder.

    Raises:
        DataError: The task cannot be scored on it, or it is not about the images.
    """
    if path is None:
        return None
    if not task.ANNOTATIONS:
        raise DataError(
            f"Expected annotations for detection or segmentation but got the task {task.NAME}; name --task."
        )
    if not isinstance(images, Pictures):
        raise DataError(
            f"Expected the path of a folder of images with annotations but got {type(images).__name__}; pass it."
        )
    found = annotated_pictures(images, path, class_names, seed)
    if not (found.annotations.has_boxes if task.ANNOTATIONS == "boxes" else found.annotations.has_masks):
        raise DataError(
            f"Expected annotated {task.ANNOTATIONS} for the task {task.NAME} but got {found.annotations.kind} without "
            "any; give others, or --task."
        )
    return found


def _objects(known: AnnotatedPictures | None, images: Tensor) -> Tensor:
    """Return squares around annotated objects, or else the middles of the images."""
    most_px = round(OBJECT_SHARE * min(images.shape[2:]))
    found = torch.empty(0) if known is None else known.objects(most_px, len(images))
    return found if len(found) else middles(images)


def _chosen(names: Sequence[str] | None, task: Task, is_annotated: bool) -> "tuple[list[Part], list[str]]":
    """Return the parts of these names and those that they need, in order, and the steps of the others.

    Parts that the task skips are neither.
    """
    from borderless.auditing.parts import discover

    parts = discover()
    missing = [name for name, part in parts.items() if getattr(part, "NEEDS_ANNOTATIONS", False) and not is_annotated]
    if unread := [name for name in names or () if name in missing]:
        raise DataError(f"Expected annotations for the part {unread[0]} but got none; pass them (--annotations).")
    skipped = [name for name in names or () if name in task.SKIPS]
    if skipped:
        raise UnknownName(f"Expected parts for the task {task.NAME} but got {skipped[0]}; leave it out")
    every = {name: part for name, part in parts.items() if name not in (*task.SKIPS, *missing)}
    wanted = list(every if names is None else names)
    for name in wanted:  # grows while it is read
        if name not in every:
            raise UnknownName(unknown("part of an audit", name, list(every), f"it is one of {', '.join(every)}"))
        wanted += [needed for needed in every[name].NEEDS if needed not in wanted]
    left_out = [step for name, part in every.items() if name not in wanted for step in part.STEPS]
    return [part for name, part in every.items() if name in wanted], left_out


def _closed(parts: "Sequence[Part]") -> list[str]:
    """Return the steps that need the network's layers."""
    return [step for part in parts for step in part.STEPS if step not in getattr(part, "FROM_OUTSIDE", ())]


def _accuracy(predicted: Tensor, labels: Tensor, seed: int) -> Accuracy:
    right = (predicted == labels).double().numpy()
    return Accuracy(float(right.mean()), *over_objects(right, seed))
