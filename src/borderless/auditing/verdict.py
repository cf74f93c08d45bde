"""Turn numbers into sentences: what the audit found, how sure it is, and what to do.

A finding never rests on a number whose control shows the same. An effect counts if it is larger than what remains of it
when its cause has been removed, and larger than the difference between two runs on the same images.
"""

from typing import TYPE_CHECKING

from borderless.auditing.parts import discover, in_order
from borderless.auditing.result import NOT_ASKED, Finding, Level, Measurements
from borderless.auditing.tasks import discover as discover_tasks
from borderless.report.numbers import percent, safe, with_interval

if TYPE_CHECKING:
    from borderless.measures.position_sensitivity import Sensitivity
    from borderless.measures.prediction_changes import Effect

# Relative change of the logits below which predictions count as equal: float32 leaves 1e-7 to 1e-5.
EQUAL = 1e-4
# How many times its control an effect must be.
BEYOND = 10.0
RANDOM = "RANDOM WEIGHTS"
# Findings in the order in which they are told, by name; those with other names follow.
_ORDER = (
    *(
        "position-read",
        "border",
        "zones",
        "zones-classes",
        "margin",
        "crops",
        "confidence",
        "fragility",
        "cost",
        "fixes",
        "stride",
        "bias",
        "leak",
    ),
    *("blind-rows", "blind-columns", "uneven-padding", "decodable", "read-out"),
)


def judge(audit: Measurements) -> list[Finding]:
    """Return the verdict, then what it rests on, then what was not measured."""
    found = [finding for part in discover().values() for finding in part.findings(audit)]
    skipped = [
        Finding("not-measured", "info", f"Skipped: {step}. {safe(why).removesuffix('.')}.")
        for step, why in audit.missing.items()
        if why != NOT_ASKED
    ]
    return [_headline(audit), *in_order(found, lambda finding: finding.name, _ORDER), *skipped]


def title_of(audit: Measurements) -> str:
    """Return the name of the network, marked if its weights are random."""
    return f"{safe(audit.name)} ({RANDOM})" if audit.origin.is_random else safe(audit.name)


def described_task(audit: Measurements) -> str:
    """Return what the output means, and what that was guessed from."""
    return f"{audit.task}{f', guessed from {safe(audit.guessed_from)}' if audit.guessed_from else ''}"


def is_exploiting(audit: Measurements) -> bool:
    """Return whether predictions change with the position because of the border, beyond the control."""
    placed: Sensitivity | None = audit.results.get("sensitivity")
    if placed is None:
        return False
    is_used = placed.border.low > max(placed.border_control.high, discover_tasks()[audit.task].LEAST)
    return is_used and is_real(placed.border, placed.border_control, audit.repeat)


def is_real(effect: "Effect", control: "Effect", repeat: float) -> bool:
    """Return whether an effect is beyond its control, beyond `repeat`, the noise floor, and beyond rounding."""
    return effect.change > max(BEYOND * control.change, BEYOND * repeat, EQUAL)


def is_nothing(effect: "Effect") -> bool:
    """Return whether positions were compared and gave equal predictions."""
    return effect.positions > 0 and effect.change <= EQUAL


def headline(audit: Measurements) -> "tuple[Effect, str] | None":
    """Return the effect that the verdict tells, and where the objects were; None if there is none.

    Photographs lead: an empty canvas is far from what a network was trained on. Where nothing changes on the empty
    canvas, that is reported, because on a photograph an object also covers another part of the background.
    """
    placed: Sensitivity | None = audit.results.get("sensitivity")
    on_photograph: Effect | None = audit.results.get("on_photograph")
    if placed is not None and (on_photograph is None or is_nothing(placed.all_positions)):
        return placed.all_positions, "on an empty canvas"
    return None if on_photograph is None else (on_photograph, "on photographs")


def _headline(audit: Measurements) -> Finding:
    placed: Sensitivity | None = audit.results.get("sensitivity")
    name, shown = title_of(audit), headline(audit)
    if shown is None or (placed is not None and not placed.border.positions):
        return Finding("verdict", "info", f"Whether {name} depends on position could not be measured.")
    effect, where = shown
    numbers = {"flips": effect.flips, "low": effect.low, "high": effect.high, "objects": effect.objects}
    cases = (
        f"{where}, {audit.words.cases.format(percent(effect.flips))} (95 % interval {100 * effect.low:.0f}–"
        f"{100 * effect.high:.0f} %; {effect.objects} objects × {effect.positions} positions)"
    )
    if placed is None:
        summary = "cannot be converted or has too little room, so that no cause could be measured"
        return Finding("verdict", "info", f"{name} {summary}: {cases}.", numbers, summary=f"{name} {summary}.")
    level, summary, more = _conclusion(audit, placed)
    return Finding("verdict", level, f"{name} {summary}{more}: {cases}.", numbers, summary=f"{name} {summary}.")


def _conclusion(audit: Measurements, placed: "Sensitivity") -> tuple[Level, str, str]:
    """Return the level of the verdict, its sentence about the network, and the numbers that belong to it."""
    layout = audit.results.get("layout")
    reads = () if layout is None else layout.position_reads
    reading = f", by reading it in {safe(reads[0].module) or 'the model itself'}" if reads else ""
    if is_exploiting(audit):
        return "fail", "uses absolute position", ""
    if reads and placed.all_positions.low > 0:
        return "fail", f"uses absolute position{reading}", ""
    if is_real(placed.border, placed.border_control, audit.repeat):
        changes = audit.words.changes.format(percent(placed.border.flips))
        more = (
            f" (with the distance to the border, {audit.words.numbers} change by {percent(placed.border.change)} of "
            f"the largest, and {f'{changes}, too little to be sure of' if placed.border.flips else audit.words.none})"
        )
        return "warning", "responds to absolute position", more
    if reads:
        return "warning", f"responds to absolute position{reading}", ""
    if is_real(placed.stride, placed.stride_control, audit.repeat) and is_nothing(placed.border):
        return "warning", "does not respond to the border, but its strides sample an object differently as it moves", ""
    if is_nothing(placed.all_positions):
        return "pass", "gives the same output at every position", ""
    more = f" ({audit.words.numbers} of two runs on the same images differ by {percent(audit.repeat)})"
    return "info", "predicts differently at different positions, but no more than where nothing should differ", more


def effect_in_words(audit: Measurements, effect: "Effect") -> str:
    """Write how much the output changes, with its interval."""
    return audit.words.changes.format(with_interval(effect.flips, effect.low, effect.high))
