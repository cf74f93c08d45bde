"""The page of `shifts`: consistency of every arm by every protocol, accuracy along the diagonal, and tables."""

from pathlib import Path
from typing import Any

import numpy as np

from borderless.experiments import published
from borderless.experiments.arms import ARMS, look
from borderless.experiments.runner import Result
from borderless.report import Figure, Section, Table, plots

TITLES = {
    "zhang2019": "crops\n(Zhang 2019)",
    "kayhan2020": "crops\n(Kayhan 2020)",
    "circular": "rolls",
    "canvas": "on a canvas",
    "canvas_stride": "on a canvas,\nwhole strides",
}
PAPER_NAMES = {"resnet18": "ResNet-18", "resnet34": "ResNet-34", "resnet50": "ResNet-50", "resnet101": "ResNet-101"}


def section(
    networks: tuple[str, ...],
    arms: tuple[str, ...],
    results: list[Result],
    folder: Path,
    is_embedded: bool,
    is_papers_data: bool,
) -> Section:
    # On the embedded data both protocols of crops are the same.
    known = set.intersection(*(set(r.metrics) for r in results))
    shown = [name for name in TITLES if name in known and not (is_embedded and name == "kayhan2020")]
    by_arch = {arch: _by_arm(arch, arms, results) for arch in networks}
    pictures = []
    for arch, groups in by_arch.items():
        stem = arch.replace("/", "-")
        pictures.append(_consistency(folder / f"consistency-{stem}.png", arch, groups, shown))
        pictures.append(_diagonal(folder / f"diagonal-{stem}.png", arch, groups, shown))
    return Section(
        title="Moved images",
        text=_story(by_arch),
        figures=pictures,
        tables=[_table(arch, groups, shown, is_papers_data) for arch, groups in by_arch.items()],
    )


def _by_arm(arch: str, arms: tuple[str, ...], results: list[Result]) -> dict[str, list[dict[str, Any]]]:
    of_arch = [r for r in results if r.cell.parameters["arch"] == arch]
    return {arm: [r.metrics for r in of_arch if r.cell.parameters["arm"] == arm] for arm in arms}


def _story(by_arch: dict[str, dict[str, list[dict[str, Any]]]]) -> list[str]:
    text = [
        "A classifier sees an image twice, at two places, and should say the same of it. Crops show a little more on "
        "one side and a little less on the other, so that even an exact network may change its mind; rolls put what "
        "leaves on one side back on the other; on an empty canvas nothing is lost and nothing is new."
    ]
    exact = {
        name: [
            ARMS[arm].title
            for arm in next(iter(by_arch.values()))
            if all(m.get(name) == 1 for groups in by_arch.values() for m in groups[arm])
        ]
        for name in ("canvas", "canvas_stride")
    }
    if exact["canvas"]:
        text.append(f"Not one answer changes on the canvas, wherever the image stands: {_listed(exact['canvas'])}.")
    if exact["canvas_stride"]:
        text.append(f"Not one changes between places that are whole strides apart: {_listed(exact['canvas_stride'])}.")
    return text


def _listed(titles: list[str]) -> str:
    return "; ".join(f"<em>{title}</em>" for title in titles)


