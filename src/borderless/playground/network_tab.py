"""The network tab: a photograph moves over a canvas, before the original network and the same weights under a border.

Both are asked for one fixed label, the photograph's own, so that two maps can be compared.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from borderless.data import imagenet
from borderless.data.photos import PHOTOS, load_photo
from borderless.engine.border import BORDERS, PHASES
from borderless.models.choices import ARCHITECTURE
from borderless.playground.networks import (
    CANVAS_PX,
    OBJECT_PX,
    ROOM_PX,
    UNLIMITED,
    WEIGHTS,
    NetworkChoice,
    class_name,
    prepare,
)
from borderless.playground.panels import Bars, Picture, Row, Shown, feature_map
from borderless.report import plots
from borderless.report.numbers import percent
from borderless.report.overlay import overlay

NAME, TITLE = "network", "Network"
LEAD = (
    "A photograph on a gray canvas, seen by a network with its original padding and by the same weights under a "
    "border. Click where the photograph is to be, press Play to move it from left to right, compute both maps, or "
    "hide parts of the photograph (Occlusion map). The reach bounds how far feature maps grow: unlimited, the "
    "prediction is exactly the same everywhere, but weights "
    "that were trained with the original padding then recognize less until they are fine-tuned."
)
# Positions per axis: as many as fit into a quarter of a minute for the packaged network on two cores.
MAP_SIDE = 7
OFFSETS: tuple[int, ...] = tuple(np.linspace(0, ROOM_PX, MAP_SIDE).round().astype(int).tolist())
MIDDLE = (ROOM_PX // 2, ROOM_PX // 2)
_TOP = 4
_PLAYED_PX = 8
# Of a control, which goes below the one before it where there is less room.
_WIDE: Any = {"min_width": 280}
_MAP_PX = 24 * MAP_SIDE


def controls(gr: Any) -> dict[str, Any]:
    """Return the controls by their names in the page's address."""
    with gr.Row():
        photo = gr.Radio(list(PHOTOS), value="cat", label="Photograph", **_WIDE)
        border = gr.Radio(
            list(BORDERS), value="infinite", label="Border, compared with the original padding", min_width=280
        )
    with gr.Row():
        row = gr.Slider(0, ROOM_PX, value=0, step=4, label="Row of the photograph, px")
        column = gr.Slider(0, ROOM_PX, value=20, step=4, label="Column of the photograph, px", elem_id="column")
    with gr.Row():
        reach = gr.Radio(
            ["0", "2", "4", "8", UNLIMITED], value="2", label="Reach, cells (full and infinite)", min_width=280
        )
        phase = gr.Radio(list(PHASES), value="adaptive", label="Phase of strided layers", **_WIDE)
    with gr.Accordion("Another network", open=False):
        name, weights = network_controls(gr)
    return {
        "photo": photo,
        "border": border,
        "row": row,
        "column": column,
        "network": name,
        "weights": weights,
        "phase": phase,
        "reach": reach,
    }


def network_controls(gr: Any) -> tuple[Any, Any]:
    """Return the two controls that choose a network."""
    with gr.Row():
        name = gr.Textbox(
            ARCHITECTURE, label="Network: NAME, timm/NAME or torchvision/NAME", max_lines=1, min_width=280
        )
        weights = gr.Radio(
            list(WEIGHTS), value=WEIGHTS[0], label="Weights (default, pretrained: a download)", min_width=280
        )
    return name, weights


def clicked(down: float, right: float) -> dict[str, int]:
    """Return the position of the photograph whose middle is as near as possible to a click, at shares of the canvas."""
    return {
        name: min(max(round(share * CANVAS_PX - OBJECT_PX / 2), 0), ROOM_PX)
        for name, share in (("row", down), ("column", right))
    }


@dataclass(frozen=True)
class Label:
    """The classes that count as right, what they are called together, and what each is called."""

    classes: tuple[int, ...]
    name: str
    names: str

    def share(self, probabilities: torch.Tensor) -> float:
        """Return their probability, of (classes,)."""
        return float(probabilities[list(self.classes)].sum())


@lru_cache(maxsize=64)
def label_of(photo: str, original: NetworkChoice) -> Label:
    """Return the photograph's own label; for other than ImageNet's classes, what the original network sees."""
    probabilities = _asked(original, photo, (MIDDLE,))[0]
    right = PHOTOS[photo].right
    if class_name(next(iter(right)), len(probabilities)) in right.values():
        return Label(tuple(right), photo, ", ".join(right.values()))
    best = int(probabilities.argmax())
    return Label((best,), *2 * (class_name(best, len(probabilities)),))


