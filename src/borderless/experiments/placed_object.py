"""A photograph moves over an empty canvas. Does a network trained on ImageNet say the same about it at every place?

The network is EfficientNet-Lite0 with packaged weights, untouched and not trained any further: only the border differs
from arm to arm. Offsets on and off the multiples of its total stride, 32 px, tell the two leaks apart.

Shapes: photographs 3 × 96 × 96; images n × 3 × 224 × 224; logits n × 1000; maps over positions rows × columns.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import nn

import borderless as bl
from borderless.data.photos import PHOTOS, load_photo
from borderless.experiments import placed_object_figures
from borderless.experiments.arms import Arm
from borderless.experiments.placed_object_answers import answers, summarise
from borderless.experiments.runner import Cell, ConfigError, Experiment, Result
from borderless.models.packaged import MEAN, SIZE_PX, TOTAL_STRIDE_PX, class_names, load_packaged, normalise
from borderless.report import Section, Table
from borderless.runtime.files import write_csv

PhotoName = Literal["cat", "coffee", "tripod", "motorcycle", "rocket"]
Background = Literal["black", "grey", "white"]
# Brightness in [0, 1]; grey is what normalisation turns into 0.
BRIGHTNESS = {"black": 0.0, "grey": MEAN, "white": 1.0}
ARMS = {
    "own": Arm("own padding"),
    "full": Arm("full", "full"),
    "infinite": Arm("infinite", "infinite"),
    "infinite-adaptive": Arm("infinite,\nadaptive phase", "infinite", "adaptive"),
    "infinite-reach4": Arm("infinite,\nreach 4", "infinite", reach=4),
    "infinite-reach2": Arm("infinite,\nreach 2", "infinite", reach=2),
    "infinite-reach1": Arm("infinite,\nreach 1", "infinite", reach=1),
}


@dataclass(frozen=True)
class Config:
    """Settings of `placed-object`."""

    photos: tuple[PhotoName, ...] = get_args(PhotoName)
    """Which photographs to place."""
    backgrounds: tuple[Background, ...] = ("black", "grey")
    """What surrounds them: a canvas of this colour, endless under `infinite`. Grey is the network's mean colour."""
    size_px: int = 96
    """Height and width of a photograph on the canvas of 224 px."""
    offsets_px: tuple[int, ...] = (0, 15, 32, 49, 64, 79, 96, 113, 128)
    """Rows and columns of its upper left pixel, in all pairs; answers are compared with those at the middle one."""

    def __post_init__(self) -> None:
        room = SIZE_PX[0] - self.size_px
        if not self.photos or not self.backgrounds or len(set(self.offsets_px)) < 2:
            raise ConfigError(f"got {self}; needed: a photograph, a background, and two different offsets at least")
        if self.size_px < 1 or not all(0 <= offset <= room for offset in self.offsets_px):
            raise ConfigError(
                f"got offsets {self.offsets_px} for a photograph of {self.size_px} px; it must lie wholly on the "
                f"canvas of {SIZE_PX[0]} px: offsets 0 to {room}"
            )

    @classmethod
    def small(cls) -> "Config":
        return cls(photos=("cat", "coffee"), offsets_px=(0, 64, 113))


def cells(config: Config) -> list[Cell]:
    return [
        Cell(f"{photo}-{background}-{arm}", {"photo": photo, "background": background, "arm": arm})
        for background in config.backgrounds
        for photo in config.photos
        for arm in ARMS
    ]


