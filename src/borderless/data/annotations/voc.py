"""Read folders with XML files of Pascal VOC, with torchvision."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from borderless.data.annotations.objects import Annotation, Annotations, BoxedObjects, PictureNames, numbers_of
from borderless.runtime.files import printable


def read_voc(files: Sequence[Path], names: PictureNames, class_names: Sequence[str]) -> Annotations:
    """Return the objects of files."""
    from torchvision.datasets import VOCDetection  # seconds to import

    read: list[tuple[Path, dict[str, Any]]] = []
    left_out: list[str] = []
    for file in files:
        try:
            content = VOCDetection.parse_voc_xml(ElementTree.parse(file).getroot())["annotation"]
            objects = content.setdefault("object", [])
            kinds = {str(one["name"]) for one in objects}
            sizes = [float(content["size"][axis]) for axis in ("width", "height")]
            boxes = [[float(one["bndbox"][at]) for at in ("xmin", "ymin", "xmax", "ymax")] for one in objects]
            read.append((file, {**content, "kinds": kinds, "sizes": sizes, "boxes": boxes}))
        except (ElementTree.ParseError, KeyError, TypeError, ValueError, OSError) as error:
            left_out.append(f"{printable(file.name)}: no annotation of VOC ({type(error).__name__}: {error})")
    every = sorted({kind for _, content in read for kind in content["kinds"]})
    numbers = numbers_of(dict(enumerate(every, 1)), class_names)
    label = {name: numbers[i] for i, name in enumerate(every, 1)}
    pictures: list[Annotation] = []
    for file, content in read:
        name = names.find(str(content.get("filename") or file.stem)) or names.find(file.stem)
        if name is None:
            left_out.append(f"{printable(file.name)}: its picture is not in the folder")
            continue
        found = BoxedObjects(name, (content["sizes"][0], content["sizes"][1]), left_out)
        for one, (left, top, right, bottom) in zip(content["object"], content["boxes"], strict=True):
            # VOC counts pixels from 1, and the last one belongs to the box.
            box = (max(left - 1, 0.0), max(top - 1, 0.0), right, bottom)
            found.add(box, label[str(one["name"])], one.get("difficult") == "1")
        pictures.append(found.found())
    return Annotations("VOC", tuple(pictures), {label[name]: name for name in every}, tuple(left_out))
