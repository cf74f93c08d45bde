"""One object, many positions: does the prediction change, and because of the border, the bias or the stride?"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from borderless.auditing.parts import Compared
from borderless.auditing.parts.layout import NetworkLayout
from borderless.auditing.result import Finding, Measurements
from borderless.auditing.subject import Subject
from borderless.auditing.verdict import is_exploiting, is_nothing, is_real
from borderless.errors import ImageError
from borderless.measures.position_sensitivity import Effect, Sensitivity, effect, sensitivity
from borderless.placement.place import place
from borderless.report.content import Figure, Section, Table
from borderless.report.numbers import percent, small
from borderless.report.plots import BORDER_COLORS, ROUNDING, heat_map, new_figure, save
from borderless.runtime.evaluation import evaluating

NAME = "sensitivity"
NEEDS = ("layout",)
STEPS = ("sensitivity", "sensitivity on a photograph")
COMPARED: tuple[Compared, ...] = (
    ("answers that change, everywhere, %", 100, ("all_places", "flips")),
    ("… because of the border, %", 100, ("border", "flips")),
    ("… because of the stride, %", 100, ("stride", "flips")),
    ("logits, border, relative", 1, ("border", "change")),
    ("logits, stride, relative", 1, ("stride", "change")),
    ("right in the middle, %", 100, ("accuracy_at_middle",)),
    ("right elsewhere, %", 100, ("accuracy_elsewhere",)),
)


def measure(subject: Subject) -> dict[str, Any]:
    """Return `sensitivity`, `on_photograph`, `accuracy_at_middle` and `accuracy_elsewhere`."""
    placed = subject.step("sensitivity", lambda: _on_canvas(subject))
    on_photograph = subject.step("sensitivity on a photograph", lambda: _on_photograph(subject, placed))
    at_middle = elsewhere = None
    if placed is not None and subject.object_labels is not None:
        at_middle, elsewhere = _accuracies(placed, subject.object_labels)
    return {
        "sensitivity": placed,
        "on_photograph": on_photograph,
        "accuracy_at_middle": at_middle,
        "accuracy_elsewhere": elsewhere,
    }


def _on_canvas(subject: Subject) -> Sensitivity:
    layout: NetworkLayout | None = subject.results.get("layout")
    if layout is None:
        raise ImageError("got no layout; needed: the model's total stride, which tells the border from the stride")
    stride = layout.total_stride_px
    # As large as the images, or larger, so that there are places whole strides apart.
    sides = zip(subject.size, subject.objects.shape[2:], stride, strict=True)
    canvas = tuple(max(n, o + 2 * s) for n, o, s in sides)
    return sensitivity(
        subject.model,
        subject.objects,
        (canvas[0], canvas[1]),
        stride,
        labels=subject.object_labels,
        background=subject.background,
        places=subject.places,
        seed=subject.seed,
    )


def _on_photograph(subject: Subject, placed: Sensitivity | None) -> Effect | None:
    if placed is None:
        return None
    if placed.canvas != subject.size:
        raise ImageError(f"got no places on a canvas of {subject.size}; needed: objects that move on a photograph")
    with evaluating(subject.model):
        where, objects = torch.as_tensor(placed.positions), subject.objects.to(subject.device)
        found = place(subject.model, objects, where, subject.size, subject.first[-1].to(subject.device))
    return effect(found.double().cpu().numpy(), subject.seed)


def _accuracies(placed: Sensitivity, labels: Tensor) -> tuple[float, float]:
    """Return the accuracy of the objects at the middle, and at all other positions."""
    right = placed.answers == labels.numpy()
    return float(right[0].mean()), float(right[1:].mean())


def findings(audit: Measurements) -> list[Finding]:
    """Return what the border, the bias and the stride change."""
    placed = _placed(audit)
    if placed is None:
        return []
    return [*_border(audit, placed), *_bias(audit, placed), *_stride(audit, placed)]


def _placed(audit: Measurements) -> Sensitivity | None:
    return audit.results.get("sensitivity")


def _border(audit: Measurements, placed: Sensitivity) -> list[Finding]:
    if not placed.border.places:
        return []
    effect, control = placed.border, placed.border_control
    numbers = {"flips": effect.flips, "change": effect.change, "control_change": control.change}
    if is_nothing(effect):
        text = f"The border changes nothing: logits at whole strides differ by {small(effect.change)} of the largest."
        return [Finding("border", "good", text, numbers)]
    if not is_real(effect, control, audit.repeat):
        text = (
            f"The border's part cannot be told: at places whole strides apart logits differ by {small(effect.change)} "
            f"of the largest, without a border by {small(control.change)}, and in two runs on the same images by "
            f"{small(audit.repeat)}."
        )
        return [Finding("border", "open", text, numbers)]
    return [
        Finding(
            "border",
            "bad" if is_exploiting(audit) else "mind",
            f"The border: at places whole strides apart, where strides can tell nothing, {_share(effect)} of the "
            f"answers change, and logits by {percent(effect.change)} of the largest; without a border "
            f"(<em>infinite</em>), by {small(control.change)}.",
            numbers,
            'Against the border: <code>bl.convert(model, "infinite")</code>, and fine-tune; '
            "<code>reach=</code> bounds what that costs.",
        )
    ]


def _bias(audit: Measurements, placed: Sensitivity) -> list[Finding]:
    if not is_real(placed.bias, placed.border_control, audit.repeat):
        return []
    return [
        Finding(
            "bias",
            "mind",
            f"The bias: full convolution alone leaves a change of {percent(placed.bias.change)} of the largest logit, "
            "because this network's answer to emptiness is not 0, and 0 is what full convolution pads with.",
            {"change": placed.bias.change, "flips": placed.bias.flips},
            "Prefer <em>infinite</em> to <em>full</em> for this network.",
        )
    ]


def _stride(audit: Measurements, placed: Sensitivity) -> list[Finding]:
    effect, control = placed.stride, placed.stride_control
    if max(placed.stride_px) == 1 or not is_real(effect, control, audit.repeat):
        return []
    return [
        Finding(
            "stride",
            "mind",
            f"The strides: without any border, {_share(effect)} of the answers change between places less than a total "
            f"stride of {max(placed.stride_px)} px apart, and logits by {percent(effect.change)}; with an adaptive "
            f"phase, by {small(control.change)}.",
            {"flips": effect.flips, "change": effect.change, "control_change": control.change},
            'Against the strides: <code>phase="adaptive"</code> takes their part away at the cost of sums; '
            "<code>bl.blur</code> lessens it.",
        )
    ]


def _share(effect: Effect) -> str:
    return f"{percent(effect.flips)} ({100 * effect.low:.0f}–{100 * effect.high:.0f})"


def section(audit: Measurements, folder: Path) -> Section | None:
    """Return maps over positions, the causes apart, and a table of both."""
    placed = _placed(audit)
    if placed is None:
        return None
    rows = [
        ("everywhere on the canvas", placed.all_places),
        ("whole strides apart: border", placed.border),
        ("the same without a border", placed.border_control),
        ("the same under full: bias", placed.bias),
        ("between strides, without a border", placed.stride),
        ("the same, adaptive phase", placed.stride_control),
    ]
    on_photograph: Effect | None = audit.results.get("on_photograph")
    if on_photograph is not None:
        rows.insert(1, ("everywhere on a photograph", on_photograph))
    text = [
        f"{placed.probability.shape[1]} objects, the middles of the first images unless others were given, stand on a "
        f"canvas of {placed.canvas[0]} × {placed.canvas[1]} px, at one place after the other; each answer is compared "
        "with the one in the middle. What makes them differ is found by taking one cause away at a time."
    ]
    at_middle, elsewhere = (audit.results.get(f"accuracy_{where}") for where in ("at_middle", "elsewhere"))
    if at_middle is not None and elsewhere is not None:
        text.append(
            f"With the labels of the images: {percent(at_middle)} right in the middle, {percent(elsewhere)} elsewhere. "
            "That is what the network's use of location costs."
        )
    table = Table(
        ["places", "how many", "answers that change, %", "logits, relative", "probability lost, points"],
        [[name, one.places, _flips(one), small(one.change), f"{100 * one.drop:.1f}"] for name, one in rows],
        "Against the middle place. In brackets: the 95 % interval over objects. Logits: the largest change, relative "
        f"to the largest logit. Two runs on the same images differ by {small(audit.repeat)}.",
    )
    figures = [_draw_everywhere(folder / "everywhere.png", placed), _draw_causes(folder / "leaks.png", placed)]
    return Section("One object, many places", text, figures, [table])


def _flips(effect: Effect) -> str:
    return f"{100 * effect.flips:.1f} ({100 * effect.low:.0f}–{100 * effect.high:.0f})"


def _draw_everywhere(path: Path, placed: Sensitivity) -> Figure:
    """Draw the probability of the object's class with the object at each position."""
    middle, rest = placed.positions[0], placed.positions
    rows, columns = (np.unique(rest[:, axis]) for axis in range(2))
    grid = np.full((len(rows), len(columns)), np.nan)
    flips = np.zeros_like(grid)
    flipped = (placed.answers != placed.answers[:1]).mean(1)
    for (row, column), value, flip in zip(rest, placed.probability.mean(1), flipped, strict=True):
        cell = np.searchsorted(rows, row), np.searchsorted(columns, column)
        grid[cell], flips[cell] = value, flip
    whole_rows = ~np.isnan(grid).all(1) & (np.isnan(grid).sum(1) < len(columns) / 2)
    whole_columns = ~np.isnan(grid).all(0) & (np.isnan(grid).sum(0) < len(rows) / 2)
    grid, flips = (values[np.ix_(whole_rows, whole_columns)] for values in (grid, flips))
    extent = (float(columns[0]), float(columns[-1]), float(rows[-1]), float(rows[0]))
    fig, axes = new_figure(1, 2, (2.9, 3.6))
    heat_map(
        axes[0, 0],
        100 * grid,
        title="probability of its class",
        vmin=0,
        vmax=max(10, 10 * np.ceil(10 * np.nanmax(grid))),
        extent=extent,
        label="%",
        annotate="{:.0f}",
    )
    heat_map(
        axes[0, 1],
        100 * flips,
        title="objects with another answer\nthan in the middle",
        vmin=0,
        vmax=100,
        extent=extent,
        cmap="Reds",
        label="%",
        annotate="{:.0f}",
    )
    for ax in axes[0]:
        ax.set(xlabel="column of its upper left pixel", ylabel="row")
    return Figure(
        save(fig, path),
        f"The same {placed.probability.shape[1]} objects at {len(rest)} places of an empty canvas of "
        f"{placed.canvas[0]} × {placed.canvas[1]} px. Left: the mean probability of the class that each has in the "
        f"middle, at ({middle[0]}, {middle[1]}). Right: how many have another class here. Worst place: {placed.worst}.",
        f"Two heat maps over places. The mean probability is {100 * placed.probability[0].mean():.0f} percent in the "
        f"middle and {100 * placed.probability.mean(1).min():.0f} percent at the worst place.",
    )


