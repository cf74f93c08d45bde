"""Compare the output for the same pixels at other distances from the edge: how deep is the margin, and why?

Of outputs with a cell for each part of the image: labels of pixels, heat maps, depth.
"""

from pathlib import Path
from typing import Any, cast

import numpy as np

from borderless.auditing.parts import Compared
from borderless.auditing.parts.layout import NetworkLayout
from borderless.auditing.result import Finding, Measurements
from borderless.auditing.subject import Subject
from borderless.errors import ImageError
from borderless.measures.border_effect import TOUCHED
from borderless.measures.comparisons import Cells
from borderless.measures.edge_effect import Rings, Views, padding_effect, views
from borderless.report.content import Figure, Section, Table
from borderless.report.numbers import percent, safe, with_interval
from borderless.report.plots import BORDER_COLORS, GRAY, new_figure, save

NAME = "margin"
NEEDS = ("layout",)
STEPS = {"margin, two crops": 12.0, "margin, padding": 14.0}
COMPARED: tuple[Compared, ...] = (
    ("padding changes outputs up to, px", 1, ("depth_px",)),
    ("padding changes at the edge, %", 100, ("padding", "at_edge")),
    ("two crops differ at the edge, %", 100, ("crops", "at_edge")),
)

_CLASSES = 12


def measure(subject: Subject) -> dict[str, Any]:
    """Return `crops` and `padding`."""
    comparison = cast(Cells, subject.predictions.comparison)
    layout: NetworkLayout | None = subject.results.get("layout")

    def crops(tell: Any) -> Views:
        if layout is None:
            raise ImageError("Needs the total stride of the network, which separates the border from the stride")
        return views(
            subject.model,
            subject.images,
            comparison,
            layout.total_stride_px,
            batch_size=subject.batch_size,
            workers=subject.workers,
            progress=tell,
        )

    def padding(tell: Any) -> Rings:
        return padding_effect(
            subject.model,
            subject.images,
            comparison,
            background=subject.background,
            batch_size=subject.batch_size,
            workers=subject.workers,
            progress=tell,
        )

    return {
        "crops": subject.step("margin, two crops", crops),
        "padding": subject.step("margin, padding", padding),
    }


def findings(audit: Measurements) -> list[Finding]:
    """Return how deep the padding changes outputs, or that it does not."""
    crops, padding = _results(audit)
    if padding is None:
        return []
    depth = padding.depth_px(TOUCHED)
    numbers: dict[str, Any] = {"depth_px": depth, "at_edge": float(padding.by_distance[0])}
    if not depth:
        text = "The padding changes the output at no distance from the edge: "
        text += f"at the edge, {audit.words.changes.format(percent(float(padding.by_distance[0])))} without it."
        return [Finding("margin", "pass", text.replace("object's ", ""), numbers), *_not_padding(audit, crops)]
    near = padding.between(0, depth, audit.seed)
    text = (
        f"The padding: within {depth} px of the edge, {_changes(audit, with_interval(*near))} when the network runs "
        f"without a border, and no more than {percent(TOUCHED)} further inside."
    )
    if crops is not None:
        seen = crops.rings.between(0, depth, audit.seed)
        text += f" Between two crops of the same image, {_changes(audit, with_interval(*seen))} there."
        numbers["crops"] = seen[0]
    advice = (
        "Against a margin: convert the network to <em>infinite</em> and fine-tune it, or leave the margin out of "
        "predictions (cut tiles with context: <code>bl.tiling</code>, or let <code>bl.tile</code> do it)."
    )
    return [Finding("margin", "warning", text, numbers, advice, ("found = bl.tile(model, image)",))]


def _not_padding(audit: Measurements, crops: Views | None) -> list[Finding]:
    """Return that outputs differ at other distances from the edge although the padding changes none."""
    if crops is None or not crops.rings.depth_px(TOUCHED):
        return []
    depth = crops.rings.depth_px(TOUCHED)
    seen = crops.rings.between(0, depth, audit.seed)
    text = (
        f"Between two crops of the same image, {_changes(audit, with_interval(*seen))} within {depth} px of the edge, "
        "and the padding is not the cause: what lies beyond the edge of a crop is missing, or the network reads "
        "position."
    )
    return [Finding("crops", "info", text, {"depth_px": depth, "crops": seen[0]})]


