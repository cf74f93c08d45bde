"""Try what the audit recommends, without training: how much of the change with the position is left, at what cost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from borderless.antialiasing import blur
from borderless.auditing.parts import Compared
from borderless.auditing.parts.layout import NetworkLayout
from borderless.auditing.result import Finding, Measurements
from borderless.auditing.subject import Subject
from borderless.conversion import bordered, conversion_of
from borderless.errors import BorderlessError, ImageError
from borderless.measures.object_outputs import on_canvases, snapped
from borderless.measures.positions import on_grid
from borderless.measures.shift_averaging import ShiftAveraged
from borderless.report.content import Note, Section, Table
from borderless.report.numbers import percent, safe
from borderless.runtime.evaluation import evaluating

NAME = "fixes"
NEEDS = ("layout",)
STEPS = {"fixes": 30.0}
COMPARED: tuple[Compared, ...] = ()

_IMAGES, _OBJECTS, _ACROSS = 16, 4, 3
# Of outputs that are maps, every image has thousands to compare.
_IMAGES_OF_MAPS = 4
AS_IT_IS = "as it is"
BLUR = "blur before strides"


@dataclass(frozen=True)
class Fix:
    """A change to the network that needs no training, and what it does.

    Attributes:
        name: What is changed.
        left: How much the output for an object changes with the position on an empty canvas, the mean.
        change: The largest change of a number, relative to the largest number.
        kept: Agreement with the network as it is, on whole images: the share with the same prediction, of another task
            1 minus the mean difference.
        cost: Multiply-adds relative to the network as it is.
        code: What does it.
    """

    name: str
    left: float
    change: float
    kept: float
    cost: float
    code: str


def measure(subject: Subject) -> dict[str, Any]:
    """Return `fixes`: the network as it is first, () where nothing could be measured; and `impossible_fixes`: why."""
    found, impossible = subject.step("fixes", lambda tell: _fixes(subject, tell)) or ((), {})
    return {"fixes": found, "impossible_fixes": impossible}


def _fixes(subject: Subject, tell: Callable[[float, float], Any]) -> tuple[tuple[Fix, ...], dict[str, str]]:
    layout: NetworkLayout | None = subject.results.get("layout")
    if layout is None:
        raise ImageError("Needs the total stride and the cost of the network")
    if conversion_of(subject.body) is not None:
        raise ImageError("Needs a network that is not converted yet")
    with evaluating(subject.model):
        original = subject.outputs(_images(subject))
        tried = list(_tried(subject, layout))
        found: list[Fix] = []
        impossible: dict[str, str] = {}
        for i, (name, cost, code, ready) in enumerate(tried):
            try:
                with ready() as model:
                    found.append(_measured(subject, model, original, name, cost, code))
            except BorderlessError as error:
                if not found:  # not even the network as it is
                    raise
                impossible[name] = str(error)
            tell(i + 1, len(tried))
    return tuple(found), impossible


def _images(subject: Subject) -> Tensor:
    return subject.first[: _IMAGES_OF_MAPS if subject.predictions.comparison.is_dense else _IMAGES]


def _tried(subject: Subject, layout: NetworkLayout) -> Iterator[tuple[str, float, str, Callable[[], Any]]]:
    """Yield what is tried: its name, its cost, the code that does it, and a context in which the network runs so."""
    whole = layout.costs["infinite"]
    reach = next((point for point in subject.results.get("reach", ()) if point.is_enough), None)
    borders: list[tuple[str, float, dict[str, Any]]] = [("infinite", whole, {})]
    if reach is not None:
        borders.append((f"infinite, reach {reach.reach}", reach.cost, {"reach": reach.reach}))
    borders.append(("infinite, adaptive phase", whole, {"phase": "adaptive"}))
    yield AS_IT_IS, 1.0, "", lambda: _unchanged(subject.model)
    for name, cost, options in borders:
        code = "".join(f", {key}={value!r}" for key, value in options.items())
        yield (
            name,
            cost,
            f'bl.convert(model, "infinite"{code})',
            lambda options=options: _converted(subject, options),
        )
    if max(layout.total_stride_px) > 1:
        yield BLUR, 1.0, "bl.blur(model)", lambda: _unchanged(blur(subject.model))
        if not subject.predictions.comparison.is_dense:
            averaged = ShiftAveraged(subject.model, layout.total_stride_px)
            count = len(averaged.shifts)
            code = "the mean of the outputs for images moved by half the total stride"
            yield f"mean over {count} shifts", float(count), code, lambda: _unchanged(averaged)


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[nn.Module]:
    with evaluating(model):
        yield model


@contextmanager
def _converted(subject: Subject, options: dict[str, Any]) -> Iterator[nn.Module]:
    output: Any = "frame" if subject.body is subject.model else "signal"
    with bordered(subject.body, "infinite", background=subject.background, output=output, **options):
        yield subject.model


def _measured(subject: Subject, model: nn.Module, original: np.ndarray, name: str, cost: float, code: str) -> Fix:
    comparison, things = subject.predictions.comparison, subject.objects[:_OBJECTS]
    room = [n - o for n, o in zip(subject.size, things.shape[2:], strict=True)]
    if min(room) < 1:
        raise ImageError("Needs objects that are smaller than the images")
    step = (1, 1)
    if comparison.is_dense:
        step = comparison.step(model(subject.first[:1].to(subject.device)), subject.size)
    where = snapped(on_grid(room, _ACROSS), step)
    values = [
        on_canvases(model, one[None], where, subject.size, subject.background, comparison, subject.batch_size)
        for one in things
    ]
    moved = comparison.compare(np.concatenate(values, 1))
    outputs = comparison.compare(np.stack([original, subject.outputs(_images(subject), model)]))
    if not moved.differs.size or not outputs.differs.size:
        raise ImageError("Needs objects that are detected in the middle of an empty canvas")
    kept = 1 - float(outputs.differs[1].mean())
    return Fix(name, float(moved.differs[1:].mean()), moved.change, kept, cost, code)


def findings(audit: Measurements) -> list[Finding]:
    """Return what leaves least of the change with the position, at the lowest cost."""
    found: tuple[Fix, ...] = audit.results.get("fixes", ())
    if len(found) < 2 or not found[0].change:
        return []
    least = min(fix.change for fix in found[1:])
    best = min((fix for fix in found[1:] if fix.change <= 2 * least), key=lambda fix: fix.cost)
    if best.change > found[0].change / 2:
        return []
    kept = audit.words.kept.format(kept=percent(best.kept), changed=percent(1 - best.kept))
    text = (
        f"Without training, <em>{best.name}</em> reduces the change of {audit.words.numbers} with the position on an "
        f"empty canvas from {percent(found[0].change)} to {percent(best.change)} of the largest, at {best.cost:.1f} × "
        f"the multiply-adds; on whole images the network {kept}."
    )
    return [Finding("fixes", "info", text, {"fix": best.name, **asdict(best)})]


def section(audit: Measurements, _: Path) -> Section | None:
    """Return a table of what each change gives and costs, and the command for what needs training."""
    found: tuple[Fix, ...] = audit.results.get("fixes", ())
    if not found:
        return None
    rows = [
        [
            fix.name,
            f"{100 * fix.left:.1f}",
            percent(fix.change).removesuffix(" %"),
            f"{100 * fix.kept:.1f}",
            f"{fix.cost:.1f}",
            fix.code,
        ]
        for fix in found
    ]
    columns = [
        "without training",
        audit.words.column,
        f"{audit.words.numbers}, % of the largest",
        "agreement with the network as it is, %",
        "multiply-adds, ×",
        "code",
    ]
    caption = (
        f"Objects at {_ACROSS} × {_ACROSS} positions of an empty canvas, from edge to edge; agreement on up to "
        f"{_IMAGES} whole images, {_IMAGES_OF_MAPS} where outputs are maps. A blur adds little to the multiply-adds, "
        "which is not counted."
    )
    impossible: dict[str, str] = audit.results.get("impossible_fixes", {})
    notes = [Note("info", f"Not possible here: <em>{name}</em>. {safe(why)}") for name, why in impossible.items()]
    if audit.origin.network and audit.task == "classification":
        command = f"borderless finetune {audit.origin.network} --data PHOTOS --border infinite --phase adaptive"
        notes.append(Note("info", "With training, the agreement with the labels comes back:", (command,)))
    text = [
        "What the audit recommends, tried on this network as far as it needs no training. A converted or blurred "
        "network is another one until it is fine-tuned: its agreement says how much of the original's output it keeps. "
        "Random translations in training need training, and promise nothing for a single image."
    ]
    first = next(iter(findings(audit)), None)
    return Section("What each fix gives and costs", text, [], [Table(columns, rows, caption)], _one(first), notes)


def _one(finding: Finding | None) -> str:
    return "" if finding is None else finding.text.split(";")[0] + "."


def record(audit: Measurements) -> list[dict[str, Any]]:
    """Return what was tried."""
    return [asdict(fix) for fix in audit.results.get("fixes", ())]
