"""Decode position from the features with a linear layer, and from features that have no position, as a control.

Decodable does not mean used: a linear layer of the audit may read what the network's own layers ignore. So these
numbers come with those on the network's predictions, and never replace them.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from borderless.auditing.decoding import Decodability, decodability
from borderless.auditing.parts import Compared
from borderless.auditing.result import Finding, Measurements
from borderless.auditing.subject import Subject
from borderless.report.content import Section, Table
from borderless.report.numbers import percent, safe

if TYPE_CHECKING:
    from borderless.measures.location_probe import Probe, ProbeScore

NAME = "decodability"
NEEDS: tuple[str, ...] = ()
STEPS = {"decodability": 37.0}
COMPARED: tuple[Compared, ...] = ()

# Spearman's correlation by which a read-out must be better than its controls.
READ = 0.1


def measure(subject: Subject) -> dict[str, Any]:
    """Return `decodability`."""
    found = subject.step(
        "decodability",
        lambda tell: decodability(subject.model, subject.first, subject.background, subject.seed, tell),
    )
    return {"decodability": found}


def findings(audit: Measurements) -> list[Finding]:
    """Return what a probe can read, beyond its controls."""
    found = _decoded(audit)
    return [] if found is None else [*_quadrant(found), *_read(found)]


def _decoded(audit: Measurements) -> Decodability | None:
    return audit.results.get("decodability")


def _quadrant(found: Decodability) -> list[Finding]:
    readable = [px for px, probe in found.quadrant.items() if probe.score.low > max(0.5, probe.control.high)]
    if not readable:
        return []
    probe = found.quadrant[readable[0]]
    text = (
        f"A linear layer decodes position from the features ({safe(found.module)}): {percent(probe.score.accuracy)} "
        f"right where guessing gives 50 %, and {percent(probe.control.accuracy)} with shuffled positions"
    )
    text += f", up to a border of {readable[-1]} px. " if readable[-1] else ". "
    return [
        Finding(
            "decodable",
            "warning",
            f"{text}Decodable does not mean used: the verdict above rests on the network's own predictions.",
            {"borders_px": readable, "accuracy": probe.score.accuracy},
        )
    ]


def _read(found: Decodability) -> list[Finding]:
    controls = [found.torus] + ([found.untrained] if found.untrained is not None else [])
    if found.read_out.low - max(control.high for control in controls) <= READ:
        return []
    return [
        Finding(
            "read-out",
            "warning",
            f"Row and column can be decoded from the feature map of {safe(found.read_out.module) or 'the model'} "
            f"(Spearman's correlation {found.read_out.spearman:.2f}, mean absolute error {found.read_out.mae:.2f}), "
            f"better than on a torus ({found.torus.spearman:.2f})"
            f"{' and than with random weights' if found.untrained is not None else ''}.",
            {"spearman": found.read_out.spearman, "mae": found.read_out.mae},
        )
    ]


def section(audit: Measurements, _: Path) -> Section | None:
    """Return a table of the probes and one of the read-outs."""
    found = _decoded(audit)
    if found is None:
        return None
    quadrant = [
        [f"original padding, border of {px} px", _score(probe.score), _score(probe.control)]
        for px, probe in found.quadrant.items()
    ]
    quadrant.append(["infinite", _score(found.quadrant_without.score), _score(found.quadrant_without.control)])
    reads = [("as it is", found.read_out), ("on a torus (circular)", found.torus)]
    if found.untrained is not None:
        reads.append(("random weights", found.untrained))
    return Section(
        "What can be decoded",
        [
            "Decodable does not mean used: here a linear layer of the audit reads the network's features. It shows "
            "what information there is, and how far from the border; whether the network's predictions use it is "
            "reported above.",
            *_untrained_in_words(found),
        ],
        tables=[
            Table(
                ["upper left or lower right?", "right, %", "shuffled positions, %"],
                quadrant,
                f"From the features of {found.module}, on {found.objects} objects from images that were not trained "
                "on, each at both positions; guessing gives 50. In brackets the 95 % interval over objects.",
            ),
            Table(
                ["row and column, from the last feature map", "Spearman's correlation", "mean absolute error"],
                [[name, f"{one.spearman:.2f} ({one.low:.2f}–{one.high:.2f})", f"{one.mae:.2f}"] for name, one in reads],
                f"A linear filter of 3 × 3 cells on the feature map of {safe(found.read_out.module) or 'the model'}, "
                "after Islam et al. (2020). Content has typical positions too: what counts is how much more is decoded "
                "than on a torus, which has no border.",
            ),
        ],
        result=_in_one_line(found),
    )


def _in_one_line(found: Decodability) -> str:
    px, probe = next(iter(found.quadrant.items()))
    return (
        f"A linear layer distinguishes two positions in {percent(probe.score.accuracy)} of cases at a border of "
        f"{px} px; guessing gives 50 %."
    )


def _untrained_in_words(found: Decodability) -> list[str]:
    """Return a sentence if random weights show as much position as those of the network."""
    if found.untrained is None or found.untrained.spearman < found.read_out.spearman:
        return []
    return [
        f"The same architecture with random weights shows row and column at least as well (Spearman's correlation "
        f"{found.untrained.spearman:.2f} against {found.read_out.spearman:.2f}): zero padding puts position into the "
        "features by itself, without any training."
    ]


def _score(score: "ProbeScore") -> str:
    return f"{100 * score.accuracy:.0f} ({100 * score.low:.0f}–{100 * score.high:.0f})"


def record(audit: Measurements) -> dict[str, Any] | None:
    """Return the probes and the read-outs with their intervals."""
    found = _decoded(audit)
    if found is None:
        return None
    return {
        "module": found.module,
        "test_objects": found.objects,
        "quadrant": {str(px): _plain(probe) for px, probe in found.quadrant.items()},
        "quadrant_without_border": _plain(found.quadrant_without),
        "read_out": asdict(found.read_out),
        "read_out_torus": asdict(found.torus),
        "read_out_untrained": None if found.untrained is None else asdict(found.untrained),
    }


def _plain(probe: "Probe") -> dict[str, float]:
    return {
        "accuracy": probe.score.accuracy,
        "low": probe.score.low,
        "high": probe.score.high,
        "control": probe.control.accuracy,
        "control_low": probe.control.low,
        "control_high": probe.control.high,
        "change": probe.change,
    }
