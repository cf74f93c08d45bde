"""`audit`: every measure of a network's use of location, on anyone's images, gathered in one record.

What cannot be measured on a network (an operation without a rule, too few images) is left out and named with its
reason; the rest goes on. Nothing here judges.

Shapes: images (N, C, H, W); objects (M, C, h, w), cut from the images unless given.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from borderless.auditing.classifier import as_classifier
from borderless.conversion import bordered, conversion_of
from borderless.engine.border import Border
from borderless.errors import ApproximatePhaseWarning, ImageError, PositionDependentWarning
from borderless.explanation import PositionRead, explain
from borderless.measures.batches import Batch, check_labels, load, of_each_batch
from borderless.measures.border_effect import BorderError, border_error
from borderless.measures.intervals import over_objects
from borderless.measures.position_sensitivity import Effect, Sensitivity, effect, on_canvases, sensitivity
from borderless.measures.shift_consistency import Consistency, ProtocolName, consistency
from borderless.measures.uneven_padding import Influence, UnevenPadding, even_sizes, influence, uneven_padding
from borderless.placement.place import place
from borderless.runtime.distributed import process_group
from borderless.runtime.evaluation import evaluating

if TYPE_CHECKING:
    from borderless.auditing.decoding import Decodability

# Of the image's side: an object, as large as the crop of 96 px that networks for 224 px still recognise.
OBJECT_SHARE = 3 / 7
REACHES = (0, 1, 2, 4, 8)
# Images that the parts look at which need them side by side; the others go through all of them, batch by batch.
MOST_IN_MEMORY = 64
# Images that say what a bound on the reach does, and how many of them move.
_REACH_IMAGES, _REACH_MOVED = 16, 2
MOVES: tuple[ProtocolName, ...] = ("zhang2019", "circular", "canvas")
PARTS = 7 + len(MOVES)


@dataclass(frozen=True)
class Layout:
    """What the integers say. position_reads: where the model reads absolute position by itself. costs: multiply-adds
    under each border, relative to the model's own padding.
    """

    total_stride_px: tuple[int, ...]
    receptive_field_px: tuple[int, ...]
    macs: int
    costs: dict[str, float]
    position_reads: tuple[PositionRead, ...]
    uneven: tuple[UnevenPadding, ...]
    even_sizes: tuple[int, ...]


@dataclass(frozen=True)
class ReachPoint:
    """What a bound on how far maps may grow gives: cells, cost, relative change of the logits over whole strides from
    the edge (None where the image has no room for one), and the share of images with the answer of the model as it is
    (with labels: the accuracy).
    """

    reach: int | None
    cost: float
    error: float | None
    kept: float


@dataclass(frozen=True)
class Accuracy:
    """The share of images with the right answer, and its 95 % interval over images."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Audit:
    """Everything that was measured; a part that could not be is None, and `missing` says why.

    repeat: the relative difference between two runs on the same images, which every other number must be seen beside.
    accuracy: on the images as they are; None without labels. drawn_from: how many images there were to draw from.
    """

    name: str
    kind: str
    border: str
    parameters: int
    size: tuple[int, int]
    images: int
    classes: int
    seed: int
    accuracy: Accuracy | None
    repeat: float
    layout: Layout | None
    influence: Influence | None
    errors: BorderError | None
    sensitivity: Sensitivity | None
    on_photograph: Effect | None
    accuracy_at_middle: float | None
    accuracy_elsewhere: float | None
    shifts: dict[str, Consistency]
    decodability: "Decodability | None"
    reach: tuple[ReachPoint, ...]
    missing: dict[str, str]
    notes: tuple[str, ...]
    duration_s: float
    drawn_from: int | None = None
    skipped: tuple[str, ...] = ()
    kinds: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """What `audit.json` holds: see docs/reference/audit.md for its schema."""
        from borderless.auditing.record import to_dict

        return to_dict(self)

    def save(self, folder: Any) -> Any:
        """Write audit.json and report.html into `folder`; returns the path of the page."""
        from borderless.auditing.page import save

        return save(self, folder)

    def __str__(self) -> str:
        from borderless.auditing.judge import judge

        return "\n".join(f"{finding.level:<8} {finding.text}" for finding in judge(self))


