"""Draw the animation of the README: a photograph moves over a canvas, and a network says what it is.

`python docs/animation.py` (extra `demo`; two minutes on two cores) writes, into docs/images: moving_cup.webp, one
frame of it as moving_cup.png for readers who want no motion, and the numbers of every frame as moving_cup.csv.
"""

import csv
import math
from itertools import pairwise
from pathlib import Path

import matplotlib
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

import borderless as bl
from borderless.data.photos import load_photo
from borderless.models.packaged import class_names, load_packaged, normalize

HERE = Path(__file__).parent / "images"
CANVAS_PX, OBJECT_PX, FRAMES, FRAME_MS = 224, 96, 84, 90
# Colors that stay apart for most readers, on a card that is dark on a light and on a dark page.
CARD, INK, FAINT, ORANGE, BLUE = "#161b22", "#f0f3f6", "#9aa4ae", "#e69f00", "#56b4e9"
SCALE = 2


def positions() -> list[tuple[int, int]]:
    """Return a closed path of (row, column) that touches all four edges of the canvas."""
    room = (CANVAS_PX - OBJECT_PX) / 2
    turns = [2 * math.pi * frame / FRAMES for frame in range(FRAMES)]
    return [(round(room * (1 + math.sin(2 * t))), round(room * (1 + math.cos(t)))) for t in turns]


def canvases() -> Tensor:
    """Return the photograph at every position of a black canvas, (FRAMES, 3, CANVAS_PX, CANVAS_PX) in [0, 1]."""
    photo, images = load_photo("coffee", OBJECT_PX), torch.zeros(FRAMES, 3, CANVAS_PX, CANVAS_PX)
    for image, (row, column) in zip(images, positions(), strict=True):
        image[:, row : row + OBJECT_PX, column : column + OBJECT_PX] = photo
    return images


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor) -> list[tuple[str, float]]:
    """Return the predicted class and its probability for every image."""
    found = [model(normalize(batch)).softmax(1).max(1) for batch in images.split(7)]
    return [(class_names()[int(i)], float(p)) for part in found for p, i in zip(*part, strict=True)]


def draw(image: Tensor, frame: int, arms: list[tuple[str, str, list[tuple[str, float]]]]) -> Image.Image:
    """Draw one frame: the canvas at the left; at the right, for each arm, its prediction and those before."""
    card = Image.new("RGB", (860 * SCALE, 232 * SCALE), CARD)
    pen = ImageDraw.Draw(card)
    pixels = Image.fromarray((image.permute(1, 2, 0) * 255).byte().numpy())
    card.paste(pixels.resize((216 * SCALE, 216 * SCALE), Image.Resampling.LANCZOS), (8 * SCALE, 8 * SCALE))
    pen.rectangle([8 * SCALE - 1, 8 * SCALE - 1, 224 * SCALE, 224 * SCALE], outline=FAINT)
    for top, (title, color, predictions) in zip((6, 120), arms, strict=True):
        label, probability = predictions[frame]
        changes = sum(a[0] != b[0] for a, b in pairwise(predictions[: frame + 1]))
        write(pen, (244, top), title, 13.5, FAINT)
        write(pen, (244, top + 20), label, 26, color, bold=True)
        write(pen, (852, top + 24), f"{100 * probability:.0f} %", 22, INK, right=True)
        write(pen, (852, top), f"{changes} label change{'' if changes == 1 else 's'}", 13.5, INK, right=True)
        step, base = (852 - 244) / FRAMES, top + 104
        for at, (name, height) in enumerate(predictions[: frame + 1]):
            left = 244 + at * step
            box = [left * SCALE, (base - 48 * height) * SCALE, (left + step - 1) * SCALE, base * SCALE]
            pen.rectangle(box, fill=color if name == predictions[0][0] else INK)
        pen.line([244 * SCALE, base * SCALE, 852 * SCALE, base * SCALE], fill=FAINT)
    return card


def write(
    pen: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: float,
    color: str,
    *,
    bold: bool = False,
    right: bool = False,
) -> None:
    """Write `text` with its upper left, or upper right, corner at `at`."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    font = ImageFont.truetype(str(folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf"), size * SCALE)
    pen.text((at[0] * SCALE, at[1] * SCALE), text, color, font, anchor="ra" if right else "la")


def main() -> None:
    """Predict with both networks, and write animation, still and table."""
    model, images = load_packaged(), canvases()
    converted = bl.convert(model, "infinite", phase="adaptive", background=float(normalize(torch.zeros(()))))
    arms = [
        ("EfficientNet-Lite0 (ImageNet) with its original padding", ORANGE, predict(model, images)),
        ('the same weights after bl.convert(model, "infinite", phase="adaptive")', BLUE, predict(converted, images)),
    ]
    frames = [draw(image, number, arms) for number, image in enumerate(images)]
    frames[0].save(
        HERE / "moving_cup.webp",
        save_all=True,
        append_images=frames[1:],
        duration=[FRAME_MS] * (FRAMES - 1) + [2000],
        loop=0,
        quality=72,
        method=6,
    )
    frames[-1].quantize(64, dither=Image.Dither.NONE).save(HERE / "moving_cup.png", optimize=True)
    with (HERE / "moving_cup.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["row", "column", "original", "probability", "converted", "converted probability"])
        for position, own, other in zip(positions(), arms[0][2], arms[1][2], strict=True):
            table.writerow([*position, own[0], f"{own[1]:.4f}", other[0], f"{other[1]:.4f}"])


if __name__ == "__main__":
    main()
