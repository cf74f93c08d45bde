"""`audit`: every measure of a network's use of location, on anyone's images, gathered in one record.

What cannot be measured on a network (an operation without a rule, too few images) is left out and named with its
reason; the rest goes on. Nothing here judges.

Shapes: images (N, C, H, W); objects (M, C, h, w), cut from the images unless given.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from borderless.audit.answers import as_classifier
from borderless.borders import Border
from borderless.convert import bordered, conversion_of
from borderless.errors import ApproximatePhaseWarning, BorderlessError, PositionDependentWarning
from borderless.explain import PositionRead, explain
from borderless.measures.border_error import BorderError, border_error
from borderless.measures.equivariance import equivariance_error
from borderless.measures.images import batches, check_images
from borderless.measures.padding import Influence, UnevenPadding, even_sizes, influence, uneven_padding
from borderless.measures.sensitivity import Effect, Sensitivity, effect, sensitivity
from borderless.measures.shifts import Consistency, ProtocolName, consistency
from borderless.modes import measured
from borderless.place import place

if TYPE_CHECKING:
    from borderless.audit.decoding import Decodability

# Of the image's side: an object, as large as the crop of 96 px that networks for 224 px still recognise.
OBJECT_SHARE = 3 / 7
REACHES = (0, 1, 2, 4, 8)
# Images that the parts look at which need them side by side; the others go through all of them, batch by batch.
MOST_IN_MEMORY = 64
# Images that say what a bound on the reach does, and how many of them move.
_REACH_IMAGES, _REACH_MOVED = 16, 2
MOVES: tuple[ProtocolName, ...] = ("zhang2019", "circular", "canvas")
PARTS = 5 + len(MOVES)


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
    influence: Influence


@dataclass(frozen=True)
class ReachPoint:
    """What a bound on how far maps may grow gives: cells, cost, relative change of the logits over shifts by whole
    strides, and the share of images with the answer of the model as it is (with labels: the accuracy).
    """

    reach: int | None
    cost: float
    error: float
    kept: float


@dataclass(frozen=True)
class Audit:
    """Everything that was measured; a part that could not be is None, and `missing` says why.

    repeat: the relative difference between two runs on the same images, which every other number must be seen beside.
    accuracy: on the images as they are; None without labels.
    """

    name: str
    kind: str
    border: str
    parameters: int
    size: tuple[int, int]
    images: int
    classes: int
    seed: int
    accuracy: float | None
    repeat: float
    layout: Layout | None
    errors: BorderError | None
    sensitivity: Sensitivity | None
    on_photographs: Effect | None
    accuracy_at_middle: float | None
    accuracy_elsewhere: float | None
    shifts: dict[str, Consistency]
    decodability: "Decodability | None"
    reach: tuple[ReachPoint, ...]
    missing: dict[str, str]
    notes: tuple[str, ...]
    duration_s: float
    skipped: tuple[str, ...] = ()
    kinds: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """What `audit.json` holds: see docs/audit.md for its schema."""
        from borderless.audit.record import to_dict

        return to_dict(self)

    def save(self, folder: Any) -> Any:
        """Write audit.json and report.html into `folder`; returns the path of the page."""
        from borderless.audit.page import save

        return save(self, folder)

    def __str__(self) -> str:
        from borderless.audit.judge import judge

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
    seed: int = 0,
    progress: Callable[[int, int, str], Any] | None = None,
) -> Audit:
    """What `model` makes of location, measured on `images`.

    images: a tensor (N, C, H, W) as the model takes it, or a data set of images or of (image, label) pairs, all equal
    in size. objects: what to place on canvases (M, C, h, w); without them, the middles of the first images.
    background: of the canvases, in input units; 0 is the mean of normalised images. places: how many on a canvas.
    passes: pairs of moved views of each image. progress: called with parts done, parts in all, and the part's name.

    The model returns logits (N, classes); of a dict, a tuple or a list, the first such tensor is taken, which `notes`
    say. It runs in eval mode where its parameters are and is left as it was. Raises ImageError for images that do not
    fit; what cannot be measured otherwise is named in `missing`.
    """
    started = time.perf_counter()
    first = next(iter(batches(images, min(batch_size, len(images)), model)))[0]
    check_images(first)
    answering, notes = as_classifier(model, first)
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
        except (BorderlessError, RuntimeError, ValueError, AssertionError) as error:  # also the model's own
            missing[title] = f"{type(error).__name__}: {error}"
            return otherwise
        finally:
            done += 1

    some = torch.cat([batch.cpu() for batch, _ in batches(_first(images, MOST_IN_MEMORY), batch_size, answering)])
    things = _middles(some[:object_count]) if objects is None else objects
    size = (int(first.shape[2]), int(first.shape[3]))
    logits, known, repeat = _answers(answering, images, labels, batch_size)
    layout = part("layout", lambda: _layout(answering, some, seed))
    errors = part("border error", lambda: border_error(answering, images, background=background, batch_size=batch_size))
    stride = layout.total_stride_px if layout is not None else (1, 1)
    around = 0.0 if isinstance(background, tuple) else float(background)
    canvas = (max(size[0], things.shape[2] + 1), max(size[1], things.shape[3] + 1))
    right = known[: len(things)] if known is not None and objects is None else None

    def place_everywhere() -> tuple[Sensitivity, Effect]:
        found = sensitivity(
            answering, things, canvas, stride, labels=right, background=background, places=places, seed=seed
        )
        behind = some[-1] if tuple(some.shape[2:]) == canvas else background
        where = torch.as_tensor(found.positions)
        answers = place(answering, things, where, canvas, behind).double().cpu().numpy()
        return found, effect(answers, seed)

    with measured(answering):
        placed, on_photographs = part("sensitivity", place_everywhere, (None, None))
    shifts = {}
    for protocol in MOVES:
        moved = part(
            f"shifts, {protocol}",
            partial(_moved, protocol, answering, images, labels, around, passes, batch_size, seed),
        )
        shifts |= {} if moved is None else {protocol: moved}
    decoded = part("decodability", lambda: _decoded(answering, some, background, seed))
    reach = part("reach", lambda: _reach_curve(answering, some, logits, known, stride, background), ())
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
        classes=logits.shape[1],
        seed=seed,
        accuracy=None if known is None else float((logits.argmax(1) == known).float().mean()),
        repeat=repeat,
        layout=layout,
        errors=errors,
        sensitivity=placed,
        on_photographs=on_photographs,
        accuracy_at_middle=at_middle,
        accuracy_elsewhere=elsewhere,
        shifts=shifts,
        decodability=decoded,
        reach=reach,
        missing=missing,
        notes=tuple(notes),
        duration_s=time.perf_counter() - started,
    )


def _first(images: Any, count: int) -> Any:
    """The first `count` images, or all; a data set stays one."""
    if isinstance(images, Tensor):
        return images[:count]
    return Subset(images, range(min(count, len(images))))


def _middles(images: Tensor) -> Tensor:
    """The middle of each image, `OBJECT_SHARE` of its sides."""
    sides = [max(1, round(OBJECT_SHARE * n)) for n in images.shape[2:]]
    top, left = ((n - side) // 2 for n, side in zip(images.shape[2:], sides, strict=True))
    return images[:, :, top : top + sides[0], left : left + sides[1]]


def _answers(
    model: nn.Module, images: Any, labels: Tensor | None, batch_size: int
) -> tuple[Tensor, Tensor | None, float]:
    """Logits of all images, their labels if they are known, and how far a second run of the first batch is off."""
    found, known, repeat = [], [], 0.0
    with measured(model):
        for batch, own in batches(images, batch_size, model):
            logits = model(batch)
            if not found:
                repeat = float((model(batch) - logits).abs().max() / logits.abs().max().clamp(min=1e-30))
            found.append(logits.double().cpu())
            known.append(own)
    if labels is not None:
        return torch.cat(found), labels.cpu(), repeat
    return torch.cat(found), None if known[0] is None else torch.cat(known), repeat


def _layout(model: nn.Module, images: Tensor, seed: int) -> Layout:
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
        influence=influence(model, images[:4], seed),
    )


def _decoded(model: nn.Module, images: Tensor, background: float | tuple[float, ...], seed: int) -> "Decodability":
    from borderless.audit.decoding import decodability  # scikit-learn and scipy are seconds to import

    return decodability(model, images, background, seed)


def _moved(
    protocol: ProtocolName,
    model: nn.Module,
    images: Any,
    labels: Tensor | None,
    background: float,
    passes: int,
    batch_size: int,
    seed: int,
) -> Consistency:
    """Consistency; crops and canvases differ from the images by an eighth of their sides."""
    side = min(next(batches(images, 1, model))[0].shape[2:])
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
    )


def _reach_curve(
    model: nn.Module, images: Tensor, answers: Tensor, labels: Tensor | None, stride: Sequence[int], background: Any
) -> tuple[ReachPoint, ...]:
    """From no reach to an endless one."""
    size, shown = (images.shape[2], images.shape[3]), images[:_REACH_IMAGES]
    wanted = answers[: len(shown)].argmax(1) if labels is None else labels[: len(shown)]
    objects = _middles(shown[:_REACH_MOVED])
    room = [(n - o) // 2 // s * s for n, o, s in zip(size, objects.shape[2:], stride, strict=True)]
    shifts = [shift for shift in ((room[0], 0), (-room[0], -room[1]), (0, room[1])) if any(shift)]
    device = next((parameter.device for parameter in model.parameters()), images.device)
    points = []
    for reach in (*REACHES, None):
        border = Border("infinite", reach=reach, background=background)
        cost = explain(model, size, border, channels=images.shape[1]).cost
        with bordered(model, border), measured(model):
            error = (
                equivariance_error(model, objects.to(device), shifts, background=background)
                if shifts
                else torch.zeros(1)
            )
            kept = (model(shown.to(device)).argmax(1).cpu() == wanted).float().mean()
        points.append(ReachPoint(reach, cost, float(error.max()), float(kept)))
    return tuple(points)


def _accuracies(placed: Sensitivity, labels: Tensor) -> tuple[float, float]:
    """Of the objects at the middle, and at all other places."""
    right = placed.answers == labels.numpy()
    return float(right[0].mean()), float(right[1:].mean())
