"""Small data sets in the format of PhotoTour, the Brown patches."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_scene(root: Path, name: str, points: int, views: int = 3) -> None:
    """The layout of the Brown patches: 16 × 16 patches of 64 px on each bmp, info.txt, a list of pairs."""
    folder = root / name
    folder.mkdir(parents=True)
    count = points * views
    sheet = np.zeros((1024, 1024), np.uint8)
    for i in range(count):
        row, column = divmod(i, 16)
        sheet[64 * row : 64 * row + 64, 64 * column : 64 * column + 64] = (10 * (i // views) + i % views) % 256
    Image.fromarray(sheet).save(folder / "patches0000.bmp")
    (folder / "info.txt").write_text("".join(f"{i // views} 0\n" for i in range(count)))
    pairs = [(i, (i + 1) % count) for i in range(count)]
    lines = [f"{a} {a // views} 0 {b} {b // views} 0 0\n" for a, b in pairs]
    (folder / "m50_100000_100000_0.txt").write_text("".join(lines))
