"""Outputs by the distance of a pixel from the edge, against a loop over pixels."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from borderless.errors import ImageError
from borderless.measures.comparisons import Labels
from borderless.measures.edge_effect import Rings, padding_effect, views


def images() -> Tensor:
    return torch.rand(3, 1, 16, 20, generator=torch.Generator().manual_seed(0))


def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Conv2d(1, 3, 5, padding=2).eval()


def test_two_crops_are_compared_pixel_by_pixel() -> None:
    network, given = model(), images()
    found = views(network, given, Labels(), (2, 2), batch_size=2)
    assert found.shift_px == (4, 4)
    height, width = 12, 16
    sums, cells, seen = np.zeros((3, 6)), np.zeros((3, 6)), dict.fromkeys(range(3), 0)
    for pair in (((0, 0), (4, 4)), ((0, 4), (4, 0))):
        labels = []
        for top, left in pair:
            with torch.no_grad():
                labels.append(network(given[:, :, top : top + height, left : left + width]).argmax(1))
        for row in range(4, 12):
            for column in range(4, 16):
                inside = [(row - top, column - left) for top, left in pair]
                far = [min(r, c, height - 1 - r, width - 1 - c) for r, c in inside]
                if far[0] == far[1]:
                    continue
                one, other = (found[:, r, c] for found, (r, c) in zip(labels, inside, strict=True))
                sums[:, min(far)] += (one != other).numpy()
                cells[:, min(far)] += 1
                for label in (one if far[0] > far[1] else other).tolist():
                    seen[label] += 1
    assert not cells[:, 4:].any()  # the crops have no pixel in common that is further inside both
    np.testing.assert_array_equal(found.rings.sums, sums[:, :4])
    np.testing.assert_array_equal(found.rings.cells, cells[:, :4])
    total = sum(seen.values())
    assert {one.index: round(one.share * total) for one in found.classes} == {k: n for k, n in seen.items() if n}


def test_the_padding_is_what_a_huge_canvas_does_not_have() -> None:
    network, given = model(), images()
    found = padding_effect(network, given, Labels(), batch_size=2)
    with torch.no_grad():
        huge = network(nn.functional.pad(given, [9] * 4))[:, :, 9:-9, 9:-9].argmax(1)
        differs = (network(given).argmax(1) != huge).numpy()
    assert not differs.any()  # zeros around zeros: an image on a background of 0 has that padding already
    assert found.depth_px(0) == 0
    biased = nn.Sequential(nn.Conv2d(1, 4, 1), model_of_four()).eval()
    with torch.no_grad():
        plain, wide = biased(given), biased(nn.functional.pad(given, [9] * 4))[:, :, 9:-9, 9:-9]
    differs = (plain.argmax(1) != wide.argmax(1)).numpy()
    found = padding_effect(biased, given, Labels(), batch_size=2)
    assert found.sums.sum() == differs.sum() > 0
    assert found.depth_px(0) <= 2


def model_of_four() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Conv2d(4, 3, 5, padding=2)


def test_rings_are_summed_over_images_and_distances() -> None:
    rings = Rings(2, np.array([[4.0, 1.0, 0.0], [0.0, 1.0, 0.0]]), np.array([[4, 4, 1], [4, 4, 1]]))
    assert rings.by_distance.tolist() == [0.5, 0.25, 0.0]
    assert rings.depth_px(0.01) == 4
    assert rings.between(0, 4)[0] == 6 / 16
    assert np.isnan(rings.between(6, 8)[0])


def test_images_need_room_for_two_crops_whole_strides_apart() -> None:
    with pytest.raises(ImageError, match=r"Needs images of more than two total strides, 16 × 16 px"):
        views(model(), images(), Labels(), (8, 8))
