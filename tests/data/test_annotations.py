"""COCO's JSON, VOC's XML and masks, written here, are read alike; what is wrong with them is named."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from borderless.data.annotated import annotated_pictures
from borderless.data.annotations import read_annotations
from borderless.data.pictures import from_folder
from borderless.errors import DataError
from support.scenes import SIDE, Square, coco, masks, pictures, voc

pytest.importorskip("pycocotools")
SCENES: list[list[Square]] = [[(0, 4, 10, 1), (30, 20, 12, 1)], [(20, 50, 10, 2)], []]
NAMES = ["0.png", "1.png", "2.png"]


def test_coco_and_voc_say_the_same_and_masks_are_those_of_the_polygons(tmp_path: Path) -> None:
    of_coco = read_annotations(coco(tmp_path / "coco.json", SCENES), NAMES)
    of_voc = read_annotations(voc(tmp_path / "voc", SCENES), NAMES)
    assert of_coco.class_names == of_voc.class_names == {1: "square", 2: "tile"}
    assert of_coco.left_out == of_voc.left_out == ()
    for one, other in zip(of_coco.pictures, of_voc.pictures, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.boxes, other.boxes)
        np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(of_coco.pictures[0].boxes, [[4, 0, 14, 10], [20, 30, 32, 42]])
    assert of_coco.has_masks and not of_voc.has_masks
    of_masks = read_annotations(masks(tmp_path / "masks", SCENES), NAMES)
    for one, other in zip(of_coco.pictures, of_masks.pictures, strict=True):
        assert one.mask is not None and other.mask is not None
        found = one.mask((SIDE, SIDE))
        np.testing.assert_array_equal(found > 0, other.mask((SIDE, SIDE)) == 1)
        assert set(np.unique(found)) <= {0, 1, 2}


def test_labels_are_the_networks_when_its_names_are_given(tmp_path: Path) -> None:
    names = ["background", "tile", "square"]
    for path in (coco(tmp_path / "coco.json", SCENES), voc(tmp_path / "voc", SCENES)):
        found = read_annotations(path, NAMES, names)
        assert found.pictures[0].labels.tolist() == [2, 2]
        assert found.class_names == {1: "tile", 2: "square"}
        with pytest.raises(DataError, match="Expected the annotated classes among the network's but got tile"):
            read_annotations(path, NAMES, ["background", "square"])


def test_foreground_and_void_of_masks(tmp_path: Path) -> None:
    alone = read_annotations(masks(tmp_path / "one", SCENES, foreground=255), NAMES).pictures[0].mask
    assert alone is not None and set(np.unique(alone((SIDE, SIDE)))) == {0, 1}
    folder = masks(tmp_path / "two", SCENES, foreground=3)
    void = np.zeros((SIDE, SIDE), np.uint8)
    void[:5] = 255
    Image.fromarray(void).save(folder / "2.png")
    found = read_annotations(folder, NAMES).pictures[2].mask
    assert found is not None and set(np.unique(found((SIDE, SIDE)))) == {-1, 0}


BOX = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [4, 4, 10, 10]}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"annotations": [BOX | {"bbox": [70, 4, 10, 10]}, BOX | {"id": 2}]}, "box 70 4 80 14 has no pixel in"),
        ({"annotations": [BOX | {"bbox": [4, 4, 0, 10]}, BOX | {"id": 2}]}, "box 4 4 4 14 has no pixel in"),
        ({"annotations": [BOX | {"bbox": [50, 4, 20, 10]}]}, "reaches beyond the picture of 60 × 60 px; clipped"),
        ({"annotations": [BOX, BOX | {"id": 2, "image_id": 9}]}, "1 annotations of pictures that the file does not"),
        ({"images": [{"id": i, "file_name": f"{3 * i}.png", "width": 60, "height": 60} for i in (0, 1)]}, "3.png: not"),
    ],
)
def test_what_is_left_out_of_coco_is_named(tmp_path: Path, more: dict[str, Any], told: str) -> None:
    found = read_annotations(coco(tmp_path / "coco.json", SCENES, **more), NAMES)
    assert any(told in line for line in found.left_out)
    assert len(found.pictures[0].boxes) >= 1
    assert all((one.boxes <= SIDE).all() for one in found.pictures)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"annotations": [BOX | {"category_id": 7}]}, "among the file's categories but got 7"),
        ({"annotations": []}, "Expected annotated objects but got 3 pictures without any"),
        ({"annotations": {}}, "without annotations; give a file of instances"),
        ({"annotations": [{"id": 1, "image_id": 0, "category_id": 1}]}, "lacks or misuses 'bbox'"),
        ({"images": [{"id": 0, "file_name": "none.png", "width": 60, "height": 60}]}, "but got none that fit"),
    ],
)
def test_a_file_of_coco_that_contradicts_itself_is_refused(tmp_path: Path, more: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_annotations(coco(tmp_path / "coco.json", SCENES, **more), NAMES)


def test_other_files_are_refused_and_broken_ones_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.json").write_text("{")
    for name, told in (("none.json", "does not exist"), ("empty", "Expected XML files"), ("torn.json", "cannot be re")):
        with pytest.raises(DataError, match=told):
            read_annotations(tmp_path / name, NAMES)
    folder = voc(tmp_path / "voc", SCENES)
    (folder / "2.xml").write_text("<annotation><object>")
    (line,) = read_annotations(folder, NAMES).left_out
    assert line.startswith("2.xml: no annotation of VOC (ParseError")


def test_broken_masks_are_named_and_the_others_used(tmp_path: Path) -> None:
    found = from_folder(pictures(tmp_path / "pictures", [*SCENES, []]), 4, 30)
    folder = masks(tmp_path / "masks", [*SCENES, []])
    (folder / "1.png").write_bytes(b"no picture")
    Image.new("L", (SIDE, SIDE + 1)).save(folder / "2.png")
    Image.new("RGB", (SIDE, SIDE)).save(folder / "3.png")
    told: list[str] = []
    (image,) = annotated_pictures(found, folder).read(told, with_masks=True)
    assert image.name == "0.png"
    assert image.image.shape == (3, 30, 30)
    assert image.pixels is not None and image.pixels.shape == (30, 30)
    told = sorted(told)
    assert told[0].startswith("1.png: the mask is broken (Unidentified")
    assert told[1].startswith("2.png: 60 × 60 px but annotated at 60 × 61 px")
    assert told[2].startswith("3.png: a mask of mode RGB, not one label for each pixel")
    path = coco(tmp_path / "coco.json", SCENES)
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = [[1, 2]]
    path.write_text(json.dumps(content))
    told = []
    known = annotated_pictures(found, path)
    assert len([*known.read(told, with_masks=True)]) == 2
    assert [line.split(" (")[0] for line in told] == ["0.png: the mask of annotation 1 is broken"]
    assert len([*known.read([])]) == 3  # boxes need no mask


def test_boxes_are_resized_with_their_picture_and_objects_cut_around_them(tmp_path: Path) -> None:
    found = from_folder(pictures(tmp_path / "pictures", SCENES), 3, 120, mean=(0, 0, 0), deviation=(1, 1, 1))
    known = annotated_pictures(found, coco(tmp_path / "coco.json", SCENES))
    images = {one.name: one for one in known.read([])}
    np.testing.assert_array_equal(images["1.png"].boxes, [[100, 40, 120, 60]])
    bright = images["1.png"].image[0, 42:58, 102:118]
    assert bright.min() > 0.85
    objects = known.objects(50, 8)
    assert objects.shape == (2, 3, 25, 25)  # a quarter larger than the middle one of the objects
    assert (objects[:, 0].amax((1, 2)) > 0.85).all()
    assert objects[:, 0].mean((1, 2)).min() > 0.4
