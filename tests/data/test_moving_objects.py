"""Scenes: the object where it should be, the photograph behind it, which moves with a crop and stays in a motion."""

import pytest
import torch

from borderless.data.labeled import Labeled
from borderless.data.moving_objects import OBJECT_PX, PlacedObjects, load_objects, photograph_split, scenes
from borderless.data.pictures import PHOTOGRAPHS

CANVAS_PX = 12


def made(**options: object) -> PlacedObjects:
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(6, 1, 4, 4, generator=draw) + 0.1
    images[:, :, 0, 0] = 0
    return scenes(Labeled(images, [0, 1, 2] * 2), CANVAS_PX, 0, **options)


def test_an_item_has_its_object_at_its_position_on_black() -> None:
    found = made()
    for i, (row, column) in enumerate(found.positions.tolist()):
        image, label = found[i]
        assert label == i % 3
        assert torch.equal(image[:, row : row + 4, column : column + 4], found.objects[i].expand(3, 4, 4))
        assert image.count_nonzero() == 3 * 15


def test_a_biased_training_has_its_objects_on_the_left() -> None:
    images = Labeled(torch.rand(200, 1, 4, 4), [0] * 200)
    for at, last in (("anywhere", 8), ("left", 2)):
        positions = scenes(images, CANVAS_PX, 0, at=at).positions
        assert positions.min(0).values.tolist() == [0, 0]
        assert positions.max(0).values.tolist() == [8, last]


@pytest.mark.parametrize("translation_px", [1, 100])
def test_translations_change_with_the_epoch_and_keep_the_object_whole(translation_px: int) -> None:
    still, moving = made(), made(translation_px=translation_px)
    corners = set()
    for epoch in range(30):
        moving.set_epoch(epoch)
        image, _ = moving[0]
        inside = image[0].nonzero()
        corners.add(tuple(inside.max(0).values.tolist()))
        assert torch.equal(image, moving[0][0])
        assert image.count_nonzero() == 3 * 15
    own = still[0][0][0].nonzero().max(0).values.tolist()
    away = [max(abs(a - b) for a, b in zip(own, corner, strict=True)) for corner in corners]
    assert len(corners) > 3 and 0 < max(away) <= translation_px


def test_a_photograph_moves_with_a_crop_and_stays_in_a_motion() -> None:
    pytest.importorskip("skimage")
    found = made(behind="photographs", names=PHOTOGRAPHS[:2])
    here, there = torch.tensor([0, 0]), torch.tensor([3, 5])
    one, two = found.cropped(here), found.cropped(there)
    assert torch.equal(one[..., :-3, :-5], two[..., 3:, 5:]), "object and photograph, shifted"
    own, moved = found.moved(found.positions[0])[0], found.moved(torch.tensor([8, 8]))[0]
    row, column = found.positions[0].tolist()
    differs = (own != moved).any(0)
    differs[8:, 8:] = differs[row : row + 4, column : column + 4] = False
    assert not differs.any(), "the photograph stays"
    assert torch.equal(own, found[0][0])
    assert torch.equal(moved[:, 9, 9], found.objects[0, :, 1, 1].expand(3))
    assert not torch.equal(moved[:, 8, 8], found.objects[0, :, 0, 0].expand(3)), "it shows through black"


def test_no_photograph_is_behind_two_splits() -> None:
    parts = photograph_split(3)
    assert sorted(name for part in parts for name in part) == sorted(PHOTOGRAPHS)
    assert photograph_split(3) == parts != photograph_split(4)


def test_tested_positions_go_from_edge_to_edge() -> None:
    assert made().tested_positions()[:6].tolist() == [[0, 0], [0, 2], [0, 4], [0, 6], [0, 8], [2, 0]]


def test_tiles_become_objects() -> None:
    pytest.importorskip("skimage")
    split = load_objects("tiles", None, 0)
    found = scenes(split.validation.few(1, 0), 48, 0)
    assert found.objects.shape == (16, 3, OBJECT_PX, OBJECT_PX)
    assert 0 <= found.objects.min() < found.objects.max() <= 1
