"""The page of `data-efficiency`: accuracy against images a class, what it gains over own padding, and the table."""

from pathlib import Path

import numpy as np

from borderless.experiments import published
from borderless.experiments.arms import ARMS, look, mean_in_words
from borderless.experiments.runner import Result
from borderless.measures.intervals import over_seeds
from borderless.report import Figure, Section, Table, plots

OWN = "own"


def section(
    arch: str, counts: tuple[int, ...], arms: tuple[str, ...], results: list[Result], folder: Path, is_imagenet: bool
) -> Section:
    accuracy = {
        (arm, count): [
            100 * r.metrics["accuracy"]
            for r in results
            if r.cell.parameters["arm"] == arm and r.cell.parameters["per_class"] == count
        ]
        for arm in arms
        for count in counts
    }
    costs = {arm: next(r.metrics for r in results if r.cell.parameters["arm"] == arm) for arm in arms}
    titles = {arm: _title(arm, costs[arm]["padding_px"]) for arm in arms}
    counts = tuple(sorted(counts, key=lambda count: count or np.inf))
    return Section(
        title="Few images a class",
        text=_story(accuracy, counts, arms, titles),
        figures=[_curves(folder / "data_efficiency.png", arch, accuracy, counts, titles, is_imagenet)],
        tables=[
            _table(arch, accuracy, counts, titles, {arm: found["cost"] for arm, found in costs.items()}, is_imagenet)
        ],
    )


def _title(arm: str, padding_px: int) -> str:
    return ARMS[arm].title if arm in ARMS else f"own padding, {padding_px} px of zeros around"


def _story(
    accuracy: dict[tuple[str, int], list[float]], counts: tuple[int, ...], arms: tuple[str, ...], titles: dict[str, str]
) -> list[str]:
    text = [
        "A network that cannot use location has less to learn, and so should need fewer images. Each arm is trained "
        "from the same weights on the same few images of each class, and tested on all test images. Borders that keep "
        "more cells also compute more; own padding on an image with zeros around it spends as much as <em>full</em>."
    ]
    if OWN in arms and len(arms) > 1:
        gains = {arm: np.subtract(accuracy[arm, counts[0]], accuracy[OWN, counts[0]]) for arm in arms if arm != OWN}
        text.append(
            f"With {counts[0] or 'all'} images a class, against own padding: "
            + "; ".join(f"{titles[arm]} {mean_in_words(gain.tolist(), '+')} points" for arm, gain in gains.items())
            + "."
        )
    return text


def _curves(
    path: Path,
    arch: str,
    accuracy: dict[tuple[str, int], list[float]],
    counts: tuple[int, ...],
    titles: dict[str, str],
    is_imagenet: bool,
) -> Figure:
    fig, axes = plots.new_figure(1, 2, panel_size=(3.3, 4.4))
    left, right = axes[0]
    at = range(len(counts))
    for i, (arm, title) in enumerate(titles.items()):
        means = [np.mean(accuracy[arm, count]) for count in counts]
        left.plot(at, means, label=title, **look(arm))
        for x, count in enumerate(counts):
            half = over_seeds(accuracy[arm, count])
            if half is not None:
                left.plot([x, x], [means[x] - half, means[x] + half], color=look(arm)["color"], linewidth=1, alpha=0.5)
        if arm == OWN or (OWN, counts[0]) not in accuracy:
            continue
        gains = [np.subtract(accuracy[arm, count], accuracy[OWN, count]) for count in counts]
        beside = [x + (i - len(titles) / 2) * 0.06 for x in at]
        right.plot(beside, [gain.mean() for gain in gains], **look(arm))
        for x, gain in zip(beside, gains, strict=True):
            half = over_seeds(gain.tolist())
            if half is not None:
                ends = [gain.mean() - half, gain.mean() + half]
                right.plot([x, x], ends, color=look(arm)["color"], linewidth=1, alpha=0.5)
    right.axhline(0, color="#8a8880", linewidth=0.8)
    paper = {x: published.IMAGENET_SUBSETS_GAIN.numbers.get((count or "all",)) for x, count in enumerate(counts)}
    known = {x: number.value for x, number in paper.items() if number is not None}
    if is_imagenet and known:
        right.plot(list(known), list(known.values()), "o", color="#b9b7ae", markersize=9, zorder=0, label="paper: full")
        right.legend()
    for ax, label in ((left, "test accuracy, %"), (right, "gain over own padding, points")):
        ax.set_xticks(list(at), [str(count or "all") for count in counts])
        ax.set(xlabel="training images a class", ylabel=label)
        ax.grid(axis="y")
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    plots.save(fig, path)
    return Figure(
        path,
        f"{arch}: test accuracy with n training images a class, and its difference from own padding, seed by seed; "
        "bars: 95 % intervals over seeds.",
        f"With {counts[0] or 'all'} images a class: "
        + ", ".join(f"{title} {np.mean(accuracy[arm, counts[0]]):.1f} percent" for arm, title in titles.items())
        + ".",
    )


def _table(
    arch: str,
    accuracy: dict[tuple[str, int], list[float]],
    counts: tuple[int, ...],
    titles: dict[str, str],
    costs: dict[str, float],
    is_imagenet: bool,
) -> Table:
    rows: list[list[str | int | float]] = [
        [title, *(mean_in_words(accuracy[arm, count]) for count in counts), f"{costs[arm]:.1f}×"]
        for arm, title in titles.items()
    ]
    if is_imagenet:
        keys = [count or "all" for count in counts]
        rows.append(["paper: own padding", *(published.IMAGENET_SUBSETS.text(key) for key in keys), "1.0×"])
        rows.append(["paper: full minus own", *(published.IMAGENET_SUBSETS_GAIN.text(key) for key in keys), ""])
    seeds = len(next(iter(accuracy.values())))
    return Table(
        ["arm", *(str(count or "all") for count in counts), "cost"],
        rows,
        f"{arch}: test accuracy in percent with n training images a class, mean over {seeds} "
        f"{'seeds ± half the 95 % interval (Student’s t)' if seeds > 1 else 'seed'}. Cost: multiply-adds, relative to "
        "own padding.",
    )
