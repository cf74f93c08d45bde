"""The page of `quadrant`, as the paper shows it: accuracy against the border's width, one panel per network."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from borderless.experiments import published
from borderless.experiments.experiment import Result
from borderless.experiments.kit import by, percents, texts, values, write_table
from borderless.experiments.quadrant import QuadrantConfig
from borderless.measures.intervals import over_seeds
from borderless.models.arms import ARMS
from borderless.report import Section, plots

PANEL_IN = (3.1, 3.7)
WIDTH_PX = 1200
# Networks as the paper names them.
PUBLISHED = {"bagnet33": "BagNet-33", "vconv_bagnet33": "BagNet-33", "resnet18": "ResNet-18"} | {
    "torchvision/resnet18": "ResNet-18",
    "densenet121": "DenseNet-121",
    "torchvision/densenet121": "DenseNet-121",
}
WEIGHTS = {"scratch": "from scratch", "random": "random, frozen", "pretrained": "pretrained, frozen"}
# Below this share of the largest feature, two are equal to rounding.
ROUNDING = 1e-5
_LINES: dict[str, Any] = {"scratch": "-", "random": "--", "pretrained": ":"}
_MARKERS = {"scratch": "o", "random": "^", "pretrained": "s"}
_PAPER: dict[str, Any] = {"color": "#b5b2a8", "linestyle": "", "markerfacecolor": "#e9e7e0"}

# By network, weights and policy: the results at each border, in px.
Curves = dict[tuple[str, str, str], dict[int, list[Result]]]


def draw(config: QuadrantConfig, results: list[Result], folder: Path) -> Section:
    """Draw the page."""
    write_table(results, folder)
    curves: Curves = {key: by(group, "border_px") for key, group in by(results, "arch", "init", "policy").items()}
    text = texts(__file__, config=config, curves=[_in_words(*key, curve) for key, curve in curves.items()])
    head = ["network", "weights", "border policy"]
    tables = [text.table("accuracies", [*head, *(f"{b} px" for b in config.sorted_borders_px)], _rows(config, curves))]
    if controls := _controls(curves):
        tables.append(text.table("controls", [*head, "mean", "range", "interval holds 50 %"], controls))
    return text.section([text.figure("curves", _figure(config, curves, folder / "quadrant.png"))], tables)


def _figure(config: QuadrantConfig, curves: Curves, path: Path) -> Path:
    fig, axes = plots.new_figure(1, len(config.archs), PANEL_IN, sharey=True)
    borders = config.sorted_borders_px
    for ax, arch in zip(axes[0], config.archs, strict=True):
        for init in config.inits:
            known = published.QUADRANT.points([(_name(arch), init, b) for b in borders])
            ax.plot([borders[i] for i in known], list(known.values()), marker=_MARKERS[init], markersize=9, **_PAPER)
        radius = 0.0
        for (_, init, policy), curve in ((key, curve) for key, curve in curves.items() if key[0] == arch):
            means, low, high = zip(*map(_mean_and_interval, curve.values()), strict=True)
            color = plots.marker_style(policy)["color"]
            ax.fill_between(borders, low, high, color=color, alpha=0.15, linewidth=0)
            ax.plot(borders, means, color=color, linestyle=_LINES[init], marker=_MARKERS[init], markersize=4.5)
            radius = curve[borders[0]][0].metrics["field_radius_px"]
        ax.axvline(radius, color=plots.GRAY, linewidth=0.9, linestyle=(0, (4, 3)))
        is_far = radius > borders[-1]
        if not is_far:
            ax.text(radius, 101.5, f" {radius:g} px", fontsize=7.5, color=plots.GRAY, ha="left", va="bottom")
        ax.set_xscale("symlog", base=2, linthresh=16, linscale=0.8)
        ax.set(xlim=(-2, 1.25 * max(borders[-1], 16)), ylim=(42, 104), yticks=range(50, 101, 10))
        ax.set(xticks=borders, xticklabels=[str(b) for b in borders], xlabel="border of zeros, px")
        ax.set(title=_name(arch) + (f"  (field radius {radius:g} px)" if is_far else ""))
        ax.minorticks_off()
        ax.tick_params(axis="x", labelsize=7.5)
        ax.axhline(50, color="#c9c6bd", linewidth=0.8, zorder=0)
    axes[0, 0].set_ylabel("test accuracy, %")
    _legend(fig, config)
    return plots.save(fig, path, width_px=WIDTH_PX if len(config.archs) > 1 else WIDTH_PX // 2)


def _legend(fig: Any, config: QuadrantConfig) -> None:
    handles = [Line2D([], [], color=plots.marker_style(p)["color"], label=ARMS[p].title) for p in config.policies]
    handles += [
        Line2D([], [], color=plots.GRAY, linestyle=_LINES[init], marker=_MARKERS[init], label=WEIGHTS[init])
        for init in config.inits
    ]
    if any(arch in PUBLISHED for arch in config.archs):
        handles.append(Line2D([], [], marker="o", markersize=8, label="paper", **_PAPER))
    fig.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6 if len(config.archs) > 1 else 2))


def _name(arch: str) -> str:
    """Return the paper's name of a network, if it has one."""
    return PUBLISHED.get(arch, arch)


def _mean_and_interval(group: list[Result]) -> tuple[float, float, float]:
    """Return the mean, and the interval over seeds if there are several, else over the test pictures; in percent."""
    accuracies = percents(group, "accuracy")
    mean, half = float(np.mean(accuracies)), over_seeds(accuracies)
    if half is None:
        return mean, percents(group, "low")[0], percents(group, "high")[0]
    return mean, mean - half, mean + half


def _rows(config: QuadrantConfig, curves: Curves) -> list[list[str]]:
    rows = []
    for (arch, init, policy), curve in curves.items():
        if arch in PUBLISHED and policy == config.policies[0]:
            printed = [published.QUADRANT.text(_name(arch), init, border) for border in curve]
            rows.append([_name(arch), init, "the paper's", *printed])
        found = [(*_mean_and_interval(group), " =" if _is_equal(group) else "") for group in curve.values()]
        numbers = [f"{mean:.1f} ({low:.1f}–{high:.1f}){equal}" for mean, low, high, equal in found]
        rows.append([_name(arch), init, ARMS[policy].title, *numbers])
    return rows


def _is_equal(group: list[Result]) -> bool:
    """Return whether the features at both positions are equal, to rounding."""
    return max(values(group, "change")) < ROUNDING


def _controls(curves: Curves) -> list[list[str]]:
    rows = []
    for (arch, init, policy), curve in curves.items():
        controls = [r for group in curve.values() for r in group if "control_accuracy" in r.metrics]
        if controls:
            found = percents(controls, "control_accuracy")
            inside = f"{sum(r.metrics['control_is_chance'] for r in controls)} of {len(controls)}"
            numbers = [f"{np.mean(found):.1f}", f"{min(found):.1f}–{max(found):.1f}", inside]
            rows.append([_name(arch), init, ARMS[policy].title, *numbers])
    return rows


def _in_words(arch: str, init: str, policy: str, curve: dict[int, list[Result]]) -> dict[str, Any]:
    """Return the values that the text needs of a curve."""
    means = {border: np.mean(percents(group, "accuracy")) for border, group in curve.items()}
    return {
        "title": f"<b>{_name(arch)}</b>, {WEIGHTS[init]}, {ARMS[policy].title}",
        "short": f"{_name(arch)}, {init}, {ARMS[policy].title}",
        "readable": [border for border, group in curve.items() if not all(values(group, "is_chance"))],
        "equal": [border for border, group in curve.items() if _is_equal(group)],
        "means": means,
    }
