"""Score the network on annotated pictures, zone by zone, beside what happens to the same objects when they are moved.

An object near the border may be harder than others: cut off, small, rare. What is scored zone by zone is of both, the
data and the network; objects that are moved tell of the network alone.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from borderless.auditing.figures import as_grid
from borderless.auditing.parts import Compared
from borderless.auditing.result import Finding, Measurements
from borderless.auditing.subject import Subject
from borderless.auditing.tasks import discover
from borderless.data.annotated import AnnotatedImage, AnnotatedPictures
from borderless.measures.comparisons import Labels, labels_of
from borderless.measures.detection_zones import DetectedObjects, detection_zones
from borderless.measures.intervals import over_objects
from borderless.measures.prediction_changes import OnPhotographs
from borderless.measures.segmentation_zones import segmentation_zones
from borderless.measures.zones import COUNT, Zone, Zones, ZoneScore, zone_of
from borderless.report.content import Figure, Section, Table
from borderless.report.numbers import percent, safe, with_interval
from borderless.report.plots import BORDER_COLORS, heat_map, new_figure, save
from borderless.runtime.evaluation import evaluating

NAME = "zones"
NEEDS: tuple[str, ...] = ()
STEPS = {"zones": 20.0}
FROM_OUTSIDE = tuple(STEPS)
NEEDS_ANNOTATIONS = True
COMPARED: tuple[Compared, ...] = (
    ("score along the border, %", 100, ("border", "score", "value")),
    ("score in the center, %", 100, ("inner", "score", "value")),
)

_NAMES = ("along the border", *(f"zone {i}" for i in range(2, COUNT)), "center")
_LEFT_OUT = 5


@dataclass(frozen=True)
class AnnotatedZones:
    """Scores by zone on annotated pictures.

    Attributes:
        found: By zone.
        kind: The format of the annotations.
        class_names: Of each label.
        left_out: What could not be used, with the reason.
    """

    found: Zones
    kind: str
    class_names: dict[int, str]
    left_out: tuple[str, ...]

    @property
    def is_of_pixels(self) -> bool:
        """Whether pixels are scored, not objects."""
        return self.found.by_distance.size > 0


def measure(subject: Subject) -> dict[str, Any]:
    """Return `zones`: the scores by zone."""
    given = subject.annotated
    assert given is not None  # without annotations the part is not chosen
    return {"zones": subject.step("zones", lambda tell: _measured(subject, given, tell))}


def _measured(subject: Subject, given: AnnotatedPictures, tell: Callable[[float, float], Any]) -> AnnotatedZones:
    left_out = list(given.annotations.left_out)
    is_of_pixels = isinstance(subject.predictions.comparison, Labels)
    images = _told(given, left_out, is_of_pixels, tell)
    with evaluating(subject.model):
        if is_of_pixels:
            found = segmentation_zones(_labels(subject, images), max(subject.predictions.count, 2), subject.seed)
        else:
            every = [_detected(subject, image) for image in images]
            found = detection_zones(every, subject.seed, lambda done, of: tell(1 + done / of, 2))
    return AnnotatedZones(found, given.annotations.kind, dict(given.annotations.class_names), tuple(left_out))


def _told(
    given: AnnotatedPictures, left_out: list[str], is_of_pixels: bool, tell: Callable[[float, float], Any]
) -> Iterator[AnnotatedImage]:
    for i, image in enumerate(given.read(left_out, is_of_pixels)):
        yield image
        tell((i + 1) / len(given), 2)


def _labels(subject: Subject, images: Iterator[AnnotatedImage]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the right and the predicted labels of pixels; logits of a lower resolution are enlarged, as usual."""
    for image in images:
        if image.pixels is None:
            continue
        logits = subject.model(image.image[None].to(subject.device)).float()
        if logits.shape[2:] != image.pixels.shape:
            size = [*image.pixels.shape]
            logits = torch.nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        yield image.pixels, labels_of(logits.cpu().numpy(), 1)[0]


def _detected(subject: Subject, image: AnnotatedImage) -> DetectedObjects:
    rows = subject.model(image.image[None].to(subject.device))[0].double().cpu().numpy()
    size = (int(image.image.shape[1]), int(image.image.shape[2]))
    return DetectedObjects(size, image.boxes, image.labels, image.is_ignored, rows[rows[:, 4] > 0])


def moved_by_zone(audit: Measurements) -> list[ZoneScore | None] | None:
    """Return how much the output for an object changes when it is moved into each zone; None if none was moved.

    A zone that the centers of the objects cannot reach has None.
    """
    moved: OnPhotographs | None = audit.results.get("photographs")
    if moved is None:
        return None
    centers = moved.positions + np.array(moved.object_px) / 2
    zones = zone_of(centers[:, 0], centers[:, 1], audit.size)
    zones[0] = -1  # what others are compared with
    found: list[ZoneScore | None] = []
    for zone in range(COUNT):
        values = moved.differs[zones == zone]
        mean = values.mean(0) if len(values) else None
        found.append(None if mean is None else ZoneScore(float(mean.mean()), *over_objects(mean, audit.seed)))
    return found


