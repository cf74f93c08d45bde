"""Write an audit's page: the first screen, the verdict, what it rests on, and how it was measured."""

import json
from pathlib import Path

from borderless.auditing.figures import draw_example, draw_positions
from borderless.auditing.parts import discover, in_order
from borderless.auditing.record import FILE, to_dict
from borderless.auditing.result import Finding, Measurements
from borderless.auditing.verdict import described_task, effect_in_words, headline, judge, title_of
from borderless.report import plots
from borderless.report.content import Card, Note, Section, Table
from borderless.report.numbers import percent, safe
from borderless.report.page import write
from borderless.report.provenance import provenance
from borderless.runtime.files import check_writable, write_atomically

LEAD = (
    "Does this network use absolute position? Not only what could be decoded from its features, but what its "
    "predictions do when the same object is at another position; how far from the border; and what it costs to prevent "
    "it."
)
# The parts in the order of their sections; others follow.
_ORDER = ("sensitivity", "zones", "margin", "border_error", "shifts", "decodability", "layout", "reach", "fixes")
_NAMES = 6
_WHICH_BORDER = (
    "Which border fits which task, data and budget, and what each costs in accuracy: the documentation's page "
    "<em>Which border should I use?</em>"
)
_CONVERSION = 'model = bl.convert(model, "infinite", phase="adaptive")'


def save(audit: Measurements, folder: Path | str) -> Path:
    """Write audit.json, the figures and report.html into `folder`; returns the path of the page.

    Raises:
        StorageError: Files cannot be written there.
    """
    folder = Path(folder)
    check_writable(folder)
    # First: a page that cannot be drawn must not lose what was measured.
    write_atomically(folder / FILE, json.dumps(to_dict(audit), indent=2) + "\n")
    with plots.style():
        shown = [part.section(audit, folder) for part in in_order(discover().values(), lambda part: part.NAME, _ORDER)]
        card = _card(audit, folder)
    sections = [_verdict(audit), *(section for section in shown if section is not None), _method(audit)]
    small_print = f"All numbers are in <code>{FILE}</code> beside this page. {provenance()}"
    title = f"Audit of {title_of(audit)}"
    return write(sections, folder / "report.html", title, LEAD, small_print, card)


def _card(audit: Measurements, folder: Path) -> Card:
    verdict, shown = judge(audit)[0], headline(audit)
    facts = [f"Weights: {safe(audit.origin.weights)}"] if audit.origin.weights else []
    facts.append(f"Images: {_images(audit)}")
    number, label, figures = "", "", []
    if shown is not None:
        effect, where = shown
        number = percent(effect.flips)
        label = (
            f"{audit.words.label}, {where} (95 % interval {100 * effect.low:.0f}–{100 * effect.high:.0f} %, "
            f"{effect.objects} objects × {effect.positions} positions)"
        )
        facts = [*_on_canvas(audit, where), *facts]
    if audit.results.get("example") is not None:
        figures.append(draw_example(folder / "example.png", audit.results["example"]))
    if audit.results.get("photographs") is not None:
        figures.append(draw_positions(folder / "positions.png", audit))
    step, command = _next_step(audit, verdict)
    return Card(Note(verdict.level, verdict.summary or verdict.text), number, label, facts, figures, step, command)


def _on_canvas(audit: Measurements, where: str) -> list[str]:
    """Return what happens on the empty canvas, if the verdict tells of photographs."""
    placed = audit.results.get("sensitivity")
    if placed is None or where != "on photographs":
        return []
    return [
        f"On an empty canvas, where an object covers nothing else: {effect_in_words(audit, placed.all_positions)}",
    ]


def _next_step(audit: Measurements, verdict: Finding) -> tuple[str, str]:
    """Return what to do next, and the command that does it."""
    if not audit.origin.network:
        return "", ""
    if verdict.level in ("fail", "warning") and not audit.origin.is_random:
        if audit.task != "classification":
            return "Convert it with the same weights, fine-tune that, and audit it again:", _CONVERSION
        return "Convert it, fine-tune it on your images, and audit it again, with one command:", finetuning(audit)
    return "Explain it layer by layer:", f"borderless explain {audit.origin.network.split()[0]} --border infinite"


def finetuning(audit: Measurements) -> str:
    """Return the command that fine-tunes the network, with the smallest reach that is as good as none."""
    points = audit.results.get("reach", ())
    reach = next((point.reach for point in points if point.is_enough), None)
    bound = "" if reach is None else f" --reach {reach}"
    return f"borderless finetune {audit.origin.network} --data PHOTOS --border infinite --phase adaptive{bound}"


def _verdict(audit: Measurements) -> Section:
    findings = judge(audit)
    advice = {finding.advice: finding.commands for finding in findings if finding.advice}
    notes = [Note(finding.level, finding.text) for finding in findings]
    to_do = [f"<b>{i}.</b> {line}" for i, line in enumerate(advice, 1)]
    steps = [Note("info", line, tuple(commands)) for line, commands in zip(to_do, advice.values(), strict=True)]
    if steps:
        steps.append(Note("info", _WHICH_BORDER))
    return Section("Verdict", notes=[*notes, *steps], result=findings[0].summary or findings[0].text)


def _images(audit: Measurements) -> str:
    """Return how many images there were, and which."""
    drawn = (audit.drawn_from or 0) - len(audit.skipped) > audit.images
    of = f" of {audit.drawn_from:,}, drawn at random" if drawn else ""
    text = f"{audit.images:,}{of}, {audit.size[0]} × {audit.size[1]} px"
    if audit.origin.names:
        more = ", …" if len(audit.origin.names) > _NAMES else ""
        text += f" ({safe(', '.join(audit.origin.names[:_NAMES]))}{more})"
    return text


def _method(audit: Measurements) -> Section:
    origin = audit.origin
    rows = [
        ["network", f"{title_of(audit)}, {audit.kind}, {audit.parameters / 1e6:.1f} million parameters"],
        ["weights", safe(origin.weights) or "as passed from Python"],
        ["border", f"run under {safe(audit.border)}"],
        ["images", _images(audit)],
        ["preprocessing", safe(origin.preprocessing) or "as passed from Python"],
        ["task", described_task(audit)],
        ["classes or channels", f"{audit.classes:,}"],
        ["seed", str(audit.seed)],
        ["device", origin.device or "that of the model"],
        ["time", f"{audit.duration_s:.0f} s"],
    ]
    placed = audit.results.get("sensitivity")
    if placed is not None:
        height, width = placed.object_px
        where = "on other photographs, and on an empty canvas in the color of the mean"
        rows.insert(5, ["objects", f"{height} × {width} px, cut from the middle of the images, {where}"])
    if audit.accuracy is not None:
        found = audit.accuracy
        shown = f"{100 * found.value:.1f} % ({100 * found.low:.1f}–{100 * found.high:.1f} %, 95 % interval over images)"
        rows.append(["accuracy", shown])
    if audit.kinds:
        rows.append(["converted", ", ".join(f"{count} {kind}" for kind, count in audit.kinds.items())])
    if audit.skipped:
        names = safe("; ".join(audit.skipped[:5]))
        rows.append(["left out", f"{len(audit.skipped)} files: {names}{' …' if len(audit.skipped) > 5 else ''}"])
    rows += [["note", safe(note)] for note in audit.notes]
    notes = [Note("info", "The command that gives this page again:", (origin.command,))] if origin.command else []
    return Section("How it was measured", tables=[Table(["", "how"], rows)], notes=notes)
