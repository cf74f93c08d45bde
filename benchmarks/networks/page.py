"""The page of the results: what runs exactly, what reads position and where, what is refused and why."""

import importlib.metadata
import platform
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import borderless
from benchmarks.messages import said, what_to_do
from benchmarks.networks.check import CHEAP_FLOPS, LARGEST_ERROR, LEAST_POWER

Row = dict[str, Any]
HERE = Path(__file__).parent
FLOAT32, FLOAT64 = LARGEST_ERROR.values()
# In the order of the page: a category, and what it means.
CATEGORIES = {
    "exact": f"every error of both phases and of `place` is at most {FLOAT32:.0e} in float32.",
    "exact, then leaves": "the same up to where the network flattens its last feature maps for good (boxes, codes, "
    "tokens of a loss); there they are cropped to their frame, and the rest runs as in the unmodified network.",
    "exact, fixed phase": "the same with the fixed phase; the adaptive phase is refused.",
    "rounding": f"more than {FLOAT32:.0e} in float32 and at most {FLOAT64:.0e} in float64: digits are lost, no rule is "
    "wrong.",
    "position dependent": "an operation of the network reads absolute position; the library warns of it by name.",
    "refused": "the library has no rule for an operation and says so with an error of its own.",
    "inexact": "neither warning nor error, but a difference in float64 too: wrong.",
    "failed": "an exception that is not the library's own, or a limit on time or memory.",
    "without power": f"another object changes the output by less than {LEAST_POWER:.0e} too; this says nothing.",
    "not built": "the package itself fails here.",
    "not installed": "the package is missing here.",
}
WITH_REASON = (
    "exact, then leaves",
    "exact, fixed phase",
    "position dependent",
    "refused",
    "inexact",
    "failed",
    "not built",
    "not installed",
)


def page(rows_of: dict[str, Row], commits: Sequence[str]) -> str:
    """Markdown; `rows_of` by network, as `check` gives them, at one of the `commits`, of which the first is meant."""
    marks = dict(zip(commits, ("", *"†‡§¶"), strict=False))
    rows = [rows_of[key] | {"mark": marks.get(rows_of[key]["commit"], "")} for key in sorted(rows_of)]
    return "\n".join([*_opening(rows, marks), *_tables(rows)]) + "\n"


def _opening(rows: Sequence[Row], marks: dict[str, str]) -> Iterator[str]:
    counts = Counter(row["category"] for row in rows)
    packages = {row["key"].partition("/")[0] for row in rows if row["category"] not in ("not built", "not installed")}
    yield from (
        "# Networks of other packages",
        "",
        "What the library makes of networks that others wrote, as their packages build them. The CNNs of torchvision",
        "and timm have [a page of their own](coverage.md). `python -m benchmarks.networks` writes this page, in an",
        "environment of its own (`benchmarks/networks/requirements.txt`).",
        "",
        f"{len(rows)} networks, {len(packages)} package families:",
        "",
        "| | networks |",
        "|---|--:|",
    )
    yield from (f"| **{name}**: {meaning} | {counts[name]} |" for name, meaning in CATEGORIES.items() if counts[name])
    yield from (
        "",
        "Weights are random, no statistic, bias or gain has the value that it starts from, and every convolution is",
        "scaled to a response of order 1. An object (noise, a white square, a disc) is shown at two positions in an",
        "image of zeros. Numbers are the largest difference relative to the largest value, over outputs and objects:",
        "",
        "- **original**: the unmodified network, the object moved; 0 where its padding does not distinguish positions.",
        '- **fixed**: `bl.convert(model, "infinite")`, moved by a multiple of the total stride; "no room" where that',
        "  does not fit into the image.",
        '- **adaptive**: with `phase="adaptive"`, moved by an odd number of pixels along each axis.',
        "- **place**: `bl.place` under `zero` and `infinite` against dense runs; · where it does not apply.",
        "- **cost**: multiply-adds under `infinite` as a multiple of the unmodified network's, for this small image.",
        "",
        "Feature maps are compared cell by cell at the moved positions, beyond the frame too. Networks of more than",
        f"{CHEAP_FLOPS / 1e9:.0f} GFLOP for two images are shown noise alone.",
        "",
        *_under_zero(rows),
        "",
        *_refused_before(rows),
        "",
        f"borderless {borderless.__version__}, {_commits(rows, marks)}, {_dates(rows)}; Python "
        f"{platform.python_version()}, {', '.join(_versions())}; {platform.system()} {platform.machine()}, one CPU "
        "thread a network.",
    )


def _under_zero(rows: Sequence[Row]) -> Iterator[str]:
    zero = {row["key"]: row["float32"]["zero"] for row in rows if "float32" in row}
    ran = {key: found for key, found in zero.items() if "errors" in found}
    other = [f"{key} ({_number(found['errors']['noise'])})" for key, found in ran.items() if not found["bitwise"]]
    yield (
        f"Under `zero`, {len(ran) - len(other)} of the {len(ran)} networks that run return bit for bit what they do "
        f"unconverted{': all but ' + ', '.join(other) if other else ''}."
    )
    spurious = [
        row["key"]
        for row in rows
        if "float32" in row and row["float32"]["zero"]["reads"] and row["category"].startswith(("exact", "rounding"))
    ]
    if spurious:
        yield f"`zero` warns of position, and `infinite` does not, in {len(spurious)}: {', '.join(spurious)}."


