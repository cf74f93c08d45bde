"""Convert to `infinite` with a growing `reach`, without fine-tuning: what does it cost, and what is kept?"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from borderless.auditing.parts import Compared
from borderless.auditing.parts.layout import NetworkLayout
from borderless.auditing.result import Finding, Measurements
from borderless.auditing.subject import OBJECT_SHARE, Subject, middles
from borderless.auditing.verdict import EQUAL
from borderless.conversion import bordered
from borderless.engine.border import Border
from borderless.errors import ImageError
from borderless.explanation import explain
from borderless.measures.object_outputs import on_canvases
from borderless.report.content import Figure, Section
from borderless.report.numbers import percent
from borderless.report.plots import BORDER_COLORS, ROUNDING, new_figure, save
from borderless.runtime.evaluation import evaluating

NAME = "reach"
NEEDS = ("layout",)
STEPS = {"reach": 38.0}
COMPARED: tuple[Compared, ...] = ()

REACHES = (0, 1, 2, 4, 8, None)
# Images on which a bound on the reach is tried, and how many of them move.
_IMAGES, _MOVED = 16, 2
# Fewer predictions kept are worth a warning.
_KEPT = 0.9


@dataclass(frozen=True)
class ReachPoint:
    """The effect and the cost of one bound on how far feature maps may grow.

    Attributes:
        reach: The bound, in cells; None for none.
        cost: Multiply-adds, relative to the original padding.
        error: Relative change of the logits over whole strides from the edge; None where the image has no room for one.
        kept: The share of images with the prediction of the model as it is; with labels, the accuracy; of another task,
            1 minus the mean difference between the outputs.
        is_enough: Whether the bound changes the logits as little as none does, at a lower cost.
    """

    reach: int | None
    cost: float
    error: float | None
    kept: float
    is_enough: bool = False


def measure(subject: Subject) -> dict[str, Any]:
    """Return `reach`: a tuple of points, () where it could not be measured."""
    return {"reach": subject.step("reach", lambda tell: _points(subject, tell)) or ()}


def _points(subject: Subject, tell: Callable[[float, float], Any]) -> tuple[ReachPoint, ...]:
    layout: NetworkLayout | None = subject.results.get("layout")
    if layout is None:
        raise ImageError("Needs the total stride of the network, over which objects are moved")
    model, size, shown, predictions = subject.model, subject.size, subject.first[:_IMAGES], subject.predictions
    labels = None if predictions.labels is None else predictions.labels[: len(shown)].numpy()
    moves = _from_the_edges(size, layout.total_stride_px)
    objects, comparison = middles(shown[:_MOVED]), predictions.comparison
    original = subject.outputs(shown)
    points = []
    for i, reach in enumerate(REACHES):
        tell(i, len(REACHES))
        border = Border("infinite", reach=reach, background=subject.background)
        cost = explain(model, size, border, channels=shown.shape[1], tiles=False).cost
        with bordered(model, border), evaluating(model):
            seen = [on_canvases(model, objects, where, size, subject.background, comparison) for where in moves]
            outputs = subject.outputs(shown)
        errors = [comparison.compare(values).change for values in seen]
        found = comparison.compare(np.stack([original, outputs]))
        right = found.differs[1] == 0 if labels is None or found.classes is None else found.classes[1] == labels
        kept = right.mean() if found.classes is not None else 1 - found.differs[1].mean()
        points.append(ReachPoint(reach, cost, max(errors) if errors else None, float(kept)))
    most = points[-1].cost
    return tuple(
        replace(point, is_enough=point.error is not None and point.error <= EQUAL and point.cost < 0.9 * most)
        for point in points
    )


def _from_the_edges(size: tuple[int, int], stride: tuple[int, ...]) -> list[np.ndarray]:
    """Return two pairs of positions whole strides apart: one from the upper left edge, one from the lower right."""
    room = [n - round(OBJECT_SHARE * n) for n in size]
    steps = [r // s // 2 * s or r // s * s for r, s in zip(room, stride, strict=True)]
    if not any(steps):
        return []
    near, far = (0, 0), (room[0], room[1])
    return [
        np.array([near, (steps[0], steps[1])]),
        np.array([far, (room[0] - steps[0], room[1] - steps[1])]),
    ]


def findings(audit: Measurements) -> list[Finding]:
    """Return the cost, and the smallest reach that is as good as none."""
    points, layout = _results(audit)
    if not points or layout is None:
        return []
    whole = points[-1]
    text = f"{_cost(audit, whole)} without fine-tuning, and costs {whole.cost:.1f} × the multiply-adds."
    near = next((point for point in points if point.is_enough), None)
    if near is not None:
        text += f" A reach of {near.reach} is as good, at {near.cost:.1f} ×."
    level = "warning" if audit.accuracy is None and whole.kept < _KEPT else "info"
    return [Finding("cost", level, text, {"cost": whole.cost, "kept": whole.kept})]


def _cost(audit: Measurements, whole: ReachPoint) -> str:
    if audit.accuracy is not None:
        done = f"has an accuracy of {percent(whole.kept)}"
    else:
        done = audit.words.kept.format(kept=percent(whole.kept), changed=percent(1 - whole.kept))
    return f"Converted to <em>infinite</em>, the network {done} on these images"


def _results(audit: Measurements) -> tuple[tuple[ReachPoint, ...], NetworkLayout | None]:
    return audit.results.get("reach", ()), audit.results.get("layout")


def section(audit: Measurements, folder: Path) -> Section | None:
    """Return error and predictions over the cost."""
    points, layout = _results(audit)
    if not points or layout is None:
        return None
    return Section(
        "What it costs to prevent it",
        [
            f"Under <em>full</em> the network costs {layout.costs['full']:.1f} ×, under <em>infinite</em> "
            f"{layout.costs['infinite']:.1f} × the multiply-adds of its original padding, because feature maps grow "
            "beyond the image as far as an object has an effect. <code>reach=</code> bounds how far. A pretrained "
            "network relies on its zero padding, so its accuracy drops right after conversion, until it is fine-tuned."
        ],
        [_draw(folder / "reach.png", points, audit)],
        result=f"{_cost(audit, points[-1])} without fine-tuning, at {points[-1].cost:.1f} × the multiply-adds.",
    )


def _draw(path: Path, points: tuple[ReachPoint, ...], audit: Measurements) -> Figure:
    fig, axes = new_figure(1, 2, (2.6, 3.7))
    cost = [point.cost for point in points]
    panels = (
        (
            axes[0, 0],
            [max(point.error or 0, ROUNDING) for point in points],
            f"change of the {audit.words.numbers} from the edge",
            "log",
        ),
        (
            axes[0, 1],
            [100 * point.kept for point in points],
            "accuracy, %" if audit.accuracy is not None else audit.words.kept_axis,
            None,
        ),
    )
    for ax, values, title, scale in panels:
        ax.plot(cost, values, color=BORDER_COLORS["infinite"], marker="^")
        for reaches, at, value in _labels(points, values):
            ax.annotate(
                reaches,
                (at, value),
                textcoords="offset points",
                xytext=(4, 5),
                fontsize=8,
                color="#33322f",
            )
        ax.set(xlabel="multiply-adds, × those of the original padding", title=title)
        ax.grid(axis="y")
        if scale:
            ax.set_yscale(scale)
    axes[0, 1].set_ylim(-4, 106)
    return Figure(
        save(fig, path),
        "The network converted to <em>infinite</em>, without fine-tuning, with feature maps that may grow by 0, 1, 2, "
        f"… cells, or without a bound (∞), against the cost. Left: how much the {audit.words.numbers} depend on the "
        "position; right: how much of the outputs for these images is kept, or right.",
        f"Two lines over the cost, from {cost[0]:.1f} to {cost[-1]:.1f} times the multiply-adds: the dependence on the "
        f"position falls to {percent(points[-1].error or 0)}.",
    )


def _labels(points: tuple[ReachPoint, ...], values: list[float]) -> list[tuple[str, float, float]]:
    """Return labels with their coordinates; points of one cost, to 2 %, share a label."""
    found: list[tuple[str, float, float]] = []
    for point, value in zip(points, values, strict=True):
        name = "∞" if point.reach is None else str(point.reach)
        if found and point.cost < 1.02 * found[-1][1]:
            found[-1] = (f"{found[-1][0]}, {name}", *found[-1][1:])
        else:
            found.append((name, point.cost, value))
    return found


def record(audit: Measurements) -> list[dict[str, Any]]:
    """Return the points."""
    return [asdict(point) for point in _results(audit)[0]]
