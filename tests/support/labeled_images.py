"""Folders of labeled images in the formats that `data.labeled` reads."""

import gzip
from pathlib import Path

import numpy as np
from PIL import Image


def write_folder(root: Path, counts: dict[str, int], first: int = 0) -> Path:
    """Class folders of PNG and JPEG files; an image's red value is its number."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            kind = "png" if i % 2 else "JPEG"
            Image.new("RGB", (20, 16), (first + i, 100, 0)).save(root / name / f"{name}_{i}.{kind}")
    return root


def write_fashion_mnist(root: Path, counts: dict[str, int], packed: bool) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    for prefix, count in counts.items():
        images = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, cells in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
            head = bytes([0, 0, 8, cells.ndim]) + b"".join(n.to_bytes(4, "big") for n in cells.shape)
            data = head + cells.tobytes()
            (root / (name + ".gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)
    return root