def _changes(audit: Measurements, amount: str) -> str:
    """Return how much changes, of all pixels instead of an object's."""
    return audit.words.changes.format(amount).replace("object's ", "").replace(" at the pixels", "")


def _results(audit: Measurements) -> tuple[Views | None, Rings | None]:
    return audit.results.get("crops"), audit.results.get("padding")


def section(audit: Measurements, folder: Path) -> Section | None:
    """Return the difference over the distance from the edge, and a table of classes."""
    crops, padding = _results(audit)
    if crops is None and padding is None:
        return None
    text = [
        "How much the output for a pixel depends on its distance from the edge. <b>Padding</b>: the network beside "
        "itself without a border (<em>infinite</em>), on the same images; the padding alone makes the difference.",
    ]
    if crops is not None:
        rows, columns = crops.shift_px
        text.append(
            f"<b>Two crops</b>: the same pixels in two crops of the same image, {rows} × {columns} px apart (whole "
            "strides), by the distance from the nearer edge. Here what lies beyond the edge is missing too, as in "
            "tiles: what is left of this line where the padding changes nothing is no fault of the network."
        )
    result = next(iter(findings(audit)), None)
    tables = [_table(crops, audit)] if crops is not None and crops.classes else []
    return Section(
        "How far from the edge outputs change",
        text,
        [_draw(folder / "margin.png", audit, crops, padding)],
        tables,
        result.text.split(". ")[0].removesuffix(".") + "." if result is not None else "",
    )


def _table(crops: Views, audit: Measurements) -> Table:
    names = audit.origin.class_names
    named = {
        one.index: safe(names[one.index]) if len(names) == audit.classes else str(one.index) for one in crops.classes
    }
    rows = [
        [named[one.index], f"{100 * one.share:.1f}", f"{100 * one.flips:.1f}", f"{100 * one.overlap:.1f}"]
        for one in crops.classes[:_CLASSES]
    ]
    count = len(crops.classes)
    caption = (
        "The same pixels in two crops, by the label that a pixel has where it is deeper inside; overlap: intersection "
        "over union of the pixels with that label."
    )
    more = f" The {_CLASSES} most frequent of {count} classes; all are in audit.json." if count > _CLASSES else ""
    return Table(["class", "pixels, %", "another label, %", "overlap, %"], rows, caption + more)


def _draw(path: Path, audit: Measurements, crops: Views | None, padding: Rings | None) -> Figure:
    """Draw both differences over the distance from the edge."""
    fig, axes = new_figure(panel_size=(2.6, 6.6))
    ax = axes[0, 0]
    told: list[str] = []
    lines = (
        ("two crops", None if crops is None else crops.rings, GRAY, "o"),
        ("padding", padding, BORDER_COLORS["zero"], "s"),
    )
    for name, rings, color, marker in lines:
        if rings is None:
            continue
        values = 100 * rings.by_distance
        at = (np.arange(len(values)) + 0.5) * rings.step_px
        ax.plot(at, values, color=color, marker=marker, markersize=3, label=name)
        told.append(f"{name}: {values[0]:.1f} at the edge, {np.nanmin(values):.1f} at the least")
    ax.set(xlabel="distance from the edge, px", ylabel="difference, %")
    ax.set_title(audit.words.column, loc="left")
    ax.set_ylim(bottom=0)
    ax.grid(axis="y")
    ax.legend()
    return Figure(
        save(fig, path),
        f"By the distance of a pixel from the edge ({audit.words.column}), the mean over {audit.images} images.",
        f"Lines over the distance from the edge. {'; '.join(told)}.",
    )


def record(audit: Measurements) -> dict[str, Any] | None:
    """Return the differences by distance, and the classes."""
    crops, padding = _results(audit)
    if crops is None and padding is None:
        return None
    found = {"crops": None if crops is None else crops.rings, "padding": padding}
    return {
        "depth_px": None if padding is None else padding.depth_px(TOUCHED),
        "shift_px": None if crops is None else crops.shift_px,
        **{name: None if rings is None else _numbers(rings) for name, rings in found.items()},
        "classes": [] if crops is None else [vars(one) for one in crops.classes],
    }


def _numbers(rings: Rings) -> dict[str, Any]:
    by_distance = rings.by_distance
    return {"step_px": rings.step_px, "at_edge": float(by_distance[0]), "by_distance": by_distance.tolist()}