def audit(
    model: nn.Module,
    images: Any,
    labels: Tensor | None = None,
    *,
    objects: Tensor | None = None,
    background: float | tuple[float, ...] = 0.0,
    name: str = "",
    places: int = 25,
    object_count: int = 8,
    passes: int = 2,
    batch_size: int = 8,
    workers: int = 0,
    seed: int = 0,
    progress: Callable[[int, int, str], Any] | None = None,
) -> Audit:
    """What `model` makes of location, measured on `images`.

    images: a tensor (N, C, H, W) as the model takes it, or a data set of images or of (image, label) pairs, all equal
    in size. objects: what to place on canvases (M, C, h, w); without them, the middles of the first images.
    background: of the canvases, in input units; 0 is the mean of normalised images. places: how many on a canvas.
    passes: pairs of moved views of each image. workers: processes that load a data set's images. progress: called with
    parts done, parts in all, and the part's name.

    Of all images come the answers, the border error and the shifts, which under torchrun the processes share; the other
    parts take the first ones, and every process does them. All processes return the same.

    The model returns logits (N, classes); of a dict, a tuple or a list, the first such tensor is taken, which `notes`
    say. It runs in eval mode where its parameters are and is left as it was. Raises ImageError for images that do not
    fit; what cannot be measured otherwise is named in `missing`.
    """
    started = time.perf_counter()
    if len(images) < 1 or batch_size < 1:
        raise ImageError(f"got {len(images)} images and batch_size={batch_size}; needed: one at least")
    some = load(images, range(min(MOST_IN_MEMORY, len(images))))[0].cpu()
    first = some[:batch_size]
    answering, notes = as_classifier(model, first.to(_device(model)))
    missing: dict[str, str] = {}
    done = 0

    def part(title: str, run: Callable[[], Any], otherwise: Any = None) -> Any:
        """One part, or why there is none."""
        nonlocal done
        if progress is not None:
            progress(done, PARTS, title)
        try:
            with warnings.catch_warnings():
                # What reads position, and a phase that is approximate, are findings.
                warnings.simplefilter("ignore", PositionDependentWarning)
                warnings.simplefilter("ignore", ApproximatePhaseWarning)
                return run()
        except Exception as error:  # the model's own among them; what is lost is one part, and it is named
            missing[title] = f"{type(error).__name__}: {error}"
            return otherwise
        finally:
            done += 1

    things = _middles(some[:object_count]) if objects is None else objects
    size = (int(first.shape[2]), int(first.shape[3]))
    answered = _answers(answering, images, labels, batch_size, workers)
    answers, known = answered.classes, answered.labels
    layout = part("layout", lambda: _layout(answering, some))
    felt = part("influence", lambda: influence(answering, some[:4], seed))
    errors = part(
        "border error",
        lambda: border_error(
            answering, images, background=background, batch_size=batch_size, workers=workers, seed=seed
        ),
    )
    right = known[: len(things)] if known is not None and objects is None else None

    def place_everywhere() -> Sensitivity:
        if layout is None:
            raise ImageError("got no layout; needed: the model's total stride, which tells the border from the stride")
        stride = layout.total_stride_px
        # As large as the images, or larger, so that there are places whole strides apart.
        sides = zip(size, things.shape[2:], stride, strict=True)
        canvas = tuple(max(n, o + 2 * s) for n, o, s in sides)
        return sensitivity(
            answering,
            things,
            (canvas[0], canvas[1]),
            stride,
            labels=right,
            background=background,
            places=places,
            seed=seed,
        )

    def place_on_a_photograph() -> Effect | None:
        if placed is None:
            return None
        if placed.canvas != size:
            raise ImageError(f"got no places on a canvas of {size}; needed: objects that move on a photograph")
        with evaluating(answering):
            where, device = torch.as_tensor(placed.positions), _device(answering)
            found = place(answering, things.to(device), where, size, some[-1].to(device))
        return effect(found.double().cpu().numpy(), seed)

    placed = part("sensitivity", place_everywhere)
    on_photograph = part("sensitivity on a photograph", place_on_a_photograph)
    shifts = {}
    for protocol in MOVES:
        moved = part(
            f"shifts, {protocol}",
            partial(
                _moved, protocol, min(size), answering, images, labels, background, passes, batch_size, workers, seed
            ),
        )
        shifts |= {} if moved is None else {protocol: moved}
    decoded = part("decodability", lambda: _decoded(answering, some, background, seed))
    reach = part("reach", lambda: _reach_curve(answering, some, answers, known, layout, background), ())
    if progress is not None:
        progress(PARTS, PARTS, "")
    at_middle = elsewhere = None
    if placed is not None and right is not None:
        at_middle, elsewhere = _accuracies(placed, right)
    own = conversion_of(model)
    return Audit(
        name=name or type(model).__name__,
        kind=type(model).__name__,
        border="its own padding" if own is None else repr(own.border),
        parameters=sum(p.numel() for p in model.parameters()),
        size=size,
        images=len(images),
        classes=answered.count,
        seed=seed,
        accuracy=None if known is None else _accuracy(answers, known, seed),
        repeat=answered.repeat,
        layout=layout,
        influence=felt,
        errors=errors,
        sensitivity=placed,
        on_photograph=on_photograph,
        accuracy_at_middle=at_middle,
        accuracy_elsewhere=elsewhere,
        shifts=shifts,
        decodability=decoded,
        reach=reach,
        missing=missing,
        notes=tuple(notes),
        duration_s=time.perf_counter() - started,
    )


