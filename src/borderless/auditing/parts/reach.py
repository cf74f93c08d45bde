"""What it costs to give location up: `infinite` with a growing `reach`, without fine-tuning."""

from dataclasses import asdict, dataclass
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
from borderless.measures.position_sensitivity import effect, on_canvases
from borderless.report.content import Figure, Section
from borderless.report.numbers import percent, small
from borderless.report.plots import BORDER_COLORS, ROUNDING, new_figure, save
from borderless.runtime.evaluation import evaluating

NAME = "reach"
NEEDS = ("layout",)
STEPS = ("reach",)
COMPARED: tuple[Compared, ...] = ()

REACHES = (0, 1, 2, 4, 8, None)
# Images on which a bound on the reach is tried, and how many of them move.
_IMAGES, _MOVED = 16, 2


@dataclass(frozen=True)
class ReachPoint:
    """What one bound on how far feature maps may grow gives and costs.

    Attributes:
        reach: The bound, in cells; None for none.
        cost: Multiply-adds, relative to the original padding.
        error: Relative change of the logits over whole strides from the edge; None where the image has no room for one.
        kept: The share of images with the prediction of the model as it is; with labels, the accuracy.
    """

    reach: int | None
    cost: float
    error: float | None
    kept: float


def measure(subject: Subject) -> dict[str, Any]:
    """Return `reach`: a tuple of points, () where it could not be measured."""
    return {"reach": subject.step("reach", lambda: _points(subject)) or ()}


def _points(subject: Subject) -> tuple[ReachPoint, ...]:
    layout: NetworkLayout | None = subject.results.get("layout")
    if layout is None:
        raise ImageError("got no layout; needed: the model's total stride, over which objects are moved")
    model, size, shown, predictions = subject.model, subject.size, subject.first[:_IMAGES], subject.predictions
    wanted = (predictions.classes if predictions.labels is None else predictions.labels)[: len(shown)]
    moves = _from_the_edges(size, layout.total_stride_px)
    objects = middles(shown[:_MOVED])
    points = []
    for reach in REACHES:
        border = Border("infinite", reach=reach, background=subject.background)
        cost = explain(model, size, border, channels=shown.shape[1]).cost
        with bordered(model, border), evaluating(model):
            errors = [effect(on_canvases(model, objects, where, size, subject.background)).change for where in moves]
            kept = (model(shown.to(subject.device)).argmax(1).cpu() == wanted).float().mean()
        points.append(ReachPoint(reach, cost, max(errors) if errors else None, float(kept)))
    return tuple(points)


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
    endless = points[-1]
    near = [p for p in points if p.error is not None and p.error <= EQUAL and p.cost < 0.9 * endless.cost]
    whose = "accuracy" if audit.accuracy is not None else "the model's own answers kept"
    text = (
        f"Converted to <em>infinite</em>, it costs {endless.cost:.1f} × the multiply-adds, and {whose} "
        f"{'is' if audit.accuracy is not None else 'are'} {percent(endless.kept)} before fine-tuning."
    )
    if near:
        text += f" A reach of {near[0].reach} is as good, at {near[0].cost:.1f} ×."
    return [Finding("cost", "open", text, {"cost": endless.cost, "kept": endless.kept})]


def _results(audit: Measurements) -> tuple[tuple[ReachPoint, ...], NetworkLayout | None]:
    return audit.results.get("reach", ()), audit.results.get("layout")


def section(audit: Measurements, folder: Path) -> Section | None:
    """Return error and predictions over the cost."""
    points, layout = _results(audit)
    if not points or layout is None:
        return None
    return Section(
        "What it costs to give it up",
        [
            f"Under <em>full</em> the network costs {layout.costs['full']:.1f} ×, under <em>infinite</em> "
            f"{layout.costs['infinite']:.1f} × the multiply-adds of its own padding, because maps grow beyond "
            "the image as far as an object can be felt. <code>reach=</code> bounds how far. A network that was trained "
            "with zeros around its maps has learnt to count on them: its answers without them are worth less until it "
            "is fine-tuned."
        ],
        [_draw(folder / "reach.png", points, audit.accuracy is not None)],
    )


def _draw(path: Path, points: tuple[ReachPoint, ...], has_labels: bool) -> Figure:
    fig, axes = new_figure(1, 2, (2.6, 3.7))
    cost = [point.cost for point in points]
    panels = (
        (
            axes[0, 0],
            [max(point.error or 0, ROUNDING) for point in points],
            "change of the logits from the edge",
            "log",
        ),
        (axes[0, 1], [100 * point.kept for point in points], "accuracy, %" if has_labels else "answers kept, %", None),
    )
    for ax, values, title, scale in panels:
        ax.plot(cost, values, color=BORDER_COLORS["infinite"], marker="^")
        for point, value in zip(points, values, strict=True):
            ax.annotate(
                "∞" if point.reach is None else str(point.reach),
                (point.cost, value),
                textcoords="offset points",
                xytext=(4, 5),
                fontsize=8,
                color="#33322f",
            )
        ax.set(xlabel="multiply-adds, × own padding's", title=title)
        ax.grid(axis="y")
        if scale:
            ax.set_yscale(scale)
    axes[0, 1].set_ylim(-4, 106)
    return Figure(
        save(fig, path),
        "The network converted to <em>infinite</em>, untouched and without fine-tuning, with maps that may grow by 0, "
        "1, 2, … cells, or without a bound (∞). Left: how far the answer depends on the place; right: what is left of "
        "the answers on these images; both against the cost.",
        f"Two lines over the cost, from {cost[0]:.1f} to {cost[-1]:.1f} times the multiply-adds: the dependence on the "
        f"place falls to {small(points[-1].error or 0)}.",
    )


def record(audit: Measurements) -> list[dict[str, Any]]:
    """Return the points."""
    return [asdict(point) for point in _results(audit)[0]]
