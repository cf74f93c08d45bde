"""The second tab: one filter learns the position of a rook under zero padding; under the chosen border it may not.

The set-up of Kayhan and van Gemert (CVPR 2020, figure 1).
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from borderless.data import rook
from borderless.data.drawings import ROOK_IMAGE_PX
from borderless.engine.border import BORDERS
from borderless.experiments.rook import RookConfig
from borderless.experiments.rook.experiment import Moment, training
from borderless.experiments.rook.film import SHOW
from borderless.playground.networks import DRAWING
from borderless.playground.panels import Lines, Picture, Row, Shown, feature_map
from borderless.report import plots

NAME, TITLE = "rook", "Rook"
LEAD = (
    "The same rook, upper left in one image and lower right in the other. The network is one filter, a ReLU and a "
    "global maximum. Can it learn which image is which? Press Play to watch the training."
)
EPOCHS = 100
COMPARED = "zero"
# Epochs that Play shows: most happens in the first ones.
_PLAYED = (*range(0, 20, 2), *range(20, EPOCHS, 10), EPOCHS)


def controls(gr: Any) -> dict[str, Any]:
    """Return the controls by their names in the page's address."""
    border = gr.Radio(list(BORDERS), value="infinite", label=f"Border, compared with {COMPARED}")
    with gr.Row():
        seed = gr.Slider(0, 9, value=0, step=1, label="Seed of the first weights")
        epoch = gr.Slider(0, EPOCHS, value=EPOCHS, step=1, label="Epoch", elem_id="epoch")
    return {"border": border, "seed": seed, "epoch": epoch}


@lru_cache(maxsize=16)
def history(border: str, seed: int) -> tuple[Moment, ...]:
    """Train, and return the moment before the training and after each epoch."""
    moments = training(RookConfig(epochs=EPOCHS), border, seed)
    with DRAWING:
        first = next(moments)
    return first, *moments


def shown(border: str, seed: float, epoch: float) -> Shown:
    """Return what the tab shows for the values of its controls."""
    at = int(epoch)
    borders = list(dict.fromkeys((COMPARED, border)))
    moments = {name: history(name, int(seed)) for name in borders}
    right = [f"{round(2 * moments[name][at].accuracy)} of 2 under {name}" for name in borders]
    sentence = f"Epoch {at} of {EPOCHS}, images classified correctly: {', '.join(right)}. Chance is 1 of 2."
    images = [
        Picture(
            f"Class {i + 1}: {where}",
            feature_map(pixels, SHOW, frame=ROOK_IMAGE_PX, low=0, high=1),
            f"a rook in the {where} corner",
            "gray: outside the image",
        )
        for i, (pixels, where) in enumerate(zip(rook.images()[:, 0].numpy(), rook.CLASSES, strict=True))
    ]
    loss = Lines("Loss by epoch", {name: [moment.loss for moment in moments[name]] for name in borders}, at)
    rows = [Row([*images, loss], "The two images")]
    return Shown(sentence, rows + [Row(_panels(moments[name][at]), name) for name in borders])


def _panels(moment: Moment) -> list[Picture]:
    largest = max(float(np.abs(moment.filter).max()), 1e-12)
    brightest = max(float(moment.maps.max()), 1e-6)
    height, width = moment.filter.shape
    weights = feature_map(moment.filter, (0, 0, height, width), low=-largest, high=largest, colors=plots.DIVERGING)
    maps = [
        Picture(
            f"Feature map of class {i + 1}",
            feature_map(
                values, SHOW, start=(moment.start[0], moment.start[1]), frame=ROOK_IMAGE_PX, low=0, high=brightest
            ),
            f"feature map of the image with the rook {where}",
            f"maximum {float(values.max()):.3f}",
        )
        for i, (values, where) in enumerate(zip(moment.maps, rook.CLASSES, strict=True))
    ]
    return [Picture("Filter", weights, "the weights of the filter", f"accuracy {100 * moment.accuracy:.0f} %"), *maps]


def frames(border: str, seed: float, _: float) -> Iterator[tuple[dict[str, Any], Shown]]:
    """Yield the epoch, and what is shown, through the training."""
    for played in _PLAYED:
        yield {"epoch": played}, shown(border, seed, played)


def code(border: str, seed: float, epoch: float) -> str:
    """Return a program that trains and prints the accuracies."""
    return f"""\
from borderless.experiments.rook import RookConfig
from borderless.experiments.rook.experiment import training

for border in {tuple(dict.fromkeys((COMPARED, border)))!r}:
    moments = list(training(RookConfig(epochs={EPOCHS}), border, seed={int(seed)}))
    print(f"{{border}}: {{100 * moments[{int(epoch)}].accuracy:.0f}} %, loss {{moments[{int(epoch)}].loss:.3f}}")
"""
