"""The page of `patch-matching`: examples of pairs, the false positive rate against their number, and the table."""

from pathlib import Path

import numpy as np

from borderless.data.patches import Pairs
from borderless.experiments import published
from borderless.experiments.arms import mean_in_words
from borderless.experiments.runner import Result
from borderless.report import Figure, Section, Table, plots

LOOKS = {
    "same": {"marker": "s", "color": "#c43c2a"},
    "full": {"marker": "o", "color": "#2878b5", "linestyle": "--", "markerfacecolor": "white"},
    "full-128": {"marker": "o", "color": "#2878b5"},
}
EXAMPLES = 10


def section(
    titles: dict[str, str],
    counts: tuple[int, ...],
    examples: Pairs,
    results: list[Result],
    folder: Path,
    is_brown: bool,
) -> Section:
    rates = {
        (arm, count): [
            r.metrics["fpr95"]
            for r in results
            if r.cell.parameters["arm"] == arm and r.cell.parameters["pairs"] == count
        ]
        for arm in titles
        for count in counts
    }
    of_arm = {arm: [r.metrics for r in results if r.cell.parameters["arm"] == arm] for arm in titles}
    return Section(
        title="Descriptors from few pairs",
        text=[
            "Two patches of 32 px: do they show the same spot? A small network turns each into a few numbers, and "
            "pairs that are close are called matches. It learns from n pairs of views. What is told is how many of the "
            "other pairs are called matches when 95 % of the matches are found: less is better; guessing gives 95 %.",
            "As published, the network with full convolution has a descriptor 49 times as long, because its last "
            "convolution fits more often into a larger map. The arm with full convolution and 128 numbers tells the "
            "border's share from the size's.",
        ],
        figures=[
            _pairs(folder / "pairs.png", examples),
            _curves(folder / "patch_matching.png", rates, counts, titles, is_brown),
        ],
        tables=[
            _table(rates, counts, titles, {arm: found[0]["cost"] for arm, found in of_arm.items()}, of_arm, is_brown)
        ],
    )


def _pairs(path: Path, examples: Pairs) -> Figure:
    fig, axes = plots.new_figure(2, EXAMPLES, panel_size=(0.85, 0.85))
    for i in range(EXAMPLES):
        for row, patches in enumerate((examples.anchors, examples.positives)):
            ax = axes[row, i]
            plots.bare(ax)
            if i < len(patches):
                ax.imshow(patches[i, 0].numpy(), cmap=plots.INTENSITY, vmin=0, vmax=1)
    plots.save(fig, path)
    return Figure(
        path,
        "Training pairs: each column shows one spot twice.",
        "Two rows of small grey patches; each column shows one spot of a photograph in two views.",
    )


def _curves(
    path: Path,
    rates: dict[tuple[str, int], list[float]],
    counts: tuple[int, ...],
    titles: dict[str, str],
    is_brown: bool,
) -> Figure:
    fig, axes = plots.new_figure(1, 1, panel_size=(3.4, 5.6))
    ax = axes[0, 0]
    at = range(len(counts))
    for number, (arm, title) in enumerate(titles.items(), 1):
        means = [100 * np.mean(rates[arm, count]) for count in counts]
        ax.plot(at, means, label=title, **LOOKS[arm])
        for x, count in enumerate(counts):  # each arm's seeds in a column of their own, right of the mean
            ax.plot(
                [x + 0.04 * number] * len(rates[arm, count]),
                [100 * rate for rate in rates[arm, count]],
                **{**LOOKS[arm], "linestyle": "none"},
                markersize=3.5,
                alpha=0.5,
            )
    known = {
        x: 100 * published.PATCH_MATCHING[n].value
        for x, n in enumerate(counts)
        if (n,) in published.PATCH_MATCHING.numbers
    }
    if known and is_brown:
        ax.plot(list(known), list(known.values()), "s", color="#b9b7ae", markersize=9, zorder=0, label="paper: same")
    ax.set_xticks(list(at), [f"{count:,}" for count in counts])
    ax.set(xlabel="training pairs", ylabel="false positives at 95 % recall, %", ylim=(0, None))
    ax.grid(axis="y")
    ax.legend()
    plots.save(fig, path)
    last = {title: 100 * np.mean(rates[arm, counts[-1]]) for arm, title in titles.items()}
    return Figure(
        path,
        "False positive rate at 95 % recall on the test pairs against the number of training pairs; small, to the "
        "right: each seed.",
        f"With {counts[-1]} pairs: " + ", ".join(f"{title} {value:.1f} percent" for title, value in last.items()) + ".",
    )


def _table(
    rates: dict[tuple[str, int], list[float]],
    counts: tuple[int, ...],
    titles: dict[str, str],
    costs: dict[str, float],
    of_arm: dict[str, list[dict[str, float]]],
    is_brown: bool,
) -> Table:
    rows: list[list[str | int | float]] = [
        [
            title,
            f"{100 * np.mean([m['untrained_fpr95'] for m in of_arm[arm]]):.1f}",
            *(mean_in_words([100 * rate for rate in rates[arm, count]]) for count in counts),
            f"{costs[arm]:.1f}×",
        ]
        for arm, title in titles.items()
    ]
    if is_brown and any((count,) in published.PATCH_MATCHING.numbers for count in counts):
        rows.append(["paper: same, in [0, 1]", "", *(published.PATCH_MATCHING.text(count) for count in counts), ""])
        changes = (published.PATCH_MATCHING_CHANGE.text(count) for count in counts)
        rows.append(["paper: full minus same, in [0, 1]", "", *changes, ""])
    seeds = len(next(iter(rates.values())))
    return Table(
        ["descriptor", "untrained", *(f"{count:,}" for count in counts), "cost"],
        rows,
        f"False positive rate at 95 % recall, in percent, by the number of training pairs; mean over {seeds} "
        f"{'seeds ± half the 95 % interval (Student’s t)' if seeds > 1 else 'seed'}. Cost: multiply-adds, relative to "
        "same." + (f" Tested on Liberty. Paper: {published.PATCH_MATCHING.source}." if is_brown else ""),
    )
