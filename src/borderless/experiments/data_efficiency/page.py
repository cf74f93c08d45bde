"""The page of `data-efficiency`: accuracy against images per class, its gain over original padding, and the table."""

from pathlib import Path

import numpy as np

from borderless.experiments import published
from borderless.experiments.data_efficiency import OWN, DataEfficiencyConfig
from borderless.experiments.data_efficiency.experiment import is_papers
from borderless.experiments.experiment import Result
from borderless.experiments.kit import by, means, percents, points_over_seeds, texts, write_table
from borderless.models.arms import ARMS
from borderless.report import Section, plots

# Accuracy in percent, or a difference in points, over seeds, by arm and images per class.
Values = dict[tuple[str, int], list[float]]


def draw(config: DataEfficiencyConfig, results: list[Result], folder: Path) -> Section:
    """Draw the page."""
    write_table(results, folder)
    accuracy: Values = {key: percents(group, "accuracy") for key, group in by(results, "arm", "per_class").items()}
    gains: Values = {}
    if OWN in config.arms:
        gains = {(a, n): list(np.subtract(found, accuracy[OWN, n])) for (a, n), found in accuracy.items() if a != OWN}
    first = {arm: group[0].metrics for arm, group in by(results, "arm").items()}
    titles = {
        arm: f"original padding, {px} px of zeros around" if (px := metrics["padding_px"]) else ARMS[arm].title
        for arm, metrics in first.items()
    }
    counts = sorted(config.per_class, key=lambda count: count or np.inf)
    text = texts(__file__, config=config, accuracy=accuracy, gains=gains, titles=titles, least=counts[0])
    rows = [
        [title, *(accuracy[arm, count] for count in counts), f"{first[arm]['cost']:.1f}×"]
        for arm, title in titles.items()
    ]
    if is_papers(config):
        keys = [count or "all" for count in counts]
        rows.append(["paper: original padding", *(published.IMAGENET_SUBSETS.text(key) for key in keys), "1.0×"])
        rows.append(["paper: full minus original", *(published.IMAGENET_SUBSETS_GAIN.text(key) for key in keys), ""])
    figure = _figure(folder / "data_efficiency.png", counts, accuracy, gains, titles, is_papers(config))
    columns = ["arm", *(str(count or "all") for count in counts), "cost"]
    return text.section([text.figure("curves", figure)], [text.table("accuracies", columns, means(rows))])


def _figure(
    path: Path, counts: list[int], accuracy: Values, gains: Values, titles: dict[str, str], has_paper: bool
) -> Path:
    fig, axes = plots.new_figure(1, 2, panel_size=(3.3, 4.4))
    left, right = axes[0]
    at, ticks = range(len(counts)), [str(count or "all") for count in counts]
    for i, (arm, title) in enumerate(titles.items()):
        beside = [x + (i - len(titles) / 2) * 0.06 for x in at]
        for ax, xs, found in ((left, list(at), accuracy), (right, beside, gains)):
            if (arm, counts[0]) in found:
                over_counts = [found[arm, count] for count in counts]
                points_over_seeds(ax, xs, over_counts, label=title, **plots.marker_style(arm))
    right.axhline(0, color="#8a8880", linewidth=0.8)
    known = published.IMAGENET_SUBSETS_GAIN.points([(count or "all",) for count in counts])
    if has_paper and known:
        style = {"color": plots.PAPER_GRAY, "markersize": 9, "zorder": 0}
        (points,) = right.plot(list(known), list(known.values()), "o", label="paper: full", **style)
        right.legend(handles=[points])
    for ax, label in ((left, "test accuracy, %"), (right, "gain over original, points")):
        plots.panel(ax, ticks=ticks, xlabel="training images per class", ylabel=label)
    plots.legend_below(fig, left)
    return plots.save(fig, path)
