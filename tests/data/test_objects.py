"""Tiles of photographs as objects on a canvas."""

import numpy as np
import pytest
import torch

from borderless.data.choices import OBJECT_PX
from borderless.data.objects import edges, on_canvas, photograph_tiles, training_objects

pytest.importorskip("skimage")


def test_no_tile_is_in_two_splits_and_the_seed_decides() -> None:
    split, same, other = (photograph_tiles(seed) for seed in (0, 0, 1))
    parts = (split.train, split.validation, split.test)
    assert [len(part) for part in parts] == [320, 96, 160]
    assert all(np.bincount(part.labels).tolist() == [len(part) // 16] * 16 for part in parts)
    tiles = [tile.tobytes() for part in parts for tile in part.images]
    assert len(set(tiles)) > 0.95 * len(tiles)  # of the sky, some tiles are alike
    assert np.array_equal(split.test.images, same.test.images)
    assert not np.array_equal(split.test.images, other.test.images)


def test_an_object_is_the_same_wherever_it_stands() -> None:
    tiles = photograph_tiles(0).test
    middle, label = on_canvas(tiles, 64)[7]
    assert middle.shape == (3, 64, 64)
    places = edges(64)
    assert len(set(places)) == 8 and (8, 8) not in places
    for top, left in places:
        image, same = on_canvas(tiles, 64, (top, left))[7]
        assert same == label
        assert torch.equal(image[:, top : top + OBJECT_PX, left : left + OBJECT_PX], middle[:, 8:56, 8:56])
        assert (image == 0).all(0).sum() >= 64**2 - OBJECT_PX**2


def test_moved_objects_are_anywhere() -> None:
    tiles = training_objects(photograph_tiles(0).train, 64, moves=True)
    corners = set()
    for epoch in range(12):
        tiles.set_epoch(epoch)
        inside = tiles[3][0].any(0).nonzero()
        corners.add(tuple(inside.min(0).values.tolist()))
        assert (inside.max(0).values - inside.min(0).values).tolist() == [OBJECT_PX - 1] * 2
    assert len(corners) > 6


def test_in_training_the_window_moves_with_the_epoch() -> None:
    tiles = training_objects(photograph_tiles(0).train, 64, moves=False)
    first = tiles[3][0]
    assert torch.equal(tiles[3][0], first)
    tiles.set_epoch(1)
    assert not torch.equal(tiles[3][0], first)
