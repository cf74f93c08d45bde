"""Patches: views of one spot that look alike, photographs of one split only, and the files of PhotoTour."""

from pathlib import Path

import numpy as np
import pytest
import torch

from borderless.data.patches import Matches, Pairs, from_photographs, from_phototour
from borderless.errors import DataError
from support.phototour import write_scene


def likeness(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Correlation of each pair of patches."""
    flat = [patches.flatten(1) - patches.flatten(1).mean(1, keepdim=True) for patches in (one, other)]
    return torch.nn.functional.cosine_similarity(*flat)


def test_two_views_of_a_spot_look_alike_and_other_spots_do_not() -> None:
    data = from_photographs(60, 60, seed=0)
    assert data.train.anchors.shape == (60, 1, 32, 32) and len(data.test) == 120
    for patches in (data.train.anchors, data.train.positives, data.test.first):
        assert patches.min() >= 0 and patches.max() <= 1
    matches = likeness(data.test.first, data.test.second).numpy()
    assert data.test.is_match.sum() == 60
    assert np.median(matches[data.test.is_match]) > 0.6 > 0.3 > np.median(matches[~data.test.is_match])
    assert likeness(data.train.anchors, data.train.positives).median() > 0.6
    assert not torch.equal(data.train.anchors, data.train.positives)


def test_more_pairs_begin_with_fewer_and_seeds_differ() -> None:
    few, more, other = (from_photographs(n, 20, seed) for n, seed in ((20, 0), (40, 0), (20, 1)))
    names = few.train.anchors
    assert torch.allclose(more.train.anchors[: len(names)], names, atol=1e-6)
    assert torch.equal(more.test.first, few.test.first)
    assert not torch.allclose(other.train.anchors, names)


def test_both_views_are_turned_alike_by_epoch_and_item() -> None:
    patches = torch.rand(3, 1, 32, 32)
    pairs = Pairs(patches, patches + 1)
    seen = set()
    for epoch in range(30):
        pairs.set_epoch(epoch)
        anchor, positive = pairs[1]
        assert torch.allclose(positive, anchor + 1)
        assert torch.equal(pairs[1][0], anchor)
        assert anchor.sum() == pytest.approx(float(patches[1].sum()), rel=1e-4)
        seen.add(anchor.numpy().tobytes())
    assert len(seen) == 8


def test_phototour_is_read_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"yosemite": 8, "notredame": 6, "liberty": 5}
    for name, points in sizes.items():
        write_scene(tmp_path, name, points)
    lens = {name: 3 * points for name, points in sizes.items()}
    monkeypatch.setattr("torchvision.datasets.PhotoTour.lens", lens)
    data = from_phototour(tmp_path, train=40, seed=0)
    assert len(data.train) == 40 and data.train.anchors.shape == (40, 1, 32, 32)
    spots = [(patches[:, 0, 0, 0] * 255).round().int() for patches in (data.train.anchors, data.train.positives)]
    assert torch.equal(spots[0] // 10, spots[1] // 10), "two patches of one point"
    assert (spots[0] != spots[1]).all(), "and not one patch twice"
    assert isinstance(data.test, Matches) and len(data.validation) == 18 and len(data.test) == 15
    points = [
        (patches[:, 0, 0, 0] * 255).round().int().numpy() // 10 for patches in (data.test.first, data.test.second)
    ]
    assert np.array_equal(data.test.is_match, points[0] == points[1])


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"folders yosemite, notredame, liberty .*without yosemite"):
        from_phototour(tmp_path, train=10, seed=0)
    (tmp_path / "yosemite").mkdir()
    with pytest.raises(DataError, match=r"Expected Brown patches but got .*cannot be read"):
        from_phototour(tmp_path, train=10, seed=0)
    with pytest.raises(DataError, match="at least two test pairs"):
        from_photographs(10, 4, seed=0)