def findings(audit: Measurements) -> list[Finding]:
    """Return whether scores fall toward the border, and whether data or network is the cause."""
    result: AnnotatedZones | None = audit.results.get("zones")
    if result is None:
        return []
    border, inner = result.found.border, result.found.inner
    things = "pixels" if result.is_of_pixels else "objects"
    text = (
        f"By zone, on {result.found.images} annotated images: {_score_name(result)} is {_shown(border)} "
        f"{_along(result)} and {_shown(inner)} in a center of the same area, which have {percent(border.share)} and "
        f"{percent(inner.share)} of the annotated {things}."
    )
    moved = moved_by_zone(audit)
    outermost = next((i for i, one in enumerate(moved or []) if one is not None), None)
    numbers = {"border": border.score.value, "inner": inner.score.value, "border_share": border.share}
    is_lower = border.score.high < inner.score.low
    told = [*_unseen(result)]
    if moved is None or outermost is None:
        text += " Whether data or network makes a difference shows when objects are moved (the part sensitivity)."
        return [Finding("zones", "warning" if is_lower else "info", text, numbers), *told]
    change = moved[outermost]
    assert change is not None
    numbers["moved"] = change.value
    amount = audit.words.changes.format(with_interval(change.value, change.low, change.high))
    text += f" When the same objects are moved {_where(outermost)}, {amount}: "
    is_network = change.low > discover()[audit.task].LEAST
    if is_network and is_lower:
        level, why = "warning", "the network treats them differently there, whatever is annotated."
    elif is_network:
        level, why = "warning", "the network treats them differently there, which the annotated images do not show."
    elif is_lower:
        level = "info"
        why = "too little to be the cause. The data is: objects near the border are cut off, small or of other kinds."
    else:
        level, why = "pass", "neither the data nor the network makes a difference that can be told."
    return [Finding("zones", level, text + why, numbers), *told]


def _unseen(result: AnnotatedZones) -> list[Finding]:
    if not result.found.unseen:
        return []
    names = [safe(result.class_names.get(label, str(label))) for label in result.found.unseen]
    more = " …" if len(names) > _LEFT_OUT else ""
    text = f"Annotated, but never predicted: {', '.join(names[:_LEFT_OUT])}{more}."
    return [Finding("zones-classes", "info", text, {"labels": list(result.found.unseen)})]


def _score_name(result: AnnotatedZones) -> str:
    return "the share of pixels with the right label" if result.is_of_pixels else "the recall at an overlap of 50 %"


def _along(result: AnnotatedZones) -> str:
    zone = result.found.zones.index(result.found.border)
    return "along the border" if zone == 0 else f"in zone {zone + 1}, the outermost one with objects,"


def _where(zone: int) -> str:
    return "to the border" if zone == 0 else "toward the border" if zone < COUNT - 1 else "around the center"


def _shown(zone: Zone) -> str:
    score = zone.score
    return "unknown" if np.isnan(score.value) else with_interval(score.value, score.low, score.high)


def section(audit: Measurements, folder: Path) -> Section | None:
    """Return heat maps of the data, the score and moved objects, and a table of the zones."""
    result: AnnotatedZones | None = audit.results.get("zones")
    if result is None:
        return None
    things = "pixels" if result.is_of_pixels else "objects"
    first = findings(audit)[0]
    text = [
        f"Annotated pictures ({result.kind}), whole, from the border to the center. Zones are frames of a tenth of the "
        'image, as in <a href="https://arxiv.org/abs/2310.13215">Zheng et al.</a>; an object is in the zone of its '
        "box's center, and a detection that matches an object elsewhere counts nowhere.",
        f"<b>Data and network</b>: the annotated {things} of a zone differ from those of another one. "
        "<b>Network alone</b>: the same objects at other positions of photographs that they are not cut from.",
    ]
    if result.left_out:
        shown = "; ".join(safe(line) for line in result.left_out[:_LEFT_OUT])
        more = " …" if len(result.left_out) > _LEFT_OUT else ""
        text.append(f"Left out or changed, {len(result.left_out)}: {shown}{more}")
    figures = [_draw(folder / "zones.png", audit, result)]
    if result.is_of_pixels:
        figures.append(_draw_distance(folder / "zones-distance.png", result))
    return Section("From the border to the center", text, figures, [_table(audit, result)], _first_sentence(first.text))


def _first_sentence(text: str) -> str:
    return text.split(". ")[0].removesuffix(".") + "."


