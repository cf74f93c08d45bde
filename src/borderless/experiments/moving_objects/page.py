"""The page of `moving-objects`: accuracy and consistency against images per class and cost, in each regime."""

from pathlib import Path
from typing import Any

import numpy as np

from borderless.experiments.experiment import Result
from borderless.experiments.kit import by, cost, means, percents, points_over_seeds, texts, write_table
from borderless.experiments.moving_objects import MOVED, OWN, MovingObjectsConfig
from borderless.measures.intervals import difference_in_words
from borderless.models.arms import ARMS
from borderless.report import Section, plots

RECIPE = "recipe"
COLUMNS = {
    "accuracy": "all",
    "worst": "worst",
    "everywhere": "right at all",
    "edge": "edge",
    "right": "right columns",
    "changed": "changed",
}
CROPS = {"crops_changed": "crops"}
PANELS = {
    "accuracy": "accuracy, %",
    "worst": "accuracy at the worst position, %",
    "changed": "predictions that change, %",
}
THINGS = {"digits": "handwritten digits", "tiles": "tiles of photographs"}
BEHIND = {"black": "on black", "photographs": "on photographs"}
AT = {"anywhere": "trained anywhere", "left": "trained on the left"}

# The results of an arm with a number of images per class.
Groups = dict[tuple[str, int], list[Result]]


def draw(config: MovingObjectsConfig, results: list[Result], folder: Path) -> Section:
    """Draw the page."""
    write_table(results, folder)
    counts = sorted(config.per_class, key=lambda count: count or np.inf)
    regimes: dict[str, Groups] = {
        f"{BEHIND[behind]}, {AT[at]}".capitalize(): by(group, "arm", "per_class")
        for (behind, at), group in by(results, "behind", "at").items()
    }
    leads, worst = [], {}
    for title, groups in regimes.items():
        worst |= {(title, arm): percents(groups[arm, counts[-1]], "worst") for arm in config.arms}
        if {MOVED, RECIPE} <= set(config.arms):
            leads += [_lead(title, groups, count) for count in counts]
    text = texts(
        __file__,
        config=config,
        things="the images of the data set" if config.data else THINGS[config.objects],
        titles={arm: ARMS[arm].title for arm in config.arms},
        worst=worst,
        most=counts[-1],
        regimes=list(regimes),
        leads=leads,
    )
    figures, tables = [], []
    for title, groups in regimes.items():
        stem = title.lower().replace(", ", "-").replace(" ", "-")
        figures.append(text.figure(title, _figure(folder / f"{stem}.png", config, counts, groups)))
        columns, rows = _table(config, counts, groups)
        tables.append(text.table(title, columns, rows))
    return text.section(figures, tables)


def _lead(title: str, groups: Groups, count: int) -> dict[str, Any]:
    """Return the numbers of the recipe beside original padding with random translations."""
    recipe, moved = ({key: percents(groups[arm, count], key) for key in PANELS} for arm in (RECIPE, MOVED))
    differences = {key: difference_in_words(recipe[key], moved[key]) for key in ("accuracy", "worst")}
    return {"title": title, "count": count or "all", "recipe": recipe, "moved": moved, **differences}


def _table(config: MovingObjectsConfig, counts: list[int], groups: Groups) -> tuple[list[str], Any]:
    shown = COLUMNS | (CROPS if "crops_changed" in groups[config.arms[0], counts[0]][0].metrics else {})
    against = [arm for arm in (OWN, MOVED) if arm in config.arms]
    rows = []
    for count in counts:
        accuracy = {arm: percents(groups[arm, count], "accuracy") for arm in config.arms}
        for arm in config.arms:
            group = groups[arm, count]
            found = [percents(group, key) for key in shown]
            compared = ["–" if arm == one else difference_in_words(accuracy[arm], accuracy[one]) for one in against]
            rows.append([str(count or "all"), ARMS[arm].title, *found, *compared, cost(group)])
    heads = [f"against {ARMS[arm].title}" for arm in against]
    return ["images", "arm", *shown.values(), *heads, "cost"], means(rows)


def _figure(path: Path, config: MovingObjectsConfig, counts: list[int], groups: Groups) -> Path:
    fig, axes = plots.new_figure(1, len(PANELS) + 1, panel_size=(3.4, 3.0))
    for i, arm in enumerate(config.arms):
        style = {"label": ARMS[arm].title, **plots.marker_style(arm)}
        at = [x + (i - (len(config.arms) - 1) / 2) * 0.06 for x in range(len(counts))]
        for ax, key in zip(axes[0], PANELS, strict=False):
            points_over_seeds(ax, at, [percents(groups[arm, count], key) for count in counts], **style)
        last = groups[arm, counts[-1]]
        points_over_seeds(axes[0, -1], [last[0].metrics["cost"]], [percents(last, "worst")], **style)
    ticks = [str(count or "all") for count in counts]
    for ax, label in zip(axes[0], PANELS.values(), strict=False):
        plots.panel(ax, ticks=ticks, xlabel="images per class", ylabel=label, xlim=(-0.5, len(counts) - 0.5))
    axes[0, len(PANELS) - 1].set_ylim(bottom=-1)
    cost = f"multiply-adds per image ({ticks[-1]} per class)"
    plots.panel(axes[0, -1], xlabel=cost, ylabel=PANELS["worst"])
    plots.legend_below(fig, axes[0, 0], 2)
    return plots.save(fig, path)
