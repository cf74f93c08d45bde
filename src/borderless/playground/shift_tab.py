"""The first tab: convolve and shift, shift and convolve. Are they the same under this border?

Shapes: the letter F, 8 × 8, on an image of 24 × 24.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from borderless.conversion import convert
from borderless.data.drawings import LETTER, LETTER_IMAGE_PX
from borderless.data.letter import on_plane, scene
from borderless.engine.border import BORDERS
from borderless.measures.equivariance import empty_response, relative_difference
from borderless.playground.panels import Picture, Row, Shown, feature_map
from borderless.report import plots
from borderless.report.numbers import percent

NAME, TITLE = "shift", "Shift"
LEAD = (
    "Convolve, then shift, or shift, then convolve: is it the same? Click into the image to move the letter, choose a "
    "border, and press Play."
)
ROOM_PX = LETTER_IMAGE_PX - LETTER.shape[0]
FILTERS: dict[str, np.ndarray] = {
    "corner": np.outer(np.arange(5), np.arange(5)) / 40,
    "edge": np.repeat([[-1.0, -1.0, 0.0, 1.0, 1.0]], 5, axis=0) / 10,
    "mean": np.full((5, 5), 1 / 25),
}
# (rows, columns) of one step.
DIRECTIONS = {
    "↖": (-1, -1),
    "↑": (-1, 0),
    "↗": (-1, 1),
    "←": (0, -1),
    "→": (0, 1),
    "↙": (1, -1),
    "↓": (1, 0),
    "↘": (1, 1),
}
# Differences below this are rounding.
_EXACT = 1e-5
_AROUND_PX = 4
_SHOW = (-_AROUND_PX, -_AROUND_PX, LETTER_IMAGE_PX + _AROUND_PX, LETTER_IMAGE_PX + _AROUND_PX)


@dataclass(frozen=True)
class Comparison:
    """Feature maps on the plane, (56, 56), in both orders.

    Attributes:
        shift: Rows and columns by which the letter moved, after what leaves the image was cut off.
        convolved_first: Convolved, then shifted.
        shifted_first: Shifted, then convolved.
        difference: The largest difference, relative to the largest value.
    """

    shift: tuple[int, int]
    convolved_first: np.ndarray
    shifted_first: np.ndarray
    difference: float


def controls(gr: Any) -> dict[str, Any]:
    """Return the controls by their names in the page's address."""
    border = gr.Radio(list(BORDERS), value="zero", label="Border")
    with gr.Row():
        direction = gr.Radio(list(DIRECTIONS), value="↖", label="Direction of the shift", scale=3, min_width=300)
        shift = gr.Slider(0, ROOM_PX, value=ROOM_PX // 2, step=1, label="Shift, px", scale=2, min_width=240)
    with gr.Accordion("Filter and position", open=False):
        with gr.Row():
            name = gr.Radio(
                list(FILTERS), value="corner", label="Filter of both layers, with a ReLU between them", min_width=300
            )
            bias = gr.Slider(0, 1, value=0, step=0.25, label="Bias of both layers")
        with gr.Row():
            row = gr.Slider(0, ROOM_PX, value=ROOM_PX // 2, step=1, label="Row of the letter, px")
            column = gr.Slider(0, ROOM_PX, value=ROOM_PX // 2, step=1, label="Column of the letter, px")
    return {
        "border": border,
        "direction": direction,
        "shift": shift,
        "filter": name,
        "bias": bias,
        "row": row,
        "column": column,
    }


def clicked(down: float, right: float) -> dict[str, int]:
    """Return the position of the letter whose middle is as near as possible to a click, at shares of the image."""
    return {
        name: min(max(round(share * LETTER_IMAGE_PX - LETTER.shape[0] / 2), 0), ROOM_PX)
        for name, share in (("row", down), ("column", right))
    }


def compare(
    border: str, direction: str, shift: float, filter_name: str, bias: float, row: float, column: float
) -> Comparison:
    """Convolve and shift, shift and convolve.

    A shift that would leave the image ends at its edge; one that could not even begin goes the other way.
    """
    position = (int(row), int(column))
    moved = _moved(position, DIRECTIONS[direction], int(shift))
    if moved == (0, 0):  # the letter stands at the edge already
        moved = _moved(position, DIRECTIONS[direction], -int(shift))
    layers = _twice(filter_name, bias)
    with torch.no_grad():
        model = convert(layers, border, output="signal")  # pyright: ignore[reportArgumentType]
        before, after = model(scene(position)), model(scene((position[0] + moved[0], position[1] + moved[1])))
        empty = empty_response(layers)
    first = np.roll(on_plane(before, empty), moved, (0, 1))
    second = on_plane(after, empty)
    return Comparison(moved, first, second, relative_difference(first, second, max(float(np.abs(first).max()), 1e-12)))


def _moved(position: tuple[int, int], steps: tuple[int, int], shift: int) -> tuple[int, int]:
    """Return by how many rows and columns the letter can move and stay in the image."""
    row, column = (min(max(at + shift * step, 0), ROOM_PX) - at for at, step in zip(position, steps, strict=True))
    return row, column


def shown(*values: Any) -> Shown:
    """Return what the tab shows for the values of its controls."""
    border, position = values[0], (int(values[5]), int(values[6]))
    found = compare(*values)
    largest = max(float(np.abs(found.convolved_first).max()), 1e-12)
    is_exact = found.difference < _EXACT
    if found.shift == (0, 0):
        sentence = "Nothing has moved yet: choose a larger shift, or press Play."
    elif is_exact:
        sentence = f"Under {border} both orders agree (difference {percent(found.difference)}): position has no effect."
    else:
        sentence = (
            f"Under {border} the two orders differ by {percent(found.difference)} of the largest value: the output "
            "depends on the position."
        )
    down, right = found.shift
    margin = (found.convolved_first.shape[0] - LETTER_IMAGE_PX) // 2

    def picture(title: str, pixels: np.ndarray, limit: float, note: str = "") -> Picture:
        image = feature_map(
            pixels,
            _SHOW,
            start=(-margin, -margin),
            frame=(LETTER_IMAGE_PX, LETTER_IMAGE_PX),
            low=-limit,
            high=limit,
            colors=plots.DIVERGING,
        )
        return Picture(title, image, f"{title}, a feature map; red is positive, blue is negative", note)

    panels = [
        Picture(
            "Image",
            _drawn(position, (position[0] + down, position[1] + right)),
            "the letter F, and in orange where it is shifted to; click to move it",
            f"shift {down:+d} rows, {right:+d} columns",
            is_clickable=True,
        ),
        picture("Convolve, then shift", found.convolved_first, largest, "dashed: the image"),
        picture("Shift, then convolve", found.shifted_first, largest),
        picture(
            "Difference",
            found.convolved_first - found.shifted_first,
            largest,  # the same colors as the maps: a small difference looks small
            f"at most {percent(found.difference)}" if not is_exact else "rounding only",
        ),
    ]
    return Shown(sentence, [Row(panels)], "plain" if found.shift == (0, 0) else "good" if is_exact else "bad")


def frames(*values: Any) -> Iterator[tuple[dict[str, Any], Shown]]:
    """Yield the shift, and what is shown, pixel by pixel."""
    border, direction, shift, *others = values
    for step in range((int(shift) or ROOM_PX // 2) + 1):
        yield {"shift": step}, shown(border, direction, step, *others)


def code(*values: Any) -> str:
    """Return a program that prints the tab's number."""
    border, _, _, name, bias, row, column = values
    down, right = compare(*values).shift
    kernel = np.array2string(FILTERS[name], separator=", ", precision=4).replace("\n", "\n" + " " * 22)
    return f'''\
import torch
from torch import nn

import borderless as bl
from borderless.data.letter import on_plane, scene

kernel = torch.tensor({kernel})
layers = nn.Sequential(nn.Conv2d(1, 1, 5, padding=2), nn.ReLU(), nn.Conv2d(1, 1, 5, padding=2))
for layer in (layers[0], layers[2]):
    nn.init.constant_(layer.bias, {float(bias)})
    layer.weight.data[:] = kernel
model = bl.convert(layers, "{border}", output="signal")

with torch.no_grad():
    empty = layers(torch.zeros(1, 1, 33, 33))[0, 0, 16, 16]  # far from any edge

    def on_plane(position):
        """The feature map on a plane of 56 × 56, less the output for an empty image."""
        signal = model(scene(position))
        window = signal.window[0, 0] - empty
        plane = torch.zeros(56, 56)
        top, left = (16 + start for start in signal.start)
        plane[top : top + window.shape[0], left : left + window.shape[1]] = window
        return plane

    convolved_first = on_plane(({int(row)}, {int(column)})).roll(({down}, {right}), (0, 1))
    shifted_first = on_plane(({int(row) + down}, {int(column) + right}))
print(f"{{(convolved_first - shifted_first).abs().max() / convolved_first.abs().max():.3g}}")
'''


def _drawn(position: tuple[int, int], target: tuple[int, int]) -> Image.Image:
    """Draw the letter in white, and where it is shifted to in orange."""
    letter, moved = (255 * scene(at)[0, 0].numpy() for at in (position, target))
    pixels = np.stack([np.maximum(letter, share * moved) for share in (0.88, 0.33, 0.11)], -1).astype(np.uint8)
    return Image.fromarray(np.kron(pixels, np.ones((10, 10, 1), np.uint8)))


def _twice(filter_name: str, bias: float) -> nn.Sequential:
    """Return the filter, a ReLU, the filter again: the second layer meets what the first has made of the background."""
    layers = nn.Sequential(nn.Conv2d(1, 1, 5, padding=2), nn.ReLU(), nn.Conv2d(1, 1, 5, padding=2))
    with torch.no_grad():
        for name, parameter in layers.named_parameters():
            kernel = torch.from_numpy(FILTERS[filter_name])[None, None]
            parameter.copy_(kernel if name.endswith("weight") else torch.tensor([float(bias)]))
    return layers