def _middles(images: Tensor) -> Tensor:
    """The middle of each image, `OBJECT_SHARE` of its sides."""
    sides = [max(1, round(OBJECT_SHARE * n)) for n in images.shape[2:]]
    top, left = ((n - side) // 2 for n, side in zip(images.shape[2:], sides, strict=True))
    return images[:, :, top : top + sides[0], left : left + sides[1]]


@dataclass(frozen=True)
class _Answered:
    """classes: of each image. labels: if they are known. count: how many classes there are. repeat: as in `Audit`."""

    classes: Tensor
    labels: Tensor | None
    count: int
    repeat: float


def _answers(model: nn.Module, images: Any, labels: Tensor | None, batch_size: int, workers: int) -> _Answered:
    """What the model says of the images as they are, over all processes."""
    if labels is not None:
        check_labels(labels, len(images))

    count, repeat = 0, 0.0

    def answer(batch: Batch) -> Tensor:
        nonlocal count, repeat
        logits = model(batch.images.clone())
        if not torch.isfinite(logits).all():
            raise ImageError(
                f"got logits of {type(model).__name__} that are not all finite; needed: numbers; are the images "
                "normalised as it expects?"
            )
        if batch.start == 0:
            again = model(batch.images)
            count = logits.shape[1]
            repeat = float((again - logits).abs().max() / logits.abs().max().clamp(min=1e-30))
        return logits.argmax(1).cpu()

    found, known = of_each_batch(images, batch_size, model, answer, workers)
    count, repeat = process_group().broadcast((count, repeat))  # the first process has the first batch
    right = known if labels is None else labels.cpu()
    if right is not None and not 0 <= int(right.min()) <= int(right.max()) < count:
        raise ImageError(
            f"got labels from {int(right.min())} to {int(right.max())} for a model with {count} classes; needed: "
            f"0 to {count - 1}"
        )
    return _Answered(torch.cat(found), right, count, repeat)


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def _layout(model: nn.Module, images: Tensor) -> Layout:
    channels, size = images.shape[1], (images.shape[2], images.shape[3])
    told = {name: explain(model, size, name, channels=channels) for name in ("zero", "full", "infinite")}
    own = told["zero"]
    return Layout(
        total_stride_px=tuple(int(s) for s in own.total_stride),
        receptive_field_px=tuple(int(f) for f in own.receptive_field),
        macs=own.macs_own,
        costs={name: found.cost for name, found in told.items()},
        position_reads=told["infinite"].position_reads,
        uneven=uneven_padding(model, size, channels),
        even_sizes=tuple(even_sizes(model, size, channels)),
    )


def _decoded(model: nn.Module, images: Tensor, background: float | tuple[float, ...], seed: int) -> "Decodability":
    from borderless.auditing.decoding import decodability  # scikit-learn and scipy are seconds to import

    return decodability(model, images, background, seed)


def _moved(
    protocol: ProtocolName,
    side: int,
    model: nn.Module,
    images: Any,
    labels: Tensor | None,
    background: Any,
    passes: int,
    batch_size: int,
    workers: int,
    seed: int,
) -> Consistency:
    """Consistency; crops and canvases differ from the images by an eighth of their sides."""
    return consistency(
        model,
        images,
        labels,
        protocol,
        range_px=max(2, side // 8),
        passes=passes,
        seed=seed,
        background=background,
        batch_size=batch_size,
        workers=workers,
    )


def _reach_curve(
    model: nn.Module, images: Tensor, answers: Tensor, labels: Tensor | None, layout: Layout | None, background: Any
) -> tuple[ReachPoint, ...]:
    """From no reach to an endless one."""
    if layout is None:
        raise ImageError("got no layout; needed: the model's total stride, over which objects are moved")
    size, shown = (images.shape[2], images.shape[3]), images[:_REACH_IMAGES]
    wanted = answers[: len(shown)] if labels is None else labels[: len(shown)]
    moves = _from_the_edges(size, (int(layout.total_stride_px[0]), int(layout.total_stride_px[1])))
    objects = _middles(shown[:_REACH_MOVED])
    points = []
    for reach in (*REACHES, None):
        border = Border("infinite", reach=reach, background=background)
        cost = explain(model, size, border, channels=images.shape[1]).cost
        with bordered(model, border), evaluating(model):
            errors = [effect(on_canvases(model, objects, where, size, background)).change for where in moves]
            kept = (model(shown.to(_device(model))).argmax(1).cpu() == wanted).float().mean()
        points.append(ReachPoint(reach, cost, max(errors) if errors else None, float(kept)))
    return tuple(points)


def _from_the_edges(size: tuple[int, int], stride: tuple[int, int]) -> list[np.ndarray]:
    """Two pairs of places whole strides apart: one begins at the upper left edge, the other at the lower right."""
    room = [n - round(OBJECT_SHARE * n) for n in size]
    steps = [r // s // 2 * s or r // s * s for r, s in zip(room, stride, strict=True)]
    if not any(steps):
        return []
    near, far = (0, 0), (room[0], room[1])
    return [
        np.array([near, (steps[0], steps[1])]),
        np.array([far, (room[0] - steps[0], room[1] - steps[1])]),
    ]


def _accuracy(answers: Tensor, labels: Tensor, seed: int) -> Accuracy:
    right = (answers == labels).double().numpy()
    return Accuracy(float(right.mean()), *over_objects(right, seed))


def _accuracies(placed: Sensitivity, labels: Tensor) -> tuple[float, float]:
    """Of the objects at the middle, and at all other places."""
    right = placed.answers == labels.numpy()
    return float(right[0].mean()), float(right[1:].mean())
