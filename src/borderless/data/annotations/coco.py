"""Read the JSON files of COCO (instances), with pycocotools."""

import contextlib
import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from borderless.data.annotations.objects import (
    IGNORED,
    Annotation,
    Annotations,
    BoxedObjects,
    PictureNames,
    check_size,
    numbers_of,
)
from borderless.errors import DataError
from borderless.measures.detection_zones import coco_api
from borderless.runtime.files import printable

_NEEDED = ("images", "annotations", "categories")


def read_coco(path: Path, names: PictureNames, class_names: Sequence[str]) -> Annotations:
    """Return the objects of a file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"Expected a JSON file of COCO but got {printable(path)}, which cannot be read ({error})."
        ) from error
    lacking = [key for key in _NEEDED if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if lacking:
        raise DataError(
            f"Expected a JSON file of COCO with lists of {', '.join(_NEEDED)} but got {printable(path)} without "
            f"{', '.join(lacking)}; give a file of instances."
        )
    api = coco_api()()
    api.dataset = content
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            api.createIndex()
        known = {int(one["id"]): str(one.get("name", one["id"])) for one in content["categories"]}
        numbers = numbers_of(known, class_names)
        left_out: list[str] = []
        pictures = list(_of_coco(api, content, names, numbers, left_out))
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"Expected annotations of COCO in {printable(path)} but an entry lacks or misuses {error}; check how it "
            "was written."
        ) from error
    return Annotations("COCO", tuple(pictures), {numbers[i]: name for i, name in known.items()}, tuple(left_out))


def _of_coco(
    api: Any, content: dict[str, Any], names: PictureNames, numbers: Mapping[int, int], left_out: list[str]
) -> Iterator[Annotation]:
    strange = sorted({one["category_id"] for one in content["annotations"]} - set(numbers))
    if strange:
        raise DataError(
            f"Expected the classes of annotations among the file's categories but got {strange[0]}, which is not "
            "there; add it, or leave its annotations out."
        )
    known = {one["id"] for one in content["images"]}
    homeless = [one["id"] for one in content["annotations"] if one["image_id"] not in known]
    if homeless:
        left_out.append(f"{len(homeless)} annotations of pictures that the file does not list (id {homeless[0]})")
    for picture in content["images"]:
        name = names.find(str(picture["file_name"]))
        if name is None:
            left_out.append(f"{printable(str(picture['file_name']))}: not in the folder")
            continue
        own = api.imgToAnns.get(picture["id"], [])
        found = BoxedObjects(name, (float(picture["width"]), float(picture["height"])), left_out)
        for one in own:
            left, top, width, height = (float(at) for at in one["bbox"])
            box = (left, top, left + width, top + height)
            found.add(box, numbers[one["category_id"]], bool(one.get("iscrowd")))
        has_masks = any(one.get("segmentation") for one in own)
        yield found.found(_coco_mask(api, picture, own, numbers, name) if has_masks or not own else None)


def _coco_mask(
    api: Any, picture: dict[str, Any], own: list[dict[str, Any]], numbers: Mapping[int, int], name: str
) -> Callable[[tuple[int, int]], np.ndarray]:
    """Return what draws the masks of a picture's objects into one, the smallest on top."""

    def draw(size: tuple[int, int]) -> np.ndarray:
        width, height = int(picture["width"]), int(picture["height"])
        check_size(name, size, (width, height))
        labels = np.zeros((height, width), int)
        drawn: list[tuple[int, np.ndarray, int]] = []
        for one in own:
            try:
                # pycocotools 2.0.11 passes NumPy 2 an array without the keyword copy.
                with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
                    where = np.asarray(api.annToMask(one), bool)
            except Exception as error:  # pycocotools raises all sorts of errors for broken polygons
                raise DataError(
                    f"{printable(name)}: the mask of annotation {one['id']} is broken ({type(error).__name__})"
                ) from error
            label = IGNORED if one.get("iscrowd") else numbers[one["category_id"]]
            drawn.append((int(where.sum()), where, label))
        for _, where, label in sorted(drawn, key=lambda part: -part[0]):
            labels[where] = label
        return labels

    return draw
