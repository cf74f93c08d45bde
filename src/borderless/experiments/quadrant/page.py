"""What `quadrant` found, as the paper shows it: accuracy against the border's width, one panel a network."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from borderless.experiments import published
from borderless.measures.intervals import over_seeds
from borderless.report import Figure, Section, Table, plots

if TYPE_CHECKING:
    from borderless.experiments.arms import Arm
    from borderless.experiments.quadrant import Config
    from borderless.experiments.runner import Result

PANEL_IN = (3.1, 3.7)
WIDTH_PX = 1200
# Networks as the paper names them.
PUBLISHED = {"bagnet33": "BagNet-33", "vconv_bagnet33": "BagNet-33", "resnet18": "ResNet-18"} | {
    "torchvision/resnet18": "ResNet-18",
    "densenet121": "DenseNet-121",
    "torchvision/densenet121": "DenseNet-121",
}
_COLOURS = {name: plots.BORDER_COLOURS[name] for name in ("full", "infinite")} | {
    "own": plots.BORDER_COLOURS["zero"],
    "infinite-adaptive": plots.BORDER_COLOURS["circular"],
}
_LINES: dict[str, Any] = {"scratch": "-", "random": "--", "pretrained": ":"}
_MARKERS = {"scratch": "o", "random": "^", "pretrained": "s"}
_PAPER, _PAPER_FACE = "#b5b2a8", "#e9e7e0"


def section(config: "Config", arms: Mapping[str, "Arm"], results: list["Result"], folder: Path) -> Section:
    groups: dict[tuple[str, str, str], dict[int, list[dict[str, Any]]]] = {}
    for result in results:
        p = result.cell.parameters
        line = groups.setdefault((p["arch"], p["init"], p["policy"]), {})
        line.setdefault(p["border_px"], []).append(result.metrics)
    titles = {policy: arms[policy].title for policy in config.policies}
    return Section(
        title="How far from the border?",
        text=_story(config, titles, groups),
        figures=[_figure(config, titles, groups, folder / "quadrant.png")],
        tables=[_table(config, titles, groups), *_control_table(titles, groups)],
    )


def _figure(config: "Config", titles: Mapping[str, str], groups: Mapping[Any, Any], path: Path) -> Figure:
    fig, axes = plots.new_figure(1, len(config.archs), PANEL_IN, sharey=True)
    borders = sorted(config.borders_px)
    for ax, arch in zip(axes[0], config.archs, strict=True):
        for init in config.inits:
            _paper_points(ax, arch, init, borders)
        for init in config.inits:
            for policy in config.policies:
                line = groups[arch, init, policy]
                means = [100 * np.mean([m["accuracy"] for m in line[b]]) for b in borders]
                low, high = zip(*(_interval(line[b]) for b in borders), strict=True)
                colour = _COLOURS[policy]
                ax.fill_between(borders, low, high, color=colour, alpha=0.15, linewidth=0)
                ax.plot(borders, means, color=colour, linestyle=_LINES[init], marker=_MARKERS[init], markersize=4.5)
        radius = groups[arch, config.inits[0], config.policies[0]][borders[0]][0]["field_radius_px"]
        ax.axvline(radius, color="#4c4b47", linewidth=0.9, linestyle=(0, (4, 3)))
        far = radius > borders[-1]
        ax.set_xscale("symlog", base=2, linthresh=16, linscale=0.8)
        ax.set_xlim(-2, 1.25 * max(borders[-1], 16))
        if not far:
            ax.text(radius, 101.5, f" {radius:g} px", fontsize=7.5, color="#4c4b47", ha="left", va="bottom")
        ax.set(xticks=borders, xticklabels=[str(b) for b in borders], ylim=(42, 104), yticks=range(50, 101, 10))
        ax.minorticks_off()
        ax.tick_params(axis="x", labelsize=7.5)
        ax.axhline(50, color="#c9c6bd", linewidth=0.8, zorder=0)
        ax.set_title(_name(arch) + (f"  (field radius {radius:g} px)" if far else ""))
        ax.set_xlabel("border of zeros, px")
    axes[0, 0].set_ylabel("test accuracy, %")
    _legend(fig, config, titles)
    return Figure(
        plots.save(fig, path, width_px=WIDTH_PX if len(config.archs) > 1 else WIDTH_PX // 2),
        "Accuracy of telling the upper left quarter from the lower right one, against the width of the border of zeros "
        f"around both; {_what_a_point_is(config)} Grey: the paper's points, read off its plot. Vertical line: half the "
        "receptive field of the pooled features.",
        "Curves of accuracy against border width, one panel a network: "
        + "; ".join(
            f"{_name(arch)}, {init}, {titles[policy]}: "
            + ", ".join(f"{100 * np.mean([m['accuracy'] for m in line[b]]):.1f} at {b} px" for b in sorted(line))
            for (arch, init, policy), line in groups.items()
        ),
    )


def _paper_points(ax: Any, arch: str, init: str, borders: list[int]) -> None:
    name = PUBLISHED.get(arch)
    known = {key[2]: published.QUADRANT[key].value for key in published.QUADRANT if key[:2] == (name, init)}
    shown = [b for b in borders if b in known]
    ax.plot(
        shown,
        [known[b] for b in shown],
        color=_PAPER,
        linestyle="",
        marker=_MARKERS[init],
        markersize=9,
        markerfacecolor=_PAPER_FACE,
    )


def _legend(fig: Any, config: "Config", titles: Mapping[str, str]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=_COLOURS[policy], label=title) for policy, title in titles.items()]
    handles += [
        Line2D([], [], color="#4c4b47", linestyle=_LINES[init], marker=_MARKERS[init], label=_weights(init))
        for init in config.inits
    ]
    if any(arch in PUBLISHED for arch in config.archs):
        handles.append(
            Line2D(
                [], [], color=_PAPER, linestyle="", marker="o", markersize=8, markerfacecolor=_PAPER_FACE, label="paper"
            )
        )
    fig.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6 if len(config.archs) > 1 else 2))


def _name(arch: str) -> str:
    """As the paper has it, if it does."""
    return PUBLISHED.get(arch, arch)


def _weights(init: str) -> str:
    return {"scratch": "from scratch", "random": "random, frozen", "pretrained": "pretrained, frozen"}[init]


def _interval(metrics: list[dict[str, Any]]) -> tuple[float, float]:
    """Over seeds if there are several, else over the test pictures; in percent."""
    values = [100 * m["accuracy"] for m in metrics]
    half = over_seeds(values)
    if half is None:
        return 100 * metrics[0]["low"], 100 * metrics[0]["high"]
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def _what_a_point_is(config: "Config") -> str:
    pictures = f"{config.pictures:,} test pictures, each in both places"
    if config.seeds > 1:
        return f"means over {config.seeds} seeds, {pictures}; bands: 95 % interval over seeds."
    return f"{pictures}; bands: 95 % interval over pictures."


def _table(config: "Config", titles: Mapping[str, str], groups: Mapping[Any, Any]) -> Table:
    borders = sorted(config.borders_px)
    rows: list[list[str | int | float]] = []
    for (arch, init, policy), line in groups.items():
        name = PUBLISHED.get(arch)
        if name is not None and policy == config.policies[0]:
            rows.append([name, init, "the paper's", *(published.QUADRANT.text(name, init, b) for b in borders)])
        rows.append([_name(arch), init, titles[policy], *(_number(line[b]) for b in borders)])
    return Table(
        ["network", "weights", "border policy", *(f"{b} px" for b in borders)],
        rows,
        f"Test accuracy in percent, chance 50; {_what_a_point_is(config)} In brackets: the interval. =: the "
        "features at the two places are equal, bit by bit or to rounding (largest difference below 10⁻⁵ of the "
        "largest), so nothing can tell the places apart.",
    )


def _number(metrics: list[dict[str, Any]]) -> str:
    mean = 100 * np.mean([m["accuracy"] for m in metrics])
    low, high = _interval(metrics)
    equal = " =" if max(m["change"] for m in metrics) < 1e-5 else ""
    return f"{mean:.1f} ({low:.1f}–{high:.1f}){equal}"


def _control_table(titles: Mapping[str, str], groups: Mapping[Any, Any]) -> list[Table]:
    rows: list[list[str | int | float]] = []
    for (arch, init, policy), line in groups.items():
        controls = [m for metrics in line.values() for m in metrics if m.get("control_accuracy") is not None]
        if controls:
            values = [100 * m["control_accuracy"] for m in controls]
            inside = sum(m["control_is_chance"] for m in controls)
            rows.append(
                [
                    _name(arch),
                    init,
                    titles[policy],
                    f"{np.mean(values):.1f}",
                    f"{min(values):.1f}–{max(values):.1f}",
                    f"{inside} of {len(controls)}",
                ]
            )
    if not rows:
        return []
    return [
        Table(
            ["network", "weights", "border policy", "mean", "range", "interval holds 50 %"],
            rows,
            "The control, over all borders: the same features, fitted to places that were drawn anew for each picture. "
            "It must stay at 50 %; of the 95 % intervals, one in twenty misses it by chance.",
        )
    ]


def _story(config: "Config", titles: Mapping[str, str], groups: Mapping[Any, Any]) -> list[str]:
    borders = sorted(config.borders_px)
    text = [
        "A picture of 56 px stands in the upper left or in the lower right quarter of a canvas of 120 px, and the "
        "canvas inside a border of zeros. A linear layer must tell from the network's pooled features which of the two "
        "it is. Every picture stands in both places, so only the place can tell, and the place can only be read off "
        "the border of the image. How wide must the border be before it is out of reach?"
    ]
    for (arch, init, policy), line in groups.items():
        readable = [b for b in borders if not all(m["is_chance"] for m in line[b])]
        equal = [b for b in borders if max(m["change"] for m in line[b]) < 1e-5]
        far = f"up to a border of {readable[-1]} px" if readable else "at no border"
        same = ""
        if equal:
            where = "every border" if len(equal) == len(borders) else f"{_listed(equal)} px"
            same = f"; the features at the two places are equal at {where}"
        text.append(
            f"<b>{_name(arch)}</b>, {_weights(init)}, {titles[policy]}: location can be read {far} "
            f"({100 * np.mean([m['accuracy'] for m in line[borders[0]]]):.1f} % at {borders[0]} px){same}."
        )
    if config.protocol == "published":
        text.append(
            "<em>Published protocol</em>: training, validation and test are the same pictures, as in the paper's code. "
            "The control shows it: it is fitted and tested on the same pictures, too."
        )
    return text


def _listed(values: list[int]) -> str:
    return ", ".join(map(str, values[:-1])) + (" and " if len(values) > 1 else "") + str(values[-1])