def _table(audit: Measurements, result: AnnotatedZones) -> Table:
    moved, found = moved_by_zone(audit), result.found
    things = "pixels" if result.is_of_pixels else "objects"
    scores = (
        ("right label, %", "intersection over union, %")
        if result.is_of_pixels
        else ("recall, %", "average precision at 50 %, %", "average precision, %")
    )
    rows: list[list[str]] = []
    changes = [*(moved or [None] * COUNT), None, None]
    named = zip(
        (*_NAMES, "zones 3 to 5", "whole image"), (*found.zones, found.inner, found.whole), changes, strict=True
    )
    for name, zone, change in named:
        cells = [name, f"{100 * zone.area:.0f}", f"{100 * zone.share:.0f}", f"{zone.count:,}"]
        cells += [_cell(zone.score), _cell(zone.precision)]
        cells += [] if result.is_of_pixels else [_number(zone.mean_precision)]
        rows.append([*cells, "–" if change is None else _cell(change)])
    columns = ["zone", "area, %", f"{things}, %", things, *scores, f"moved there: {audit.words.column}"]
    return Table(
        columns,
        rows,
        "In brackets 95 % intervals, over images, and over objects of those that are moved; – where nothing is "
        "annotated, or where the centers of the moved objects cannot be. Average precision and intersection over "
        "union: the mean over classes.",
    )


def _cell(score: ZoneScore) -> str:
    if np.isnan(score.value):
        return "–"
    return f"{100 * score.value:.0f} ({100 * score.low:.0f}–{100 * score.high:.0f})"


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.0f}"


def _draw(path: Path, audit: Measurements, result: AnnotatedZones) -> Figure:
    found = result.found
    things = "pixels" if result.is_of_pixels else "objects"
    moved: OnPhotographs | None = audit.results.get("photographs")
    shares = 100 * found.counts / found.counts.sum()
    score = "right label" if result.is_of_pixels else "recall"
    panels: list[tuple[str, np.ndarray, float, Any, str]] = [
        (f"annotated {things}", shares, max(8.0, float(shares.max())), None, "Blues"),
        (f"{score}, annotated", 100 * found.grid, 100.0, None, "viridis"),
    ]
    if moved is not None:
        grid, extent = as_grid(moved.positions, 1 - moved.differs.mean(1))
        panels.append(("unchanged, moved", 100 * grid, 100.0, extent, "viridis"))
    fig, axes = new_figure(1, len(panels), (2.5, 2.6))
    for ax, (title, values, most, extent, colors) in zip(axes[0], panels, strict=True):
        heat_map(ax, values, title=title, vmin=0, vmax=most, extent=extent, label="%", cmap=colors, annotate="{:.0f}")
        if extent is None:
            ax.set_xticks([])
            ax.set_yticks([])
        else:
            ax.set(xlabel="column of the object, px")
    return Figure(
        save(fig, path),
        f"Over the image: where {things} are annotated, their score, and what stays as in the middle when the same "
        "objects are moved over photographs (by the position of the object's upper left pixel). Empty: nothing is "
        "annotated there.",
        f"Heat maps over the image. Scores from {np.nanmin(100 * found.grid):.0f} to "
        f"{np.nanmax(100 * found.grid):.0f} %; cells have {shares.min():.0f} to {shares.max():.0f} % of the {things}.",
    )


def _draw_distance(path: Path, result: AnnotatedZones) -> Figure:
    values = 100 * result.found.by_distance
    fig, axes = new_figure(panel_size=(2.4, 5.4))
    ax = axes[0, 0]
    ax.plot(np.arange(len(values)), values, color=BORDER_COLORS["zero"])
    ax.set(xlabel="distance from the edge, px", ylabel="right label, %")
    ax.grid(axis="y")
    return Figure(
        save(fig, path),
        "The share of pixels with the right label by their distance from the edge of the image.",
        f"A line over the distance: {values[0]:.0f} % at the edge, {np.nanmax(values):.0f} % at the most.",
    )


def record(audit: Measurements) -> dict[str, Any] | None:
    """Return the scores by zone and by position."""
    result: AnnotatedZones | None = audit.results.get("zones")
    if result is None:
        return None
    found, moved = result.found, moved_by_zone(audit)
    return {
        "kind": result.kind,
        "images": found.images,
        "of": "pixels" if result.is_of_pixels else "objects",
        "zones": [asdict(zone) for zone in found.zones],
        "border": asdict(found.border),
        "inner": asdict(found.inner),
        "whole": asdict(found.whole),
        "moved": None if moved is None else [None if one is None else asdict(one) for one in moved],
        "grid": found.grid.tolist(),
        "counts": found.counts.tolist(),
        "by_distance": found.by_distance.tolist(),
        "unseen": list(found.unseen),
        "left_out": list(result.left_out),
    }
