"""The page of `patch-matching`: examples of pairs, the false positive rate against their number, and the table."""

from pathlib import Path

import numpy as np

from borderless.experiments import published
from borderless.experiments.experiment import Result
from borderless.experiments.kit import by, cost, means, percents, texts, write_table
from borderless.experiments.patch_matching import ARMS, PatchMatchingConfig
from borderless.experiments.patch_matching.experiment import examples
from borderless.report import Section, plots

STYLES = {
    "same": plots.marker_style("same"),
    "full": plots.marker_style("full") | {"linestyle": "--", "markerfacecolor": "white"},
    "full-128": plots.marker_style("full"),
}
EXAMPLES = 10
# In percent, over seeds, by arm and number of pairs.
Rates = dict[tuple[str, int], list[float]]


def draw(config: PatchMatchingConfig, results: list[Result], folder: Path) -> Section:
    """Draw the page."""
    write_table(results, folder)
    rates: Rates = {key: percents(group, "fpr95") for key, group in by(results, "arm", "pairs").items()}
    counts = sorted(config.pairs)
    is_brown = config.data is not None
    last = {ARMS[arm][1]: rates[arm, counts[-1]] for arm in config.arms}
    text = texts(__file__, seeds=config.seeds, most=counts[-1], last=last, is_brown=is_brown)
    rows = []
    for arm, group in by(results, "arm").items():
        untrained = f"{np.mean(percents(group, 'untrained_fpr95')):.1f}"
        rows.append([ARMS[arm][1], untrained, *(rates[arm, count] for count in counts), cost(group)])
    if is_brown and published.PATCH_MATCHING.points([(count,) for count in counts]):
        rows.append(["paper: same, in [0, 1]", "", *map(published.PATCH_MATCHING.text, counts), ""])
        rows.append(["paper: full minus same, in [0, 1]", "", *map(published.PATCH_MATCHING_CHANGE.text, counts), ""])
    pairs = text.figure("pairs", _pairs(folder / "pairs.png", config))
    curves = text.figure("rates", _curves(folder / "patch_matching.png", rates, counts, config))
    columns = ["descriptor", "untrained", *(f"{count:,}" for count in counts), "cost"]
    return text.section([pairs, curves], [text.table("rates", columns, means(rows))])


def _pairs(path: Path, config: PatchMatchingConfig) -> Path:
    shown = examples(config)
    fig, axes = plots.new_figure(2, EXAMPLES, panel_size=(0.85, 0.85))
    for row, patches in zip(axes, (shown.anchors, shown.positives), strict=True):
        for ax, patch in zip(row, patches, strict=False):
            plots.picture(ax, patch[0].numpy(), cmap=plots.INTENSITY, vmin=0, vmax=1)
    return plots.save(fig, path)


def _curves(path: Path, rates: Rates, counts: list[int], config: PatchMatchingConfig) -> Path:
    fig, axes = plots.new_figure(1, 1, panel_size=(3.4, 5.6))
    ax = axes[0, 0]
    for number, arm in enumerate(config.arms, 1):
        ax.plot([np.mean(rates[arm, count]) for count in counts], label=ARMS[arm][1], **STYLES[arm])
        for x, count in enumerate(counts):  # each arm's seeds in a column of their own, right of the mean
            beside = [x + 0.04 * number] * len(rates[arm, count])
            ax.plot(beside, rates[arm, count], **{**STYLES[arm], "linestyle": "none"}, markersize=3.5, alpha=0.5)
    known = {x: 100 * rate for x, rate in published.PATCH_MATCHING.points([(n,) for n in counts]).items()}
    if known and config.data is not None:
        style = {"color": plots.PAPER_GRAY, "markersize": 9, "zorder": 0, "label": "paper: same"}
        ax.plot(list(known), list(known.values()), "s", **style)
    label = "false positives at 95 % recall, %"
    plots.panel(ax, ticks=[f"{n:,}" for n in counts], xlabel="training pairs", ylabel=label, ylim=(0, None))
    ax.legend()
    return plots.save(fig, path)
