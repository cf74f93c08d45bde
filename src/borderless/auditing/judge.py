"""From numbers to sentences: what the audit found, how sure it is, and what to do. All thresholds are here.

A finding never rests on a number whose control shows the same: an effect counts beyond what remains of it when its
cause has been taken away, and beyond what two runs on the same images differ by.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from borderless.auditing.measure import Audit
    from borderless.measures.position_sensitivity import Effect, Sensitivity

Level = Literal["bad", "mind", "good", "open"]
LEVELS: dict[str, str] = {"bad": "Fault", "mind": "Mind", "good": "Good", "open": "Open"}

# Relative change of the logits below which answers count as equal: float32 leaves 1e-7 to 1e-5.
EQUAL = 1e-4
# How many times its control an effect must be.
BEYOND = 10.0
# Of the filters: a share above this is worth a sentence. Garcia-Gasulla et al. found about 2 % in ImageNet's networks.
MANY_AWARE = 0.02
# Spearman's correlation of a read-out, beyond its controls.
READ = 0.1


@dataclass(frozen=True)
class Finding:
    """name: a slug, for programs. level: bad (the network uses location), mind, good, open (not told). text: a sentence
    with its numbers. numbers: the same for programs. advice: what to do about it, if anything.
    """

    name: str
    level: Level
    text: str
    numbers: dict[str, Any] = field(default_factory=dict)
    advice: str = ""


def judge(audit: "Audit") -> list[Finding]:
    """The verdict first, then what it rests on."""
    findings = [_verdict(audit)]
    for look in (
        _position_reads,
        _border,
        _bias,
        _stride,
        _leak,
        _blind,
        _uneven,
        _aware,
        _decodable,
        _reach,
        _missing,
    ):
        findings += look(audit)
    return findings


def is_exploiting(audit: "Audit") -> bool:
    """Whether classes change with the place because of the border, beyond the control."""
    placed = audit.sensitivity
    if placed is None:
        return False
    return placed.border.low > placed.border_control.high and _is_real(
        placed.border, placed.border_control, audit.repeat
    )


def _is_real(effect: "Effect", control: "Effect", repeat: float) -> bool:
    return effect.change > max(BEYOND * control.change, BEYOND * repeat, EQUAL)


def _is_nothing(effect: "Effect") -> bool:
    return effect.places > 0 and effect.change <= EQUAL


def _verdict(audit: "Audit") -> Finding:
    placed, name = audit.sensitivity, safe(audit.name)
    if placed is None or not placed.border.places:
        return Finding("verdict", "open", f"Whether {name} uses location could not be measured.")
    numbers = {"flips": placed.all_places.flips, "low": placed.all_places.low, "high": placed.all_places.high}
    price = f"{_cases(placed.all_places, placed)} the answer is another one than in the middle"
    reads = audit.layout.position_reads if audit.layout is not None else ()
    is_seen = _is_real(placed.border, placed.border_control, audit.repeat)
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
    if is_seen:
        with_them = "classes too rarely to be sure of" if placed.border.flips else "no class"
        text = (
            f"{name} sees location: the logits change by {percent(placed.border.change)} of the largest with the "
            f"distance to the border, and {with_them} with them; {price}."
        )
        return Finding("verdict", "mind", text, numbers)
    if reads:
        text = f"{name} sees location, by reading it in {safe(reads[0].module) or 'the model itself'}: {price}."
        return Finding("verdict", "mind", text, numbers)
    if _is_real(placed.stride, placed.stride_control, audit.repeat) and _is_nothing(placed.border):
        return Finding(
            "verdict",
            "mind",
            f"{name} does not see the border, but its strides see an object anew between whole strides: {price}.",
            numbers,
        )
    if _is_nothing(placed.all_places):
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


def _position_reads(audit: "Audit") -> list[Finding]:
    reads = audit.layout.position_reads if audit.layout is not None else ()
    return [
        Finding(
            "position-read",
            "bad",
            f"{read.module or 'The model itself'} reads absolute position: {read.operation}; {read.reason}.",
            {"module": read.module, "operation": read.operation},
            "Against what is read by design no border helps. Replace the module: a global pool instead of a flattened "
            "map, no position embedding.",
        )
        for read in reads
    ]


def _border(audit: "Audit") -> list[Finding]:
    placed = audit.sensitivity
    if placed is None or not placed.border.places:
        return []
    effect, control = placed.border, placed.border_control
    numbers = {"flips": effect.flips, "change": effect.change, "control_change": control.change}
    if _is_nothing(effect):
        text = f"The border changes nothing: logits at whole strides differ by {small(effect.change)} of the largest."
        return [Finding("border", "good", text, numbers)]
    if not _is_real(effect, control, audit.repeat):
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


def _bias(audit: "Audit") -> list[Finding]:
    placed = audit.sensitivity
    if placed is None or not _is_real(placed.bias, placed.border_control, audit.repeat):
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


def _stride(audit: "Audit") -> list[Finding]:
    placed = audit.sensitivity
    if placed is None or max(placed.stride_px) == 1:
        return []
    effect, control = placed.stride, placed.stride_control
    numbers = {"flips": effect.flips, "change": effect.change, "control_change": control.change}
    if not _is_real(effect, control, audit.repeat):
        return []
    return [
        Finding(
            "stride",
            "mind",
            f"The strides: without any border, {_share(effect)} of the answers change between places less than a total "
            f"stride of {max(placed.stride_px)} px apart, and logits by {percent(effect.change)}; with an adaptive "
            f"phase, by {small(control.change)}.",
            numbers,
            'Against the strides: <code>phase="adaptive"</code> takes their part away at the cost of sums; '
            "<code>bl.blur</code> lessens it.",
        )
    ]


def _leak(audit: "Audit") -> list[Finding]:
    errors = audit.errors
    if errors is None or not errors.layers:
        return []
    deepest = max(errors.layers, key=lambda layer: layer.leak_px())
    if deepest.leak_px() == 0:
        text = "No map differs by more than 1 % of its variation from the one that no border has touched."
        return [Finding("leak", "good", text, {"leak_px": 0.0})]
    throughout = [layer for layer in errors.layers if layer.is_touched_throughout]
    text = (
        f"The border is felt up to {deepest.leak_px():.0f} px deep (map of {safe(deepest.module) or 'the model'}, by "
        f"more than 1 % of its variation); the receptive field there reaches {deepest.field_px / 2:.0f} px."
    )
    if throughout:
        text += (
            f" In {len(throughout)} of {len(errors.layers)} maps, from {safe(throughout[0].module) or 'the model'} on, "
            "no cell of an image of this size is free of it."
        )
    return [Finding("leak", "mind", text, {"leak_px": deepest.leak_px(), "module": deepest.module})]


def _blind(audit: "Audit") -> list[Finding]:
    if audit.influence is None:
        return []
    found = []
    for axis, lines in (("rows", audit.influence.unread_rows), ("columns", audit.influence.unread_columns)):
        if lines:
            found.append(
                Finding(
                    f"blind-{axis}",
                    "bad",
                    f"Blind spot: nothing depends on the pixels of {axis[:-1] if len(lines) == 1 else axis} "
                    f"{_lines(lines)} (of {audit.size[0 if axis == 'rows' else 1]}).",
                    {"lines": lines},
                    "Choose a size of image on which every cell is read (see the sizes below).",
                )
            )
    return found


def _uneven(audit: "Audit") -> list[Finding]:
    if audit.layout is None or not audit.layout.uneven:
        return []
    modules = list(dict.fromkeys(one.module for one in audit.layout.uneven))
    sizes = audit.layout.even_sizes
    where = f"{', '.join(modules[:3])}{' …' if len(modules) > 3 else ''}"
    return [
        Finding(
            "uneven-padding",
            "mind",
            f"On {_size(audit.size)} pixels, {len(modules)} {'layer pads' if len(modules) == 1 else 'layers pad'} the "
            f"start and the end of an axis differently ({where}).",
            {"modules": modules, "even_sizes": list(sizes)},
            f"Images of {' or '.join(f'{n} × {n}' for n in sizes)} have no uneven padding."
            if sizes
            else "No size near this one is without.",
        )
    ]


def _aware(audit: "Audit") -> list[Finding]:
    share = audit.errors.aware_share if audit.errors is not None else None
    if share is None or share <= MANY_AWARE:
        return []
    return [
        Finding(
            "padding-aware",
            "mind",
            f"{percent(share)} of the filters answer to a side of the border as such, which without a border they do "
            "not.",
            {"share": share},
        )
    ]


def _decodable(audit: "Audit") -> list[Finding]:
    found = audit.decodability
    if found is None:
        return []
    readable = [px for px, probe in found.quadrant.items() if probe.score.low > max(0.5, probe.control.high)]
    findings = []
    if readable:
        probe = found.quadrant[readable[0]]
        text = (
            f"Location can be read from its features ({found.module}) by a linear layer: "
            f"{percent(probe.score.accuracy)} right where guessing gives 50 %, and {percent(probe.control.accuracy)} "
            "with shuffled places"
        )
        text += f", up to a border of {readable[-1]} px. " if readable[-1] else ". "
        findings.append(
            Finding(
                "decodable",
                "mind",
                f"{text}Decodable is not used: what the network itself does with it is told above.",
                {"borders_px": readable, "accuracy": probe.score.accuracy},
            )
        )
    controls = [found.torus] + ([found.untrained] if found.untrained is not None else [])
    beyond = found.read_out.low - max(control.high for control in controls)
    if beyond > READ:
        findings.append(
            Finding(
                "read-out",
                "mind",
                f"Row and column can be read off the map of {found.read_out.module or 'the model'} (Spearman's "
                f"correlation {found.read_out.spearman:.2f}, mean absolute error {found.read_out.mae:.2f}), better "
                f"than on a torus ({found.torus.spearman:.2f})"
                f"{' and than with random weights' if found.untrained is not None else ''}.",
                {"spearman": found.read_out.spearman, "mae": found.read_out.mae},
            )
        )
    return findings


def _reach(audit: "Audit") -> list[Finding]:
    if not audit.reach or audit.layout is None:
        return []
    endless = audit.reach[-1]
    near = [p for p in audit.reach if p.error is not None and p.error <= EQUAL and p.cost < 0.9 * endless.cost]
    whose = "accuracy" if audit.accuracy is not None else "the model's own answers kept"
    text = (
        f"Converted to <em>infinite</em>, it costs {endless.cost:.1f} × the multiply-adds, and {whose} "
        f"{'is' if audit.accuracy is not None else 'are'} {percent(endless.kept)} before fine-tuning."
    )
    if near:
        text += f" A reach of {near[0].reach} is as good, at {near[0].cost:.1f} ×."
    return [Finding("cost", "open", text, {"cost": endless.cost, "kept": endless.kept})]


def _missing(audit: "Audit") -> list[Finding]:
    return [
        Finding("not-measured", "open", f"Not measured: {part}. {safe(why)}") for part, why in audit.missing.items()
    ]


def percent(share: float) -> str:
    """With as many digits as it takes to be told from 0.

    >>> percent(0.123), percent(0.0123), percent(0.0), percent(8.1e-4), percent(3e-9)
    ('12 %', '1.2 %', '0 %', '0.08 %', '3 · 10⁻⁷ %')
    """
    value = 100 * share
    if not math.isfinite(value):
        return "more than can be told"
    if value >= 10 or value == 0:
        return f"{value:.0f} %"
    if value >= 0.1:
        return f"{value:.1f} %"
    return f"{value:.2f} %" if value >= 0.01 else f"{small(value)} %"


def small(value: float) -> str:
    """One digit and a power of ten; 0 stays 0.

    >>> small(7.2e-7), small(0.0)
    ('7 · 10⁻⁷', '0')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digit, power = f"{value:.0e}".split("e")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digit} · 10{raised}"


def safe(text: str) -> str:
    """A name or an error of somebody else's, without what a page would take for a tag."""
    return text.replace("<", "‹").replace(">", "›")


def _share(effect: "Effect") -> str:
    return f"{percent(effect.flips)} ({100 * effect.low:.0f}–{100 * effect.high:.0f})"


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"


def _lines(lines: list[int]) -> str:
    """Numbers, runs of them as from–to."""
    runs: list[list[int]] = []
    for line in lines:
        if runs and line == runs[-1][-1] + 1:
            runs[-1][1:] = [line]
        else:
            runs.append([line])
    shown = [str(run[0]) if len(run) == 1 else f"{run[0]}–{run[1]}" for run in runs]
    return ", ".join(shown[:6]) + (" …" if len(shown) > 6 else "")