def run_cell(config: Config, cell: Cell, folder: Path) -> dict[str, Any]:
    """The network's answers at every position. Probabilities and first places also go to maps.npz."""
    arm, photo = ARMS[cell.parameters["arm"]], cell.parameters["photo"]
    colour = normalise(torch.tensor(BRIGHTNESS[cell.parameters["background"]])).item()
    model = arm.of(_network(), colour)
    explanation = _explanation(arm)
    positions = torch.cartesian_prod(torch.tensor(config.offsets_px), torch.tensor(config.offsets_px))
    logits, seconds_per_image = answers(model, normalise(load_photo(photo, config.size_px)), positions, colour)
    n = len(config.offsets_px)
    right = torch.tensor(sorted(PHOTOS[photo].right))
    probability = logits.softmax(1)[:, right].sum(1)
    first = logits.argmax(1)
    np.savez_compressed(
        folder / "maps.npz",
        probability=probability.reshape(n, n).numpy(),
        first=first.reshape(n, n).numpy(),
        is_right=torch.isin(first, right).reshape(n, n).numpy(),
    )
    return {
        **summarise(logits, positions, reference=(n // 2) * n + n // 2),
        "probability_min": probability.min(),
        "probability_mean": probability.mean(),
        "probability_max": probability.max(),
        "right_share": torch.isin(first, right).double().mean(),
        "first_places": {class_names()[i]: int((first == i).sum()) for i in first.unique().tolist()},
        "macs": explanation.macs,
        "cost": explanation.cost,
        "receptive_field_px": max(explanation.receptive_field),
        "ms_per_image": 1000 * seconds_per_image,
    }


@cache
def _network() -> nn.Module:
    """Loaded once for all cells, and never changed: each arm converts a copy."""
    return load_packaged().requires_grad_(False)


@cache
def _explanation(arm: Arm) -> bl.Explanation:
    """Costs are the same for every photograph and background."""
    return arm.explained(_network(), SIZE_PX)


def draw(config: Config, results: list[Result], folder: Path) -> Section:
    keys = [key for key in results[0].metrics if key != "first_places"]
    write_csv(
        folder / "table.csv",
        ["photo", "background", "arm", *keys, "first_places"],
        [
            [
                *(r.cell.parameters[p] for p in ("photo", "background", "arm")),
                *(r.metrics[key] for key in keys),
                "; ".join(f"{name} {count}" for name, count in r.metrics["first_places"].items()),
            ]
            for r in results
        ],
    )
    found = {tuple(r.cell.parameters[p] for p in ("background", "arm", "photo")): r for r in results}
    groups = {
        background: {arm: [found[background, arm, photo].metrics for photo in config.photos] for arm in ARMS}
        for background in config.backgrounds
    }
    return Section(
        title="A photograph, everywhere",
        text=_story(config, groups),
        figures=[
            placed_object_figures.maps(
                folder / f"placed_object_{background}.png",
                {photo: _on_canvas(config, photo, background) for photo in config.photos},
                {
                    arm.title: [_maps(found[background, name, photo]) for photo in config.photos]
                    for name, arm in ARMS.items()
                },
                background,
                config.offsets_px,
            )
            for background in config.backgrounds
        ],
        tables=[_table(config, background, arms) for background, arms in groups.items()],
    )


def _on_canvas(config: Config, photo: str, background: str) -> np.ndarray:
    """The photograph at the middle position, height × width × 3."""
    canvas = torch.full((3, *SIZE_PX), BRIGHTNESS[background])
    first = config.offsets_px[len(config.offsets_px) // 2]
    canvas[:, first : first + config.size_px, first : first + config.size_px] = load_photo(photo, config.size_px)
    return canvas.permute(1, 2, 0).numpy()


def _maps(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """Probability of the right classes in percent, and whether one of them has the first place."""
    with np.load(result.folder / "maps.npz") as saved:
        return 100 * saved["probability"], saved["is_right"]


def _story(config: Config, groups: dict[str, dict[str, list[dict[str, Any]]]]) -> list[str]:
    receptive_field_px = next(iter(groups.values()))["own"][0]["receptive_field_px"]
    return [
        f"A photograph of {config.size_px} px stands at {len(config.offsets_px) ** 2} positions on an empty canvas of "
        f"{SIZE_PX[0]} px, wholly in sight each time. The network is EfficientNet-Lite0, trained on ImageNet by others "
        f"and not touched here. Offsets of {', '.join(map(str, config.offsets_px))} px are partly multiples of its "
        f"total stride, {TOTAL_STRIDE_PX} px, partly not.",
        "Under its own padding the same object gets different probabilities, and at times different names, depending "
        "on where it stands. Under <em>infinite</em> it gets the same answer wherever it moves by whole strides, and "
        "with an <em>adaptive phase</em> at every position, up to float rounding. <em>Reach</em> bounds how far "
        "feature maps may grow beyond the frame: it costs less and is not exact.",
        "The same answer is not always the right one. This network was trained with zero padding around every image "
        f"and has never seen what lies beyond. Its receptive field, {receptive_field_px} px, is larger than the "
        "canvas, so without that padding responses spread far outside the frame. Under <em>infinite</em> the global "
        "pool adds up more of them than it ever did in training; under <em>full</em> it averages over a far larger "
        "map. How much that matters depends on how the network answers to the emptiness around. "
        + " ".join(_in_words(background, arms) for background, arms in groups.items())
        + " To use these borders, train or fine-tune under them.",
    ]


def _in_words(background: str, arms: dict[str, list[dict[str, Any]]]) -> str:
    share = {name: f"{100 * np.mean([m['right_share'] for m in group]):.0f} %" for name, group in arms.items()}
    return (
        f"On {background} the first place is right in {share['own']} of the cases with its own padding, "
        f"{share['full']} with <em>full</em>, {share['infinite']} with <em>infinite</em>, "
        f"{share['infinite-adaptive']} with the adaptive phase, {share['infinite-reach1']} with reach 1."
    )


def _table(config: Config, background: str, arms: dict[str, list[dict[str, Any]]]) -> Table:
    rows: list[list[str | int | float]] = [
        [
            ARMS[name].title.replace("\n", " "),
            f"{100 * np.mean([m['probability_mean'] for m in group]):.0f}",
            f"{100 * max(m['probability_max'] - m['probability_min'] for m in group):.2g}",
            f"{100 * np.mean([m['right_share'] for m in group]):.0f}",
            " ".join(str(m["distinct_first_places"]) for m in group),
            _change(group, "change_whole_strides"),
            _change(group, "change_between"),
            f"{group[0]['macs'] / 1e9:.2f}",
            f"{group[0]['cost']:.1f}×",
            f"{np.median([m['ms_per_image'] for m in group]):.0f}",
        ]
        for name, group in arms.items()
    ]
    columns = ["probability, %", "spread, points", "right, %", "names", "change, whole strides", "change, between"]
    return Table(
        [f"on {background}", *columns, "10⁹ MACs", "cost", "ms an image"],
        rows,
        "Probability of the right classes, mean over positions and photographs; spread: its largest less its smallest "
        "over positions, for the worst photograph; right: positions at which a right class has the first place; names: "
        f"how many different classes have it, for {', '.join(config.photos)}; change: largest change of a logit "
        "against the middle position, relative to the largest logit, at positions whole strides "
        f"({TOTAL_STRIDE_PX} px) away and between; multiply-adds (MACs) an image, their multiple of own padding's, and "
        "the median time on this machine.",
    )


def _change(group: list[dict[str, Any]], key: str) -> str:
    values = [m[key] for m in group if m[key] is not None]
    return f"{max(values):.1g}" if values else "–"


EXPERIMENT = Experiment(
    name="placed-object",
    title="A photograph, everywhere",
    summary="A pretrained network and a photograph that moves over an empty canvas.",
    Config=Config,
    cells=cells,
    run_cell=run_cell,
    draw=draw,
)
