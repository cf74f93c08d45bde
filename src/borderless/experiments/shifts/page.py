"""The page of `shifts`: consistency of every arm by every protocol, accuracy along the diagonal, and tables."""

from pathlib import Path

import numpy as np

from borderless.experiments import published
from borderless.experiments.experiment import Result
from borderless.experiments.kit import by, cost, percents, texts, write_table
from borderless.experiments.shifts import ShiftsConfig
from borderless.experiments.shifts.experiment import CROPPED
from borderless.models.arms import ARMS
from borderless.report import Section, plots

TITLES = {
    "zhang2019": "crops\n(Zhang 2019)",
    "kayhan2020": "crops\n(Kayhan 2020)",
    "circular": "rolls",
    "canvas": "on a canvas",
    "canvas_stride": "on a canvas,\nwhole strides",
}

Groups = dict[str, list[Result]]


def draw(config: ShiftsConfig, results: list[Result], folder: Path) -> Section:
    """Draw the page."""
    write_table(results, folder)
    known = set.intersection(*(set(r.metrics) for r in results))
    # On the embedded data both protocols of crops are the same.
    shown = [name for name in TITLES if name in known and not (config.data is None and name == "kayhan2020")]
    by_arch = {arch: by(group, "arm") for arch, group in by(results, "arch").items()}
    # The paper's networks, where they are trained on the same data.
    papers = published.NETWORKS if config.classes == "imagenet-a" else {}
    by_arm = by(results, "arm")
    exact = {
        name: [ARMS[arm].title for arm, group in by_arm.items() if all(r.metrics.get(name) == 1 for r in group)]
        for name in ("canvas", "canvas_stride")
    }
    means = {
        (arch, name): {ARMS[arm].title: percents(group, name) for arm, group in groups.items()}
        for arch, groups in by_arch.items()
        for name in ("canvas", f"{shown[0]}_diagonal")
    }
    has_paper = [arch for arch in config.archs if arch in papers]
    text = texts(
        __file__, config=config, exact=exact, means=means, diagonal=f"{shown[0]}_diagonal", has_paper=has_paper
    )
    figures, tables = [], []
    for arch, groups in by_arch.items():
        stem = arch.replace("/", "-")
        consistency = _consistency(folder / f"consistency-{stem}.png", arch, groups, shown)
        diagonal = _diagonal(folder / f"diagonal-{stem}.png", arch, groups, shown)
        figures += [text.figure(f"consistency {arch}", consistency), text.figure(f"diagonal {arch}", diagonal)]
        columns = ["accuracy", "diagonal", *(TITLES[name].replace("\n", " ") for name in shown), "fidelity"]
        columns += ["paper: diagonal", "paper: consistency"] if arch in papers else []
        rows = [_row(papers.get(arch), arm, group, shown) for arm, group in groups.items()]
        tables.append(text.table(arch, ["arm", *columns, "cost"], rows))
    return text.section(figures, tables)


def _consistency(path: Path, arch: str, groups: Groups, shown: list[str]) -> Path:
    fig, axes = plots.new_figure(1, 1, panel_size=(3.6, 8.0))
    ax = axes[0, 0]
    for i, (arm, group) in enumerate(groups.items()):
        at = [x + (i - (len(groups) - 1) / 2) * 0.1 for x in range(len(shown))]
        means, low, high = (
            [float(np.mean(percents(group, f"{n}{end}"))) for n in shown] for end in ("", "_low", "_high")
        )
        style = {"linestyle": "none", "label": ARMS[arm].title, **plots.marker_style(arm)}
        plots.points(ax, at, means, list(zip(low, high, strict=True)), alpha=1, **style)
    limits = (-0.6, len(shown) - 0.4)
    title = f"{arch}: two views of an image"
    plots.panel(ax, ticks=[TITLES[n] for n in shown], ylabel="equal predictions, %", title=title, xlim=limits)
    plots.legend_beside(ax)
    return plots.save(fig, path)


def _diagonal(path: Path, arch: str, groups: Groups, shown: list[str]) -> Path:
    protocols = [name for name in shown if name in CROPPED]
    fig, axes = plots.new_figure(1, len(protocols), panel_size=(4.6, 8.0 / len(protocols)), sharey=True)
    for ax, protocol in zip(axes[0], protocols, strict=True):
        for arm, group in groups.items():
            along = 100 * np.mean([r.metrics[f"{protocol}_along"] for r in group], axis=0)
            line = "--" if ARMS[arm].blurs else "-"
            color = plots.marker_style(arm)["color"]
            ax.plot(along, color=color, linewidth=1.4, linestyle=line, label=ARMS[arm].title)
        title = f"{arch}: {TITLES[protocol]}".replace("\n", " ")
        plots.panel(ax, title=title, xlabel="offset of the crop, px (row = column)")
    axes[0, 0].set_ylabel("accuracy, %")
    plots.legend_below(fig, axes[0, 0], 2)
    return plots.save(fig, path)


def _row(paper: str | None, arm: str, group: list[Result], shown: list[str]) -> list[str]:
    diagonal = "kayhan2020" if "kayhan2020" in shown else "zhang2019"
    names = ["accuracy", f"{diagonal}_diagonal", *shown, "canvas_fidelity"]
    means = [np.mean(percents(group, name)) for name in names]
    key = (paper or "", ARMS[arm].paper or "")
    beside = [table.text(*key) for table in (published.DIAGONAL, published.CONSISTENCY) if paper]
    return [ARMS[arm].title, *("100" if mean == 100 else f"{mean:.2f}" for mean in means), *beside, cost(group)]
