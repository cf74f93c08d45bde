"""From numbers to sentences: what the audit found, how sure it is, and what to do.

A finding never rests on a number whose control shows the same. An effect counts if it is larger than what remains of it
when its cause has been removed, and larger than the difference between two runs on the same images.
"""

from typing import TYPE_CHECKING

from borderless.auditing.parts import discover, in_order
from borderless.auditing.result import Finding, Measurements
from borderless.report.numbers import percent, safe, small

if TYPE_CHECKING:
    from borderless.measures.position_sensitivity import Sensitivity
    from borderless.measures.prediction_changes import Effect

# Relative change of the logits below which predictions count as equal: float32 leaves 1e-7 to 1e-5.
EQUAL = 1e-4
# How many times its control an effect must be.
BEYOND = 10.0
# Findings in the order in which they are told, by name; those with other names follow.
_ORDER = (
    *("position-read", "border", "bias", "stride", "leak", "blind-rows", "blind-columns", "uneven-padding"),
    *("padding-aware", "decodable", "read-out", "cost"),
)


def judge(audit: Measurements) -> list[Finding]:
    """Return the verdict, then what it rests on, then what was not measured."""
    found = [finding for part in discover().values() for finding in part.findings(audit)]
    missing = [
        Finding("not-measured", "open", f"Not measured: {step}. {safe(why)}") for step, why in audit.missing.items()
    ]
    return [_headline(audit), *in_order(found, lambda finding: finding.name, _ORDER), *missing]


def is_exploiting(audit: Measurements) -> bool:
    """Return whether predictions change with the position because of the border, beyond the control."""
    placed: Sensitivity | None = audit.results.get("sensitivity")
    if placed is None:
        return False
    return placed.border.low > placed.border_control.high and is_real(
        placed.border, placed.border_control, audit.repeat
    )


def is_real(effect: "Effect", control: "Effect", repeat: float) -> bool:
    """Return whether an effect is beyond its control, beyond `repeat`, the noise floor, and beyond rounding."""
    return effect.change > max(BEYOND * control.change, BEYOND * repeat, EQUAL)


def is_nothing(effect: "Effect") -> bool:
    """Return whether positions were compared and gave equal predictions."""
    return effect.places > 0 and effect.change <= EQUAL


def _headline(audit: Measurements) -> Finding:
    placed: Sensitivity | None = audit.results.get("sensitivity")
    name = safe(audit.name)
    if placed is None or not placed.border.places:
        return Finding("verdict", "open", f"Whether {name} uses location could not be measured.")
    numbers = {"flips": placed.all_places.flips, "low": placed.all_places.low, "high": placed.all_places.high}
    price = f"{_cases(placed.all_places, placed)} the answer is another one than in the middle"
    layout = audit.results.get("layout")
    reads = () if layout is None else layout.position_reads
    if is_exploiting(audit):
        most = max(placed.all_places, placed.border, key=lambda effect: effect.flips)
        return Finding(
            "verdict",
            "bad",
            f"{name} uses location: the same object gets another answer because of where it stands, "
            f"{_cases(most, placed)}.",
            numbers,
        )
    if reads and placed.all_places.low > 0:
        return Finding(
            "verdict",
            "bad",
            f"{name} uses location, by reading it in {safe(reads[0].module) or 'the model itself'}: {price}.",
            numbers,
        )
    if is_real(placed.border, placed.border_control, audit.repeat):
        with_them = "classes too rarely to be sure of" if placed.border.flips else "no class"
        text = (
            f"{name} sees location: the logits change by {percent(placed.border.change)} of the largest with the "
            f"distance to the border, and {with_them} with them; {price}."
        )
        return Finding("verdict", "mind", text, numbers)
    if reads:
        text = f"{name} sees location, by reading it in {safe(reads[0].module) or 'the model itself'}: {price}."
        return Finding("verdict", "mind", text, numbers)
    if is_real(placed.stride, placed.stride_control, audit.repeat) and is_nothing(placed.border):
        return Finding(
            "verdict",
            "mind",
            f"{name} does not see the border, but its strides see an object anew between whole strides: {price}.",
            numbers,
        )
    if is_nothing(placed.all_places):
        return Finding("verdict", "good", f"{name} gives the same answer wherever the object stands.", numbers)
    return Finding(
        "verdict",
        "open",
        f"{name} answers differently at different places, but no more than where nothing should differ: {price}. Two "
        f"runs on the same images differ by {small(audit.repeat)}.",
        numbers,
    )


def _cases(effect: "Effect", placed: "Sensitivity") -> str:
    often = percent(effect.flips) if effect.flips else "none"
    return f"in {often} of the cases ({effect.places} other places × {placed.probability.shape[1]} objects)"
