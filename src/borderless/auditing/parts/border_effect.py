"""Compare every feature map with the same feature map without a border: how deep does the border reach?"""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from borderless.auditing.parts import Compared
from borderless.auditing.result import Finding, Measurements
from borderless.auditing.subject import Subject
from borderless.measures.border_effect import TOUCHED, BorderEffect, LayerEffect, border_error
from borderless.report.content import Figure, Section, Table
from borderless.report.numbers import percent, safe
from borderless.report.plots import ROUNDING, heat_map, new_figure, save

NAME = "border_error"
NEEDS: tuple[str, ...] = ()
STEPS = {"border error": 21.0}
COMPARED: tuple[Compared, ...] = (("border changes feature maps up to, px", 1, ("leak_px",)),)

_LINES, _MAPS, _ROWS = 8, 5, 12


def measure(subject: Subject) -> dict[str, Any]:
    """Return `border_error`."""
    found = subject.step(
        "border error",
        lambda tell: border_error(
            subject.body,
            subject.images,
            background=subject.background,
            batch_size=subject.batch_size,
            workers=subject.workers,
            progress=tell,
        ),
    )
    return {"border_error": found}


def findings(audit: Measurements) -> list[Finding]:
    """Return how deep the border reaches."""
    effect = _effect(audit)
    return [] if effect is None else _leak(effect)


def _effect(audit: Measurements) -> BorderEffect | None:
    return audit.results.get("border_error")


def _leak(effect: BorderEffect) -> list[Finding]:
    if not effect.layers:
        return []
    deepest = max(effect.layers, key=lambda layer: layer.leak_px())
    if deepest.leak_px() == 0:
        text = "No feature map differs by more than 1 % of its variation from the one without a border."
        return [Finding("leak", "pass", text, {"leak_px": 0.0})]
    numbers = {"leak_px": deepest.leak_px(), "module": deepest.module}
    return [Finding("leak", "warning", _depth(effect, deepest), numbers)]


def _depth(effect: BorderEffect, deepest: LayerEffect) -> str:
    throughout = [layer for layer in effect.layers if layer.is_touched_throughout]
    if throughout:
        first = throughout[0]
        return (
            f"In {len(throughout)} of {len(effect.layers)} feature maps, from {safe(first.module) or 'the model'} on "
            f"(receptive field {first.field_px:.0f} px), the border changes every cell by more than 1 % of the map's "
            "variation: on images of this size, none is free of it."
        )
    return (
        f"The border changes feature maps by more than 1 % of their variation up to {deepest.leak_px():.0f} px from "
        f"the edge ({safe(deepest.module) or 'the model'}, receptive field {deepest.field_px:.0f} px)."
    )


def section(audit: Measurements, folder: Path) -> Section | None:
    """Return the depth over distance, maps of the difference, and a table of layers."""
    effect = _effect(audit)
    if effect is None or not effect.layers:
        return None
    text = [
        f"Each feature map of the network on {effect.images} images is compared with the same feature map without a "
        "border: the same weights, the same images, an unlimited background. The border alone makes the difference.",
    ]
    shown = spread(effect, _ROWS)
    rows = [
        [
            layer.module or layer.operation,
            f"{layer.stride_px:g}",
            percent(layer.at_edge),
            "everywhere" if layer.is_touched_throughout else f"{layer.leak_px():.0f} px",
            f"{layer.field_px:.0f}",
        ]
        for layer in shown
    ]
    table = Table(
        ["feature map of", "step, px", "at the edge", "above 1 % up to", "receptive field, px"],
        rows,
        f"{len(shown)} of {len(effect.layers)} layers, in the order in which they run; all are in audit.json. "
        "Half of the receptive field is on each side of a cell. Everywhere: the border changes every cell.",
    )
    figures = [_draw_depth(folder / "depth.png", effect), _draw_maps(folder / "maps.png", effect)]
    deepest = max(effect.layers, key=lambda layer: layer.leak_px())
    return Section("How deep the border reaches", text, figures, [table], _depth(effect, deepest))