def _draw_causes(path: Path, placed: Sensitivity) -> Figure:
    """Draw border, bias and stride, each beside what is left when it is taken away."""
    bars: list[tuple[str, Effect, str]] = [
        ("border", placed.border, BORDER_COLORS["zero"]),
        ("its control", placed.border_control, "#c9c6bc"),
        ("bias, under full", placed.bias, BORDER_COLORS["full"]),
        ("stride", placed.stride, "#8457a8"),
        ("its control", placed.stride_control, "#c9c6bc"),
    ]
    fig, axes = new_figure(1, 2, (2.4, 3.7), sharey=True)
    ys = np.arange(len(bars))[::-1]
    for y, (_, found, color) in zip(ys, bars, strict=True):
        axes[0, 0].barh(y, found.flips, color=color, height=0.65)
        if found.high > found.low:
            axes[0, 0].plot([found.low, found.high], [y, y], color="#33322f", linewidth=1)
        axes[0, 1].barh(y, max(found.change, ROUNDING), left=0, color=color, height=0.65)
    axes[0, 0].set_yticks(ys, [name for name, _, _ in bars])
    axes[0, 0].set(title="answers that change", xlim=(0, max(0.05, 1.1 * max(found.high for _, found, _ in bars))))
    axes[0, 0].xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes[0, 1].set(title="largest change of a logit\n(relative to the largest)", xscale="log", xlim=(ROUNDING, 10))
    return Figure(
        save(fig, path),
        "What makes answers change with the place, one cause at a time. Border: places whole strides apart. Bias: the "
        "same places under <em>full</em>. Stride: places between whole strides, without a border. Controls: the same "
        "places with the border (<em>infinite</em>) or the fixed phase (<em>adaptive</em>) taken away. Lines: 95 % "
        "intervals over objects.",
        f"Bars: because of the border {100 * placed.border.flips:.0f} percent of the answers change, because of the "
        f"stride {100 * placed.stride.flips:.0f} percent; with the cause taken away, "
        f"{100 * placed.border_control.flips:.0f} and {100 * placed.stride_control.flips:.0f}.",
    )


def record(audit: Measurements) -> dict[str, Any] | None:
    """Return the effects and their controls; predictions at single positions are left out."""
    placed = _placed(audit)
    if placed is None:
        return None
    on_photograph: Effect | None = audit.results.get("on_photograph")
    effects = ("all_places", "border", "border_control", "bias", "stride", "stride_control")
    return {
        "canvas": placed.canvas,
        "worst_place": placed.worst,
        **{name: asdict(getattr(placed, name)) for name in effects},
        "on_photograph": None if on_photograph is None else asdict(on_photograph),
        "accuracy_at_middle": audit.results.get("accuracy_at_middle"),
        "accuracy_elsewhere": audit.results.get("accuracy_elsewhere"),
    }
