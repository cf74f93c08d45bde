"""Annotated pictures of squares, as files of COCO, VOC and masks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 60
Square = tuple[int, int, int, int]  # row, column, side, label


def draw(squares: list[Square], side: int = SIDE) -> np.ndarray:
    """A black picture (side, side, 3) with bright squares."""
    picture = np.zeros((side, side, 3), np.uint8)
    for row, column, size, _ in squares:
        picture[row : row + size, column : column + size] = 230
    return picture


def pictures(folder: Path, scenes: list[list[Square]], side: int = SIDE) -> Path:
    """Write a picture for each scene: 0.png, 1.png, …"""
    folder.mkdir(exist_ok=True)
    for i, squares in enumerate(scenes):
        Image.fromarray(draw(squares, side)).save(folder / f"{i}.png")
    return folder


def coco(path: Path, scenes: list[list[Square]], side: int = SIDE, **more: Any) -> Path:
    """Write a JSON file of instances, with polygons."""
    boxes = [(i, *square) for i, squares in enumerate(scenes) for square in squares]
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": side, "height": side} for i in range(len(scenes))],
        "categories": [{"id": 1, "name": "square"}, {"id": 2, "name": "tile"}],
        "annotations": [
            {
                "id": n,
                "image_id": i,
                "category_id": label,
                "bbox": [column, row, size, size],
                "area": size * size,
                "iscrowd": 0,
                "segmentation": [
                    [column, row, column + size, row, column + size, row + size, column, row + size],
                ],
            }
            for n, (i, row, column, size, label) in enumerate(boxes, 1)
        ],
    } | more
    path.write_text(json.dumps(content))
    return path


def voc(folder: Path, scenes: list[list[Square]], side: int = SIDE) -> Path:
    """Write an XML file for each scene; labels are names, and pixels count from 1."""
    folder.mkdir(exist_ok=True)
    for i, squares in enumerate(scenes):
        objects = "".join(
            f"<object><name>{('square', 'tile')[label - 1]}</name><difficult>0</difficult><bndbox>"
            f"<xmin>{column + 1}</xmin><ymin>{row + 1}</ymin><xmax>{column + size}</xmax><ymax>{row + size}</ymax>"
            "</bndbox></object>"
            for row, column, size, label in squares
        )
        (folder / f"{i}.xml").write_text(
            f"<annotation><filename>{i}.png</filename><size><width>{side}</width><height>{side}</height>"
            f"<depth>3</depth></size>{objects}</annotation>"
        )
    return folder


def masks(folder: Path, scenes: list[list[Square]], side: int = SIDE, foreground: int = 1) -> Path:
    """Write a mask for each scene."""
    folder.mkdir(exist_ok=True)
    for i, squares in enumerate(scenes):
        labels = np.zeros((side, side), np.uint8)
        for row, column, size, _ in squares:
            labels[row : row + size, column : column + size] = foreground
        Image.fromarray(labels).save(folder / f"{i}.png")
    return folder