def _consistency(path: Path, arch: str, groups: dict[str, list[dict[str, Any]]], shown: list[str]) -> Figure:
    fig, axes = plots.new_figure(1, 1, panel_size=(3.6, 8.0))
    ax = axes[0, 0]
    for i, (arm, group) in enumerate(groups.items()):
        beside = (i - (len(groups) - 1) / 2) * 0.1
        for at, name in enumerate(shown):
            value, low, high = (100 * np.mean([m[f"{name}{end}"] for m in group]) for end in ("", "_low", "_high"))
            ax.plot([at + beside] * 2, [low, high], color=look(arm)["color"], linewidth=1)
            ax.plot(at + beside, value, linestyle="none", label=ARMS[arm].title if at == 0 else None, **look(arm))
    ax.set_xticks(range(len(shown)), [TITLES[name] for name in shown])
    ax.set(ylabel="equal answers, %", title=f"{arch}: two views of an image", xlim=(-0.6, len(shown) - 0.4))
    ax.grid(axis="y")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    plots.save(fig, path)
    best = {ARMS[arm].title: 100 * np.mean([m["canvas"] for m in group]) for arm, group in groups.items()}
    return Figure(
        path,
        f"{arch}: the share of equal answers to two views of a test image, by how it moves; bars: 95 % intervals over "
        "images.",
        "Equal answers on a canvas: "
        + ", ".join(f"{title} {value:.1f} percent" for title, value in best.items())
        + ".",
    )


def _diagonal(path: Path, arch: str, groups: dict[str, list[dict[str, Any]]], shown: list[str]) -> Figure:
    protocols = [name for name in shown if name in ("zhang2019", "kayhan2020")]
    fig, axes = plots.new_figure(1, len(protocols), panel_size=(3.0, 4.6), sharey=True)
    for ax, protocol in zip(axes[0], protocols, strict=True):
        for arm, group in groups.items():
            along = 100 * np.mean([m[f"{protocol}_along"] for m in group], axis=0)
            style = look(arm)
            ax.plot(
                along,
                color=style["color"],
                linewidth=1.4,
                linestyle="--" if ARMS[arm].blurs else "-",
                label=ARMS[arm].title,
            )
        ax.set(title=f"{arch}: {TITLES[protocol]}".replace("\n", " "), xlabel="offset of the crop, px (row = column)")
        ax.grid(axis="y")
    axes[0, 0].set_ylabel("accuracy, %")
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    plots.save(fig, path)
    means = {ARMS[arm].title: 100 * np.mean([m[f"{protocols[0]}_diagonal"] for m in g]) for arm, g in groups.items()}
    return Figure(
        path,
        f"{arch}: test accuracy of crops along the diagonal of a larger image.",
        "Mean accuracy along the diagonal: " + ", ".join(f"{t} {v:.1f} percent" for t, v in means.items()) + ".",
    )


def _table(arch: str, groups: dict[str, list[dict[str, Any]]], shown: list[str], is_papers_data: bool) -> Table:
    rows = []
    diagonal = "kayhan2020" if "kayhan2020" in shown else "zhang2019"
    paper = PAPER_NAMES.get(arch) if is_papers_data else None
    for arm, group in groups.items():
        row: list[str | int | float] = [
            ARMS[arm].title,
            _percent(group, "accuracy"),
            _percent(group, f"{diagonal}_diagonal"),
            *(_percent(group, name) for name in shown),
            _percent(group, "canvas_fidelity"),
        ]
        if paper:
            key = (paper, ARMS[arm].paper or "")
            row += [published.DIAGONAL.text(*key), published.CONSISTENCY.text(*key)]
        rows.append([*row, f"{group[0]['cost']:.1f}×"])
    columns = ["arm", "accuracy", "diagonal", *(TITLES[name].replace("\n", " ") for name in shown), "fidelity"]
    columns += ["paper: diagonal", "paper: consistency"] if paper else []
    count = len(next(iter(groups.values())))
    return Table(
        [*columns, "cost"],
        rows,
        f"{arch}, in percent, means over {count} {'seeds' if count > 1 else 'seed'}. Accuracy: of one crop in the "
        "middle. Diagonal: over all crops along it. Then the share of equal answers by protocol. Fidelity: equal and "
        "right, on a canvas. Cost: multiply-adds, relative to own padding."
        + (f" Paper: {published.DIAGONAL.source}." if paper else ""),
    )


def _percent(group: list[dict[str, Any]], key: str) -> str:
    mean = 100 * np.mean([m[key] for m in group])
    return "100" if mean == 100 else f"{mean:.2f}"
