"""An audit's page: the verdict, what it rests on, what it costs to mend; and two audits side by side."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from borderless.auditing import figures
from borderless.auditing.judge import LEVELS, judge, percent, safe, small
from borderless.auditing.record import FILE
from borderless.report import Section, Table, plots, write
from borderless.runtime.files import write_atomically

if TYPE_CHECKING:
    from borderless.auditing.measure import Audit
    from borderless.measures.position_sensitivity import Effect

LEAD = (
    "Does this network use where things are? Not only what could be read from it, but what its answers do when the "
    "same object stands elsewhere; how far from the border; and what it costs to take that ability away."
)


def save(audit: "Audit", folder: Path | str) -> Path:
    """Write audit.json, the figures and report.html into `folder`; returns the path of the page."""
    folder = Path(folder)
    with plots.style():
        sections = _sections(audit, folder)
    page = write(sections, folder / "report.html", f"Audit of {safe(audit.name)}", LEAD, _provenance(audit))
    write_atomically(folder / FILE, json.dumps(audit.to_dict(), indent=2) + "\n")  # last: it stands for a whole audit
    return page


def _sections(audit: "Audit", folder: Path) -> list[Section]:
    makers = (_verdict, _places, _border, _moved, _decoding, _shape, _price, _method)
    return [section for make in makers if (section := make(audit, folder)) is not None]


def _verdict(audit: "Audit", folder: Path) -> Section:
    findings = judge(audit)
    advice = list(dict.fromkeys(finding.advice for finding in findings if finding.advice))
    text = [f"<strong>{findings[0].text}</strong>"]
    text += [f"<b>{LEVELS[finding.level]}.</b> {finding.text}" for finding in findings[1:]]
    text += [f"<b>To do.</b> {line}" for line in advice]
    return Section("Verdict", text)


def _places(audit: "Audit", folder: Path) -> Section | None:
    placed = audit.sensitivity
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
    if audit.on_photograph is not None:
        rows.insert(1, ("everywhere on a photograph", audit.on_photograph))
    text = [
        f"{placed.probability.shape[1]} objects, the middles of the first images unless others were given, stand on a "
        f"canvas of {_by(placed.canvas)} px, at one place after the other; each answer is compared with the one in the "
        "middle. What makes them differ is found by taking one cause away at a time."
    ]
    if audit.accuracy_at_middle is not None and audit.accuracy_elsewhere is not None:
        text.append(
            f"With the labels of the images: {percent(audit.accuracy_at_middle)} right in the middle, "
            f"{percent(audit.accuracy_elsewhere)} elsewhere. That is what the network's use of location costs."
        )
    return Section(
        "One object, many places",
        text,
        [figures.everywhere(folder / "everywhere.png", placed), figures.leaks(folder / "leaks.png", placed)],
        [
            Table(
                ["places", "how many", "answers that change, %", "logits, relative", "probability lost, points"],
                [
                    [name, found.places, _flips(found), small(found.change), f"{100 * found.drop:.1f}"]
                    for name, found in rows
                ],
                "Against the middle place. In brackets: the 95 % interval over objects. Logits: the largest change, "
                "relative to the largest logit. Two runs on the same images differ by "
                f"{small(audit.repeat)}.",
            )
        ],
    )


def _flips(found: "Effect") -> str:
    return f"{100 * found.flips:.1f} ({100 * found.low:.0f}–{100 * found.high:.0f})"


def _border(audit: "Audit", folder: Path) -> Section | None:
    errors = audit.errors
    if errors is None or not errors.layers:
        return None
    text = [
        f"Each map of the network on {errors.images} images, beside the same map without a border: the same weights, "
        "the same images, an endless background. What differs is the border's doing.",
    ]
    if errors.aware_share is not None:
        text.append(
            f"{percent(errors.aware_share)} of the filters for which it can be told answer to a side of the border as "
            "such: their answers there and inside overlap by less than half (Kolmogorov and Smirnov's distance 0.5), "
            "which without a border they do not. Garcia-Gasulla et al. (2023) found about 2 % in pretrained networks, "
            "by another criterion."
        )
    shown = figures.spread(errors, 12)
    return Section(
        "How deep the border reaches",
        text,
        [figures.depth(folder / "depth.png", errors), figures.maps(folder / "maps.png", errors)],
        [
            Table(
                ["map of", "step, px", "at the edge", "above 1 % up to, px", "field, px"],
                [
                    [
                        layer.module or layer.operation,
                        f"{layer.stride_px:g}",
                        percent(layer.at_edge),
                        f"{layer.leak_px():.0f}{' (all)' if layer.is_touched_throughout else ''}",
                        f"{layer.field_px:.0f}",
                    ]
                    for layer in shown
                ],
                f"{len(shown)} of {len(errors.layers)} layers, in the order in which they run; all are in audit.json. "
                "Field: the receptive field, of which half lies on each side. All: no cell is untouched.",
            )
        ],
    )


def _moved(audit: "Audit", folder: Path) -> Section | None:
    if not audit.shifts:
        return None
    named = {
        "zhang2019": "two crops of the image",
        "circular": "two rolls of the image",
        "canvas": "two places on an empty canvas",
    }
    has_labels = all(found.fidelity is not None for found in audit.shifts.values())
    rows = [
        [
            named[name],
            f"{100 * found.value:.1f} ({100 * found.low:.0f}–{100 * found.high:.0f})",
            *([f"{100 * (found.fidelity or 0):.1f}"] if has_labels else []),
        ]
        for name, found in audit.shifts.items()
    ]
    return Section(
        "The whole image moves",
        [
            "How often two views of the same image have the same answer. Offsets are up to an eighth of the image's "
            "side. Crops lose and gain pixels at the edge, rolls tear the image apart, canvases do neither."
        ],
        tables=[
            Table(
                ["views", "same answer, %", *(["same and right, %"] if has_labels else [])],
                rows,
                f"Of {audit.images} images; in brackets the 95 % interval over images.",
            )
        ],
    )


def _decoding(audit: "Audit", folder: Path) -> Section | None:
    found = audit.decodability
    if found is None:
        return None

    def score(probe: Any) -> str:
        return f"{100 * probe.accuracy:.0f} ({100 * probe.low:.0f}–{100 * probe.high:.0f})"

    quadrant = [
        [f"own padding, border of {px} px", score(probe.score), score(probe.control)]
        for px, probe in found.quadrant.items()
    ]
    quadrant.append(["infinite", score(found.quadrant_without.score), score(found.quadrant_without.control)])
    reads = [("as it is", found.read_out), ("on a torus (circular)", found.torus)]
    if found.untrained is not None:
        reads.append(("random weights", found.untrained))
    return Section(
        "What could be read of location",
        [
            "Decodable is not used: here a linear layer of the auditor reads the network's features. It shows what "
            "there is to use, and how far from the border; whether the network's own answers use it is told above.",
        ],
        tables=[
            Table(
                ["upper left or lower right?", "right, %", "shuffled places, %"],
                quadrant,
                f"From the features of {found.module}, on {found.objects} objects from images that were not trained "
                "on, each in both places; guessing gives 50. In brackets the 95 % interval over objects.",
            ),
            Table(
                ["row and column, read off the last map", "Spearman's correlation", "mean absolute error"],
                [[name, f"{one.spearman:.2f} ({one.low:.2f}–{one.high:.2f})", f"{one.mae:.2f}"] for name, one in reads],
                f"A linear filter of 3 × 3 cells on the map of {found.read_out.module or 'the model'}, after Islam et "
                "al. (2020). Contents have places too: what counts is how much more is read than on a torus, which has "
                "no border.",
            ),
        ],
    )


def _shape(audit: "Audit", folder: Path) -> Section | None:
    layout = audit.layout
    if layout is None:
        return None
    text = [
        f"Total stride {_by(layout.total_stride_px)} px, receptive field {_by(layout.receptive_field_px)} px, "
        f"{layout.macs / 1e9:.2f} · 10⁹ multiply-adds an image of {_by(audit.size)} px.",
        "Padding depends on the size of the image: where a stride does not come out even, the last window reads less "
        "padding than the first, or leaves cells unread (Alsallakh et al., 2021)."
        + (
            f" Sizes near this one without uneven padding: {', '.join(map(str, layout.even_sizes))} px."
            if layout.even_sizes
            else " There is no size within 32 px of this one on which all is even."
        ),
    ]
    rows = [
        [one.module or one.operation, one.axis, one.cells, one.before, str(one.after) if one.after >= 0 else "unread"]
        for one in layout.uneven[:12]
    ]
    tables = [Table(["layer", "axis", "cells", "padding before", "after"], rows, _more(len(layout.uneven)))]
    return Section("What the layers say", text, tables=tables if rows else [])


def _price(audit: "Audit", folder: Path) -> Section | None:
    if not audit.reach or audit.layout is None:
        return None
    full = audit.layout.costs["full"]
    return Section(
        "What it costs to give it up",
        [
            f"Under <em>full</em> the network costs {full:.1f} ×, under <em>infinite</em> "
            f"{audit.layout.costs['infinite']:.1f} × the multiply-adds of its own padding, because maps grow beyond "
            "the image as far as an object can be felt. <code>reach=</code> bounds how far. A network that was trained "
            "with zeros around its maps has learnt to count on them: its answers without them are worth less until it "
            "is fine-tuned."
        ],
        [figures.reach(folder / "reach.png", audit.reach, audit.accuracy is not None)],
    )


def _method(audit: "Audit", folder: Path) -> Section:
    of = (
        f" of {audit.drawn_from:,}, drawn at random,"
        if (audit.drawn_from or 0) - len(audit.skipped) > audit.images
        else ""
    )
    text = [
        f"{audit.images:,}{of} images of {_by(audit.size)} px, seed {audit.seed}, {audit.classes} classes, "
        f"{audit.parameters / 1e6:.1f} million parameters, run under {audit.border}. "
        f"The audit took {audit.duration_s:.0f} s."
    ]
    if audit.accuracy is not None:
        found = audit.accuracy
        text.append(
            f"Accuracy on these images: {100 * found.value:.1f} % ({100 * found.low:.1f}–{100 * found.high:.1f}, the "
            "95 % interval over images)."
        )
    if audit.kinds:
        text.append("Among the images: " + ", ".join(f"{count} {kind}" for kind, count in audit.kinds.items()) + ".")
    if audit.skipped:
        names = safe("; ".join(audit.skipped[:5]))
        text.append(f"{len(audit.skipped)} files were left out: {names}{' …' if len(audit.skipped) > 5 else ''}.")
    text += [f"Note: {safe(note)}." for note in audit.notes]
    return Section("How it was measured", text)


def _provenance(audit: "Audit") -> str:
    from borderless.report.provenance import provenance

    return f"All numbers are in <code>{FILE}</code> beside this page. {provenance()}"


def _more(count: int) -> str:
    return f"The first 12 of {count}; all are in audit.json." if count > 12 else ""


def _by(sizes: tuple[int, ...]) -> str:
    return " × ".join(map(str, sizes))


def write_comparison(one: dict[str, Any], other: dict[str, Any], path: Path) -> tuple[Path, list[Table]]:
    """A page with two records (see `record`) side by side; returns its path and tables."""
    names = [safe(record["model"]["name"]) for record in (one, other)]
    if names[0] == names[1]:
        names = [f"{name} ({letter})" for name, letter in zip(names, "AB", strict=True)]
    rows = [[title, *(_cell(record, factor, keys) for record in (one, other))] for title, factor, keys in _COMPARED]
    table = Table(["", *names], rows, "Of two audits; – is what was not measured.")
    text = []
    images = [(r["images"]["count"], r["images"]["size"], r["seed"]) for r in (one, other)]
    if images[0] != images[1]:
        text.append(
            f"<b>Mind.</b> The audits were made with other images: {images[0][0]} of {_by(tuple(images[0][1]))} px, "
            f"seed {images[0][2]}, and {images[1][0]} of {_by(tuple(images[1][1]))} px, seed {images[1][2]}."
        )
    sections = [Section("Side by side", text, tables=[table])]
    for name, record in zip(names, (one, other), strict=True):
        findings = [f"<b>{LEVELS[finding['level']]}.</b> {finding['text']}" for finding in record["findings"]]
        sections.append(Section(name, findings))
    page = write(sections, path, f"{names[0]} and {names[1]}", LEAD, f"From two {FILE}.")
    return page, [table]


_COMPARED: tuple[tuple[str, float, tuple[str, ...]], ...] = (
    ("answers that change, everywhere, %", 100, ("sensitivity", "all_places", "flips")),
    ("… because of the border, %", 100, ("sensitivity", "border", "flips")),
    ("… because of the stride, %", 100, ("sensitivity", "stride", "flips")),
    ("logits, border, relative", 1, ("sensitivity", "border", "change")),
    ("logits, stride, relative", 1, ("sensitivity", "stride", "change")),
    ("right in the middle, %", 100, ("sensitivity", "accuracy_at_middle")),
    ("right elsewhere, %", 100, ("sensitivity", "accuracy_elsewhere")),
    ("same answer, two crops, %", 100, ("shifts", "zhang2019", "value")),
    ("same answer, two places, %", 100, ("shifts", "canvas", "value")),
    ("border felt up to, px", 1, ("border_error", "leak_px")),
    ("padding-aware filters, %", 100, ("border_error", "aware_share")),
    ("cost of infinite, ×", 1, ("layout", "costs", "infinite")),
    ("accuracy on these images, %", 100, ("images", "accuracy")),
)


def _cell(record: dict[str, Any], factor: float, keys: tuple[str, ...]) -> str:
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if value is None:
        return "–"
    return f"{factor * value:.3g}" if not isinstance(value, str) else value
