"""Move one object: does the prediction change, and because of the border, the bias or the stride?"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from borderless.auditing.causes import draw_causes, draw_everywhere, kept_share
from borderless.auditing.moving import example_of, fragility_of, on_canvas, on_photographs_of, start_count
from borderless.auditing.parts import Compared
from borderless.auditing.parts.fixes import BLUR
from borderless.auditing.result import Finding, Measurements
from borderless.auditing.subject import Subject
from borderless.auditing.tasks import Words
from borderless.auditing.verdict import effect_in_words, is_exploiting, is_nothing, is_real
from borderless.measures.fragility import Fragility
from borderless.measures.position_sensitivity import Sensitivity
from borderless.measures.prediction_changes import Effect, Share
from borderless.report.content import Section, Table
from borderless.report.numbers import percent, with_interval

NAME = "sensitivity"
NEEDS = ("layout",)
STEPS = {"objects on photographs": 17.0, "objects on a canvas": 110.0, "noise, JPEG and one pixel": 6.0}
FROM_OUTSIDE = ("objects on photographs", "noise, JPEG and one pixel")
COMPARED: tuple[Compared, ...] = (
    ("predictions that change on photographs, %", 100, ("on_photograph", "flips")),
    ("predictions that change on an empty canvas, %", 100, ("all_positions", "flips")),
    ("whole strides apart: border, %", 100, ("border", "flips")),
    ("converted to infinite, between strides, %", 100, ("stride", "flips")),
    ("logits, border, % of the largest", 100, ("border", "change")),
    ("logits, converted, between strides, %", 100, ("stride", "change")),
    ("right in the middle, %", 100, ("accuracy_at_middle",)),
    ("right elsewhere, %", 100, ("accuracy_elsewhere",)),
    ("overlap of labels on photographs, %", 100, ("on_photograph", "overlap")),
)


def measure(subject: Subject) -> dict[str, Any]:
    """Return `photographs`, `on_photograph`, `sensitivity`, `fragility`, `example`, and accuracies with labels."""
    moved = subject.step("objects on photographs", lambda tell: on_photographs_of(subject, tell))
    count = start_count(subject) if moved is None else moved.effect.objects
    objects = subject.objects[:count]
    found = subject.step("objects on a canvas", lambda tell: on_canvas(subject, objects, tell))
    small = subject.step("noise, JPEG and one pixel", lambda tell: fragility_of(subject, objects, tell))
    at_middle = elsewhere = None
    if found is not None and subject.object_labels is not None:
        at_middle, elsewhere = _accuracies(found, subject.object_labels[:count])
    return {
        "photographs": moved,
        "on_photograph": None if moved is None else moved.effect,
        "sensitivity": found,
        "fragility": small,
        "example": None if moved is None else example_of(subject, moved),
        "accuracy_at_middle": at_middle,
        "accuracy_elsewhere": elsewhere,
    }


def _accuracies(found: Sensitivity, labels: Tensor) -> tuple[float, float]:
    """Return the accuracy of the objects at the middle, and at all other positions."""
    assert found.classes is not None  # a task with labels has classes
    right = found.classes == labels.numpy()
    return float(right[0].mean()), float(right[1:].mean())


def findings(audit: Measurements) -> list[Finding]:
    """Return what the border, the bias and the stride change, how confident predictions are, and a baseline."""
    found: Sensitivity | None = audit.results.get("sensitivity")
    told = [*_confidence(audit.results.get("on_photograph")), *_baseline(audit)]
    return told if found is None else [*_border(audit, found), *told, *_bias(audit, found), *_stride(audit, found)]


def _confidence(found: Effect | None) -> list[Finding]:
    if found is None or found.positions == 0 or found.confident is found.unsure is None:
        return []
    confident, unsure = found.confident, found.unsure
    if confident is None:
        text = f"None of the {found.objects} objects is predicted with more than 50 % probability in the middle."
    else:
        text = (
            f"{confident.objects} of {found.objects} objects are predicted with more than 50 % probability in the "
            f"middle of a photograph: elsewhere, {_share(confident)} of their predictions change"
            f"{f', of the others {_share(unsure)}' if unsure is not None else ''}."
        )
    text += f" The probability of the first class falls by {round(100 * found.drop)} points on average."
    numbers = {"confident": None if confident is None else asdict(confident), "drop": found.drop}
    return [Finding("confidence", "info", text, numbers)]


def _baseline(audit: Measurements) -> list[Finding]:
    found: Fragility | None = audit.results.get("fragility")
    if found is None:
        return []
    text = (
        f"For comparison, with the object in the middle of the photograph: under JPEG of quality {found.quality}, "
        f"{audit.words.changes.format(_share(found.jpeg))}, under Gaussian noise of the same strength (root mean "
        f"square {percent(found.rms)} of the range of values) {_share(found.noise)}, and when the object moves by 1 px "
        f"{_share(found.one_pixel)}."
    )
    return [Finding("fragility", "info", text, asdict(found))]


def _share(share: Share) -> str:
    return with_interval(share.value, share.low, share.high)


def _border(audit: Measurements, found: Sensitivity) -> list[Finding]:
    if not found.border.positions:
        return []
    one, control, things = found.border, found.border_control, audit.words.numbers
    numbers = {"flips": one.flips, "change": one.change, "control_change": control.change}
    if is_nothing(one):
        text = f"The border changes nothing: {things} at whole strides differ by {percent(one.change)} of the largest."
        return [Finding("border", "pass", text, numbers)]
    if not is_real(one, control, audit.repeat):
        text = (
            f"The effect of the border cannot be determined: at positions whole strides apart {things} differ by "
            f"{percent(one.change)} of the largest, without a border by {percent(control.change)}, and in two runs on "
            f"the same images by {percent(audit.repeat)}."
        )
        return [Finding("border", "info", text, numbers)]
    return [
        Finding(
            "border",
            "fail" if is_exploiting(audit) else "warning",
            f"The border: at positions whole strides apart, which strides cannot distinguish, "
            f"{effect_in_words(audit, one)} on an empty canvas, and {things} by {percent(one.change)} of the largest. "
            f"Converted to <em>infinite</em>, {things} change by {percent(control.change)} there.",
            numbers,
            "Against the border: convert the network to <em>infinite</em> and fine-tune it; <code>reach</code> bounds "
            "the cost. If objects can be anywhere in your training images, random translations in training reach a "
            "similar accuracy at no cost in inference; they promise nothing for a single image.",
            ('model = bl.convert(model, "infinite", reach=2)',),
        )
    ]


def _bias(audit: Measurements, found: Sensitivity) -> list[Finding]:
    if not is_real(found.bias, found.border_control, audit.repeat):
        return []
    return [
        Finding(
            "bias",
            "warning",
            f"The bias: converted to <em>full</em>, {audit.words.numbers} still change by "
            f"{percent(found.bias.change)} of the largest, because the response of this network to an empty "
            "background is not 0, and 0 is what full convolution pads with.",
            {"change": found.bias.change, "flips": found.bias.flips},
            "Prefer <em>infinite</em> to <em>full</em> for this network.",
        )
    ]


def _stride(audit: Measurements, found: Sensitivity) -> list[Finding]:
    one, control = found.stride, found.stride_control
    if max(found.stride_px) == 1 or not is_real(one, control, audit.repeat):
        return []
    kept = kept_share(audit)
    things = audit.words.numbers
    in_words = "" if kept is None else audit.words.kept.format(kept=percent(kept), changed=percent(1 - kept))
    on = f", which {in_words} without fine-tuning" if in_words else ""
    can_blur = BLUR not in audit.results.get("impossible_fixes", {})
    return [
        Finding(
            "stride",
            "warning",
            f"The strides, measured on the network converted to <em>infinite</em>{on}, so not a part of the numbers "
            f"above: {effect_in_words(audit, one)} between positions less than a total stride of "
            f"{max(found.stride_px)} px apart, and {things} by {percent(one.change)}; with an adaptive phase, "
            f"{things} by {percent(control.change)}.",
            {"flips": one.flips, "change": one.change, "control_change": control.change},
            "Against the strides: an adaptive phase removes their effect at nearly no cost"
            + ("; blurs before them reduce it." if can_blur else "."),
            (
                'model = bl.convert(model, "infinite", phase="adaptive")',
                *(["model = bl.blur(model)"] if can_blur else []),
            ),
        )
    ]


def section(audit: Measurements, folder: Path) -> Section | None:
    """Return maps over positions, the causes apart, and a table for each network that was measured."""
    found: Sensitivity | None = audit.results.get("sensitivity")
    if found is None:
        return None
    on_photograph: Effect | None = audit.results.get("on_photograph")
    text = [
        f"Objects, the middles of the first images unless others were given, are at one position after the other: on "
        f"photographs that they are not cut from, and on an empty canvas of {found.canvas[0]} × {found.canvas[1]} px. "
        "Each prediction is compared with the one in the middle. On a photograph, an object also covers another part "
        "of the background at each position. The causes are separated by removing one at a time, which takes "
        "converted networks: their numbers are no parts of those of the network as it is.",
    ]
    at_middle, elsewhere = (audit.results.get(f"accuracy_{where}") for where in ("at_middle", "elsewhere"))
    if at_middle is not None and elsewhere is not None:
        text.append(
            f"With the labels of the images: {percent(at_middle)} right in the middle of the canvas, "
            f"{percent(elsewhere)} elsewhere."
        )
    original = [("on an empty canvas", found.all_positions), ("on it, whole strides apart (border)", found.border)]
    if on_photograph is not None:
        original.insert(0, ("on photographs", on_photograph))
    converted = [
        ("infinite, whole strides apart (control)", found.border_control),
        ("full, whole strides apart (bias)", found.bias),
        ("infinite, between strides (stride)", found.stride),
        ("infinite, adaptive phase (control)", found.stride_control),
    ]
    kept = kept_share(audit)
    in_words = "" if kept is None else audit.words.kept.format(kept=percent(kept), changed=percent(1 - kept))
    of_kept = f" Converted to infinite, it {in_words}." if in_words else ""
    things = audit.words.numbers
    caption = (
        f"Against the position in the middle; in brackets the 95 % interval over objects. "
        f"{things[:1].upper()}{things[1:]}: the largest change."
    )
    tables = [
        _table(
            audit.words,
            "the network as it is",
            original,
            f"{caption} Two runs on the same images: {percent(audit.repeat)}.",
        ),
        _table(audit.words, "converted, not fine-tuned, on an empty canvas", converted, f"{caption}{of_kept}"),
    ]
    result = f"{effect_in_words(audit, original[0][1])} {original[0][0]}."
    result = result[:1].upper() + result[1:]
    figures = [
        draw_everywhere(folder / "everywhere.png", audit, found),
        draw_causes(folder / "causes.png", audit, found),
    ]
    return Section("One object at many positions", text, figures, tables, result)


def _table(words: Words, head: str, rows: list[tuple[str, Effect]], caption: str) -> Table:
    more = {
        "probability or score lost, points": [f"{round(100 * one.drop, 1) + 0.0:.1f}" for _, one in rows]
        if any(one.confident or one.unsure for _, one in rows)
        else [],
        "intersection over union, %": [f"{100 * one.overlap:.0f}" for _, one in rows if one.overlap is not None],
    }
    more = {title: cells for title, cells in more.items() if len(cells) == len(rows)}
    cells = [
        [
            name,
            f"{one.objects} × {one.positions}",
            f"{100 * one.flips:.0f} ({100 * one.low:.0f}–{100 * one.high:.0f})",
            percent(one.change).removesuffix(" %"),
            *(column[i] for column in more.values()),
        ]
        for i, (name, one) in enumerate(rows)
    ]
    columns = [head, "objects × positions", words.column, f"{words.numbers}, % of the largest", *more]
    return Table(columns, cells, caption)


def record(audit: Measurements) -> dict[str, Any] | None:
    """Return the effects and their controls; predictions at single positions are left out."""
    found: Sensitivity | None = audit.results.get("sensitivity")
    on_photograph: Effect | None = audit.results.get("on_photograph")
    small: Fragility | None = audit.results.get("fragility")
    if found is None:
        return None
    effects = ("all_positions", "border", "border_control", "bias", "stride", "stride_control")
    return {
        "canvas": found.canvas,
        "object": found.object_px,
        "worst_position": found.worst,
        "on_photograph": None if on_photograph is None else asdict(on_photograph),
        **{name: asdict(getattr(found, name)) for name in effects},
        "fragility": None if small is None else asdict(small),
        "accuracy_at_middle": audit.results.get("accuracy_at_middle"),
        "accuracy_elsewhere": audit.results.get("accuracy_elsewhere"),
    }
