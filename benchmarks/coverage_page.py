"""The page of the coverage benchmark: what ran, how exactly, and why the rest did not."""

import platform
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import timm
import torch
import torchvision

import borderless
from coverage_checks import CHECKS, LARGEST_ERROR, LEAST_POWER
from coverage_networks import Network
from messages import said

Row = dict[str, Any]
COLUMNS = ("own", "own_adaptive", *CHECKS)

KINDS = ("timm, CNN families", "timm, hybrid families", "torchvision")
# In the order of the page: a category, and what it means.
CATEGORIES = {
    "exact": f"every error is at most {LARGEST_ERROR:.0e}, and the check has power.",
    "position dependent": "an operation of the network reads absolute position; the engine says so with a warning.",
    "refused": "the engine has no rule for an operation and says so with an error.",
    "inexact": f"no warning and no error, but a difference of more than {LARGEST_ERROR:.0e} in float32. The errors in "
    "float64 tell roundings, which a deep network with random weights makes grow, from a wrong rule.",
    "without power": "every error is small, but so is what the check should see; it says nothing.",
    "failed": "another error, or a limit on time or memory.",
}


def page(rows_of: dict[str, Row], networks: Sequence[Network], not_convolutional: dict[str, str]) -> str:
    """Markdown. `rows_of`: by key, as `coverage_checks.check` gives them; `not_convolutional`: families and why."""
    rows = list(rows_of.values())
    waiting = sorted(network.key for network in networks if network.key not in rows_of)
    return "\n".join([*_opening(rows), *_tables(rows), *_left_out(not_convolutional, waiting)]) + "\n"


def _opening(rows: Sequence[Row]) -> Iterator[str]:
    counts = Counter((_kind(row), row["category"]) for row in rows)
    commits = sorted({row["commit"] for row in rows if row.get("commit")})
    yield from (
        "# Coverage: which networks run untouched",
        "",
        "Every classification, segmentation and video CNN of torchvision, its FPN backbone, and of each convolutional",
        "family of timm the smallest variant without attention over space or position embeddings; where a family has",
        "none, its smallest hybrid. `benchmarks/coverage_networks.py` finds them by watching one forward pass, and",
        "`python benchmarks/coverage.py` writes this page.",
        "",
        f"| | {' | '.join(KINDS)} |",
        f"|---|{'--:|' * len(KINDS)}",
    )
    for category, meaning in CATEGORIES.items():
        if any(counts[kind, category] for kind in KINDS):
            numbers = " | ".join(str(counts[kind, category]) for kind in KINDS)
            yield f"| **{category}**: {meaning} | {numbers} |"
    yield from (
        "",
        "The same object is shown at two positions; weights, biases and BatchNorm statistics are random",
        "and of order 1. Numbers are the largest difference as a part of the largest value, over all outputs, float32:",
        "",
        "- **own**: the unmodified network, the object moved by a multiple of its total stride; **own, any**: moved as",
        f"  for *adaptive*. At most {LEAST_POWER:.0e} would leave the check without power.",
        '- **zero**: `bl.convert(model, "zero")` against the unmodified network.',
        '- **infinite**: `bl.convert(model, "infinite")`, the object moved as for *own*.',
        '- **adaptive**: with `phase="adaptive"`, moved by (57, −19) pixels; clips by (5, 17, −19) frames and pixels.',
        "",
        "Dense outputs must move with the object and are compared on the cells that both have; on outputs coarser than",
        "the image an adaptive phase may round the move up or down. Another object must change the output.",
        "",
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}, borderless "
        f"{borderless.__version__}, commit {', '.join(commits) or 'unknown'}; {platform.system()} "
        f"{platform.machine()}, one CPU thread a network.",
    )


def _kind(row: Row) -> str:
    if row["network"]["library"] == "torchvision":
        return KINDS[2]
    return KINDS[row["network"]["kind"] == "hybrid"]


def _tables(rows: Sequence[Row]) -> Iterator[str]:
    for category in CATEGORIES:
        chosen = sorted((r for r in rows if r["category"] == category), key=lambda r: r["key"])
        if not chosen:
            continue
        explained = category not in ("exact", "without power")
        yield from ("", f"## {category.capitalize()} ({len(chosen)})", "")
        yield "| network | canvas | own | own, any | zero | infinite | adaptive |" + (" why |" if explained else "")
        yield "|---|--:|--:|--:|--:|--:|--:|" + ("---|" if explained else "")
        for row in chosen:
            network = row["network"]
            name = f"{row['key']}" + (" (hybrid)" if network["kind"] == "hybrid" else "")
            cells = [name, str(network["canvas_px"]), *(_number(row.get(key)) for key in COLUMNS)]
            yield f"| {' | '.join(cells)} |" + (f" {_why(row)} |" if explained else "")


def _why(row: Row) -> str:
    texts = list(dict.fromkeys(map(said, row["messages"])))
    more = f"; and {len(texts) - 2} more" if len(texts) > 2 else ""
    return "; ".join(texts[:2]) + more


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.0e}"


def _left_out(reasons: dict[str, str], waiting: list[str]) -> Iterator[str]:
    if reasons:
        yield from ("", f"## timm families that are not convolutional ({len(reasons)})", "")
        yield "Their variants have no convolution whose kernel is larger than its stride, so nothing mixes neighbors:"
        yield ", ".join(sorted(reasons)) + "."
    if waiting:
        yield from ("", f"## Not run yet ({len(waiting)})", "", ", ".join(waiting) + ".")