def choices(border: str, name: str, weights: str, phase: str, reach: str) -> tuple[NetworkChoice, NetworkChoice]:
    """Return the network with its original padding, and under the border."""
    return NetworkChoice(name.strip(), weights), NetworkChoice(name.strip(), weights, border, phase, reach)


@lru_cache(maxsize=512)
def _asked(choice: NetworkChoice, photo: str, positions: tuple[tuple[int, int], ...]) -> torch.Tensor:
    """Return the probabilities (positions, classes)."""
    return prepare(choice).probabilities(photo, positions)


# Probabilities of the label, (MAP_SIDE, MAP_SIDE), with NaN where no row has been computed yet.
_MAPS: dict[tuple[NetworkChoice, str], np.ndarray] = {}
_MOST_MAPS = 64
_MAPS_LOCK = threading.Lock()


def growing_maps(photo: str, border: str, *network: str) -> Iterator[int]:
    """Compute both maps, row by row, and yield how many rows are done; `shown` shows what there is."""
    both = choices(border, *network)
    label = label_of(photo, both[0])
    for choice in both:
        with _MAPS_LOCK:
            while len(_MAPS) >= _MOST_MAPS:
                del _MAPS[next(iter(_MAPS))]
            _MAPS.setdefault((choice, photo), np.full((MAP_SIDE, MAP_SIDE), np.nan))
    for i, row in enumerate(OFFSETS):
        for choice in both:
            found = _MAPS.get((choice, photo))
            if found is not None and np.isnan(found[i]).any():
                positions = tuple((row, column) for column in OFFSETS)
                found[i] = [label.share(p) for p in _asked(choice, photo, positions)]
        yield i + 1


# For a network, a photograph and its position: how much the probability of its label drops at each pixel.
_HIDDEN: dict[tuple[NetworkChoice, str, tuple[int, int]], np.ndarray] = {}


def hide(photo: str, border: str, row: float, column: float, *network: str) -> None:
    """Compute the occlusion map of the network with its original padding; `shown` shows it."""
    original, position = choices(border, *network)[0], (int(row), int(column))
    label, found = label_of(photo, original), prepare(original).hidden(photo, position)
    chosen = list(label.classes)
    likely = replace(found, outputs=found.outputs[..., chosen].sum(-1), whole=found.whole[chosen].sum())
    with _MAPS_LOCK:
        while len(_HIDDEN) >= _MOST_MAPS:
            del _HIDDEN[next(iter(_HIDDEN))]
        _HIDDEN[original, photo, position] = likely.per_pixel().numpy()


def shown(photo: str, border: str, row: float, column: float, *network: str) -> Shown:
    """Return what the tab shows for the values of its controls."""
    position = (int(row), int(column))
    both = choices(border, *network)
    label = label_of(photo, both[0])
    pairs = [_asked(choice, photo, (MIDDLE, position)) for choice in both]
    return _shown(photo, border, position, label, both, pairs)


def _shown(
    photo: str,
    border: str,
    position: tuple[int, int],
    label: Label,
    both: Sequence[NetworkChoice],
    pairs: Sequence[torch.Tensor],
) -> Shown:
    """Pairs: of each network, the probabilities (2, classes) in the middle and at `position`."""
    titles = ("Original padding", f"{border}, {both[1].phase} phase")
    shares = [[label.share(p) for p in pair] for pair in pairs]
    sentence = (
        f"The probability of {label.name} here: {percent(shares[0][1])} with the original padding "
        f"({percent(shares[0][0])} in the middle), {percent(shares[1][1])} under {border} ({percent(shares[1][0])} in "
        "the middle)."
    )
    panels: list[Any] = [
        Picture(
            "Canvas",
            canvas(photo, position),
            f"a photograph ({photo}) on a gray canvas; click to move it",
            f"row {position[0]}, column {position[1]} px",
            is_clickable=True,
        )
    ]
    for title, pair in zip(titles, pairs, strict=True):
        best = pair[1].topk(min(_TOP, pair.shape[1]))
        bars = [
            (class_name(int(index), pair.shape[1]), float(value))
            for value, index in zip(best.values, best.indices, strict=True)
        ]
        both_best = {int(index) for index in pair.argmax(1)}
        is_kept = len(both_best) == 1 or both_best <= set(label.classes)
        panels.append(Bars(title, bars, "as in the middle" if is_kept else "another class than in the middle"))
    heat = _HIDDEN.get((both[0], photo, position))
    if heat is not None:
        panels.append(_occlusion(heat, photo, position, label))
    rows = [Row(panels)]
    notes = [note for choice in both for note in prepare(choice).notes]
    maps = [_MAPS.get((choice, photo)) for choice in both]
    if all(found is not None for found in maps):
        known = np.concatenate([found[~np.isnan(found)] for found in maps if found is not None])
        limits = (float(known.min(initial=1.0)), float(known.max(initial=0.0)))
        pictures = [
            _map(title, found, limits, position) for title, found in zip(titles, maps, strict=True) if found is not None
        ]
        heading = (
            f"The probability of {label.names} at each position: violet is {percent(limits[0])}, yellow "
            f"{percent(limits[1])}"
        )
        rows.append(Row(pictures, heading))
    return Shown(" ".join([sentence, *dict.fromkeys(notes)]), rows)