def _refused_before(rows: Sequence[Row]) -> Iterator[str]:
    """What has become of the networks that an earlier commit refused."""
    before = (HERE / "refused_at_2047b29.txt").read_text(encoding="utf-8").split("\n")
    found = {row["key"]: row for row in rows if row["key"] in before}
    names = [name for name in before if name]
    counts = Counter(row["category"] for row in found.values())
    reasons = Counter(_reason(row) for row in found.values() if row["category"] == "refused")
    others = [f"{counts[name]} **{name}**" for name in CATEGORIES if counts[name] and name != "refused"]
    yield (
        f"Of the {len(names)} networks that commit 2047b29 refused, {counts['refused']} are refused: "
        f"{', '.join(f'{count} for {reason}' for reason, count in reasons.most_common())}. "
        f"The others: {', '.join(others)}"
        + (f"; {len(names) - len(found)} were not run." if len(names) > len(found) else ".")
    )


def _reason(row: Row) -> str:
    """Why a network is refused, in a word."""
    text = " ".join(_messages(row))
    if "as detectors take them" in text:
        return "being whole detectors (the error names the line to write)"
    if "attention" in text or "multiplies cells with each other" in text:
        return "attention"
    return "recurrence" if re.search(r"\b(lstm|gru|rnn)", text) else "another reason"


def _commits(rows: Sequence[Row], marks: dict[str, str]) -> str:
    """The commit of the library; with those of rows that are marked."""
    counts = Counter(row["mark"] for row in rows)
    older = [f"{mark} {commit} ({counts[mark]} networks)" for commit, mark in marks.items() if mark and counts[mark]]
    newest = f"commit {next(iter(marks))}"
    return f"{newest} ({counts['']} networks; of earlier commits: {', '.join(older)})" if older else newest


def _dates(rows: Sequence[Row]) -> str:
    dates = sorted({row["date"] for row in rows})
    return " to ".join(dict.fromkeys([dates[0], dates[-1]])) if dates else "no date"


def _versions() -> Iterator[str]:
    yield from (f"{name} {importlib.metadata.version(name)}" for name in ("torch", "torchvision"))
    for file in ("requirements.txt", "requirements-no-deps.txt"):
        for line in (HERE / file).read_text(encoding="utf-8").splitlines():
            if name := re.match(r"[\w.-]+", line):
                try:
                    yield f"{name[0]} {importlib.metadata.version(name[0])}"
                except importlib.metadata.PackageNotFoundError:
                    continue


def _tables(rows: Sequence[Row]) -> Iterator[str]:
    for category in CATEGORIES:
        chosen = [row for row in rows if row["category"] == category]
        if not chosen:
            continue
        yield from ("", f"## {category.capitalize()} ({len(chosen)})", "")
        if category in ("refused", "failed", "not built", "not installed"):
            yield from ("| network | what, and where | what to do |", "|---|---|---|")
            yield from (f"| {row['key']}{row['mark']} | {_why(row)} | {_what_to_do(row)} |" for row in chosen)
            continue
        reason = category in WITH_REASON
        double = category in ("rounding", "inexact")
        yield (
            "| network | image | original | fixed | adaptive | place | cost |"
            + " float64 |" * double
            + " why |" * reason
        )
        yield "|---|---|--:|--:|--:|--:|--:|" + "--:|" * double + "---|" * reason
        for row in chosen:
            yield _line(row, double) + (f" {_why(row)} |" if reason else "")


def _line(row: Row, double: bool) -> str:
    checks = row["float32"]
    cells = [
        f"{row['key']}{row['mark']}",
        "×".join(map(str, row["shape"][1:])),
        _number(checks["zero"].get("own")),
        _largest(checks["infinite"]),
        _largest(checks["adaptive"]),
        _largest(checks["place"]),
        "" if checks["infinite"].get("cost") is None else f"{checks['infinite']['cost']:.1f}",
    ]
    if double:
        found = row["float64"]
        cells.append(", ".join(_largest(found[name]) for name in ("infinite", "adaptive", "place")))
    return f"| {' | '.join(cells)} |"


def _largest(found: Row) -> str:
    if "refused" in found or "failed" in found:
        return "refused" if "refused" in found else "failed"
    values = [value for value in found.get("errors", {}).values() if value is not None]
    return _number(max(values)) if values else "no room" if "errors" in found and "total_stride" in found else "·"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}" if value else "0"


def _messages(row: Row) -> list[str]:
    """What the first check with something to say said: an exception, a refusal, or the reads of position."""
    if "message" in row:
        return [row["message"]]
    for name in ("infinite", "zero", "adaptive", "place"):
        found = row["float32"][name]
        texts = [found[kind] for kind in ("failed", "refused") if kind in found] or found["reads"]
        if texts and not (name == "zero" and row["category"] == "exact, fixed phase"):
            return texts
    return []


def _why(row: Row) -> str:
    if row["category"] == "exact, then leaves":
        return ", ".join(row["float32"]["infinite"]["leaves"])
    texts = list(dict.fromkeys(map(said, _messages(row))))
    return "; ".join(texts[:2]) + (f"; and {len(texts) - 2} more" if len(texts) > 2 else "")


def _what_to_do(row: Row) -> str:
    return next((what_to_do(text) for text in _messages(row)), "")
