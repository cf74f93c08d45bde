"""An audit's page: the verdict, what it rests on, and how it was measured."""

import json
from pathlib import Path

from borderless.auditing.parts import discover, in_order
from borderless.auditing.record import FILE, to_dict
from borderless.auditing.result import LEVELS, Measurements
from borderless.auditing.verdict import judge
from borderless.report import plots
from borderless.report.content import Section
from borderless.report.numbers import safe
from borderless.report.page import write
from borderless.report.provenance import provenance
from borderless.runtime.files import write_atomically

LEAD = (
    "Does this network use where things are? Not only what could be read from it, but what its answers do when the "
    "same object stands elsewhere; how far from the border; and what it costs to take that ability away."
)
# The parts in the order of their sections; others follow.
_ORDER = ("sensitivity", "border_error", "shifts", "decodability", "layout", "reach")


def save(audit: Measurements, folder: Path | str) -> Path:
    """Write audit.json, the figures and report.html into `folder`; returns the path of the page."""
    folder = Path(folder)
    with plots.style():
        shown = [part.section(audit, folder) for part in in_order(discover().values(), lambda part: part.NAME, _ORDER)]
    sections = [_verdict(audit), *(section for section in shown if section is not None), _method(audit)]
    small_print = f"All numbers are in <code>{FILE}</code> beside this page. {provenance()}"
    page = write(sections, folder / "report.html", f"Audit of {safe(audit.name)}", LEAD, small_print)
    write_atomically(folder / FILE, json.dumps(to_dict(audit), indent=2) + "\n")  # last: it stands for a whole audit
    return page


def _verdict(audit: Measurements) -> Section:
    findings = judge(audit)
    advice = list(dict.fromkeys(finding.advice for finding in findings if finding.advice))
    text = [f"<strong>{findings[0].text}</strong>"]
    text += [f"<b>{LEVELS[finding.level]}.</b> {finding.text}" for finding in findings[1:]]
    text += [f"<b>To do.</b> {line}" for line in advice]
    return Section("Verdict", text)


def _method(audit: Measurements) -> Section:
    of = (
        f" of {audit.drawn_from:,}, drawn at random,"
        if (audit.drawn_from or 0) - len(audit.skipped) > audit.images
        else ""
    )
    text = [
        f"{audit.images:,}{of} images of {audit.size[0]} × {audit.size[1]} px, seed {audit.seed}, {audit.classes} "
        f"classes, {audit.parameters / 1e6:.1f} million parameters, run under {audit.border}. "
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
