"""Read what people annotated on pictures: COCO's JSON files, Pascal VOC's XML files, and folders of masks.

A box, a mask or a file that cannot be used is left out and named with its reason; a file that contradicts itself is
refused.
"""

from collections.abc import Sequence
from pathlib import Path

from borderless.data.annotations.coco import read_coco
from borderless.data.annotations.masks import read_masks
from borderless.data.annotations.objects import Annotations, PictureNames
from borderless.data.annotations.voc import read_voc
from borderless.data.items import IMAGE_SUFFIXES
from borderless.errors import DataError
from borderless.runtime.files import printable

_MASK_SUFFIXES = (*IMAGE_SUFFIXES, ".gif")


def read_annotations(path: Path | str, names: Sequence[str], class_names: Sequence[str] = ()) -> Annotations:
    """Read annotations in whichever of the three formats they are.

    Args:
        path: A JSON file of COCO (instances), a folder with XML files of VOC, or a folder of masks, whose pixels are
            labels and which are called like their pictures.
        names: The pictures, relative to their folder.
        class_names: In the order of the network's labels, from 0 on. Without them COCO's categories are labels as they
            are numbered, and the classes of VOC are numbered from 1 on in the order of the alphabet.

    Raises:
        DataError: There is no such file or folder, it is of another format or contradicts itself, or nothing in it
            belongs to the pictures.
        MissingPackage: A JSON file without pycocotools.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.is_file())
        if any(one.suffix.lower() == ".xml" for one in files):
            return _checked(
                read_voc([one for one in files if one.suffix.lower() == ".xml"], PictureNames(names), class_names)
            )
        found = [one for one in files if one.suffix.lower() in _MASK_SUFFIXES]
        if found:
            return _checked(read_masks(path, found, names, class_names))
        raise DataError(f"Expected XML files or masks in {printable(path)} but got none; check the path.")
    if path.suffix.lower() != ".json" or not path.is_file():
        what = "which does not exist" if not path.exists() else "a file of another kind"
        raise DataError(
            f"Expected a JSON file of COCO, a folder with XML files of VOC, or a folder of masks but got "
            f"{printable(path)}, {what}; check the path."
        )
    return _checked(read_coco(path, PictureNames(names), class_names))


def _checked(found: Annotations) -> Annotations:
    why = f" ({found.left_out[0]})" if found.left_out else ""
    if not found.pictures:
        raise DataError(
            f"Expected annotations of the pictures in the folder but got none that fit{why}; check that they belong "
            "together."
        )
    if found.has_boxes and not any(len(one.boxes) for one in found.pictures):
        raise DataError(
            f"Expected annotated objects but got {len(found.pictures)} pictures without any{why}; give a file with "
            "objects."
        )
    return found