def _draw_depth(path: Path, effect: BorderEffect) -> Figure:
    """Draw how strongly each map differs from the map without a border, by the distance to the edge."""
    shown = spread(effect, _LINES)
    fig, axes = new_figure(panel_size=(3.4, 6.6))
    ax = axes[0, 0]
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.92, len(shown)))
    for layer, color in zip(shown, colors, strict=True):
        distance = (np.arange(len(layer.by_distance)) + 0.5) * layer.stride_px
        values = np.clip(np.where(np.isfinite(layer.by_distance), layer.by_distance, np.nan), ROUNDING, None)
        ax.plot(distance, values, color=color, marker="o", markersize=2.5, linewidth=1.4, label=_label(layer))
    ax.axhline(TOUCHED, color="#8a8880", linewidth=0.8, linestyle=(0, (4, 3)))
    ax.annotate(
        "1 %", (1, TOUCHED), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8, color="#4c4b47"
    )
    ax.set(yscale="log", xlabel="distance from the edge, px", ylabel="difference, relative to\nthe map's variation")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title="feature map of", title_fontsize=8.5)
    return Figure(
        save(fig, path),
        "How much each feature map differs from the same one without a border (<em>infinite</em>), by the distance of "
        "its cells from the edge. Below the dashed line, cells count as unchanged. Layers in the order in which they "
        "run, from the top of the legend to its end.",
        f"Lines of {len(shown)} layers over the distance from the edge. The deepest difference above one percent is "
        f"{effect.leak_px:.0f} pixels from the edge.",
    )


def _draw_maps(path: Path, effect: BorderEffect) -> Figure:
    """Draw which cells of some feature maps the border changes."""
    shown = spread(effect, _MAPS)
    fig, axes = new_figure(1, len(shown), (2.1, 1.9 if len(shown) > 1 else 2.4))
    for ax, layer in zip(axes[0], shown, strict=True):
        values = np.log10(np.clip(np.nan_to_num(layer.map, posinf=1.0), 1e-4, 1.0))
        is_last = layer is shown[-1]
        image = heat_map(ax, values, title=_label(layer, 22), vmin=-4, vmax=0, cmap="magma", color_bar=False)
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel(f"{layer.map.shape[0]} × {layer.map.shape[1]} cells", fontsize=8)
        if is_last:
            bar = fig.colorbar(image, ax=axes[0].tolist(), shrink=0.8, pad=0.02, ticks=[-4, -3, -2, -1, 0])
            bar.ax.set_yticklabels(["≤ 0.01 %", "0.1 %", "1 %", "10 %", "≥ 100 %"])
            bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return Figure(
        save(fig, path),
        "The same differences cell by cell; bright cells are changed by the border.",
        f"Heat maps of {len(shown)} layers; differences are largest along the edges"
        + (" and reach the middle in the last ones." if shown[-1].is_touched_throughout else "."),
    )


def spread(effect: BorderEffect, most: int) -> list[LayerEffect]:
    """Return at most `most` layers, evenly from first to last; maps without an inside (global pools) are left out."""
    layers = [layer for layer in effect.layers if min(layer.map.shape) > 2] or list(effect.layers)
    if len(layers) <= most:
        return layers
    return [layers[round(i)] for i in np.linspace(0, len(layers) - 1, most)]


def _label(layer: LayerEffect, most: int = 34) -> str:
    name = layer.module or layer.operation
    return name if len(name) <= most else f"…{name[1 - most :]}"


def record(audit: Measurements) -> dict[str, Any] | None:
    """Return the depth and the layers; the maps themselves are left out."""
    effect = _effect(audit)
    if effect is None:
        return None
    return {
        "leak_px": effect.leak_px,
        "largest": effect.largest,
        "layers": [
            {
                "module": layer.module,
                "operation": layer.operation,
                "stride_px": layer.stride_px,
                "field_px": layer.field_px,
                "leak_px": layer.leak_px(),
                "by_distance": layer.by_distance.tolist(),
            }
            for layer in effect.layers
        ],
    }