def _occlusion(heat: np.ndarray, photo: str, position: tuple[int, int], label: Label) -> Picture:
    largest, smallest = float(np.nanmax(heat)), float(np.nanmin(heat))
    image = overlay(np.asarray(canvas(photo, position)) / 255, heat, max(largest, -smallest))
    note = f"hidden, {label.name} loses up to {percent(largest)} (red) or gains up to {percent(-smallest)} (blue)"
    return Picture("Occlusion map, original padding", image, f"heat map over the photograph: {note}", note)


def _map(title: str, found: np.ndarray, limits: tuple[float, float], position: tuple[int, int]) -> Picture:
    box = (0, 0, MAP_SIDE, MAP_SIDE)
    image = feature_map(found, box, low=limits[0], high=limits[1], colors=plots.SEQUENTIAL)
    image = image.resize((_MAP_PX, _MAP_PX), Image.Resampling.NEAREST)
    row, column = (_MAP_PX * (at / ROOM_PX * (MAP_SIDE - 1) + 0.5) / MAP_SIDE for at in position)
    draw = ImageDraw.Draw(image)
    draw.ellipse((column - 8, row - 8, column + 8, row + 8), outline="black", width=4)
    draw.ellipse((column - 7, row - 7, column + 7, row + 7), outline="white", width=2)
    known = found[~np.isnan(found)]
    note = f"{percent(known.min())} to {percent(known.max())}; circle: here" if known.size else "not computed yet"
    return Picture(title, image, f"map of probabilities, {note}", note)


def frames(photo: str, border: str, row: float, _: float, *network: str) -> Iterator[tuple[dict[str, Any], Shown]]:
    """Yield the column, and what is shown, from the left edge of the canvas to the right one."""
    both = choices(border, *network)
    label = label_of(photo, both[0])
    columns = range(0, ROOM_PX + 1, _PLAYED_PX)
    # All at once: positions share most of the work.
    positions = (MIDDLE, *((int(row), at) for at in columns))
    every = [_asked(choice, photo, positions) for choice in both]
    for i, at in enumerate(columns, start=1):
        pairs = [probabilities[[0, i]] for probabilities in every]
        yield {"column": at}, _shown(photo, border, (int(row), at), label, both, pairs)


def canvas(photo: str, position: tuple[int, int]) -> Image.Image:
    """Return the photograph on a canvas of ImageNet's mean color, CANVAS_PX wide."""
    pixels = torch.tensor(imagenet.MEAN).reshape(3, 1, 1).repeat(1, CANVAS_PX, CANVAS_PX)
    row, column = position
    pixels[:, row : row + OBJECT_PX, column : column + OBJECT_PX] = load_photo(photo, OBJECT_PX)
    return Image.fromarray((255 * pixels).permute(1, 2, 0).round().to(torch.uint8).numpy())


def code(photo: str, border: str, row: float, column: float, name: str, weights: str, phase: str, reach: str) -> str:
    """Return a program that prints the label's probability for both networks, in the middle and here."""
    original, chosen = choices(border, name, weights, phase, reach)
    label = label_of(photo, original)
    bound = reach if reach != UNLIMITED and border in ("full", "infinite") else None
    given = None if weights == "random" else weights
    seeded = "torch.manual_seed(0)\n" if weights == "random" else ""
    return f"""\
import torch

import borderless as bl
from borderless.data.photos import load_photo
from borderless.models.preprocessing import normalization

{seeded}model = bl.models.load({chosen.name!r}, {given!r})
converted = bl.convert(model, bl.Border({border!r}, {phase!r}, reach={bound}))
mean, deviation = (torch.tensor(values)[:, None, None] for values in normalization({chosen.name!r}, {weights!r}))
photo = (load_photo({photo!r}, {OBJECT_PX}) - mean) / deviation
positions = [{MIDDLE}, ({int(row)}, {int(column)})]  # the middle, and here

for network in (model, converted):
    logits = bl.place(network, photo, positions, canvas=({CANVAS_PX}, {CANVAS_PX}))
    print(logits.softmax(1)[:, {list(label.classes)}].sum(1))  # {label.names}
"""
