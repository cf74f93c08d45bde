import pytest
import torch
from torch.nn import functional as F

from borderless.data.digits import Digits, PlacedDigits, all_positions, load_digits, place_digits, split_digits


@pytest.fixture(scope="module")
def digits() -> Digits:
    return load_digits()


def test_all_digits_are_there(digits: Digits) -> None:
    assert digits.images.shape == (1797, 14, 14)
    assert digits.images.min() == 0
    assert 0.9 < digits.images.max() <= 1
    assert digits.labels.unique().tolist() == list(range(10))
    assert len(digits) == 1797


def test_split_is_disjoint_stratified_and_seeded(digits: Digits) -> None:
    # Each digit's number written into its pixels shows where it went.
    numbered = Digits(torch.arange(1797.0)[:, None, None].expand(-1, 2, 2), digits.labels)
    split = split_digits(numbered, seed=3)
    parts = [split.train, split.validation, split.test]
    assert [len(part) for part in parts] == [1077, 360, 360]
    went = torch.cat([part.images[:, 0, 0] for part in parts])
    assert went.sort().values.tolist() == list(range(1797))
    for part in parts:
        assert torch.equal(part.labels, digits.labels[part.images[:, 0, 0].long()])
        share = part.labels.bincount() / len(part)
        torch.testing.assert_close(share, digits.labels.bincount() / 1797, atol=0.005, rtol=0)
    again, other = split_digits(numbered, seed=3), split_digits(numbered, seed=4)
    assert torch.equal(again.test.images, split.test.images)
    assert not torch.equal(other.test.images, split.test.images)


@pytest.mark.parametrize("fractions", [(0.6, 0.2, 0.3), (0.5, 0.5, 0.0), (1.0,)])
def test_wrong_fractions_are_refused(digits: Digits, fractions: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="three positive numbers that add up to 1"):
        split_digits(digits, seed=0, fractions=fractions)


def test_there_are_361_places() -> None:
    places = all_positions()
    assert places.shape == (361, 2)
    assert places[0].tolist() == [0, 0]
    assert places[1].tolist() == [0, 1]  # row by row
    assert places[-1].tolist() == [18, 18]
    assert all_positions((5, 7), 4).shape == (2 * 4, 2)
    with pytest.raises(ValueError, match="Expected a canvas at least as large as a digit"):
        all_positions((13, 32))


def test_a_placed_digit_is_a_padded_digit(digits: Digits) -> None:
    images = digits.images[:6]
    positions = torch.tensor([[0, 0], [18, 18], [3, 11], [18, 0], [0, 18], [7, 7]])
    placed = place_digits(images, positions)
    assert placed.shape == (6, 1, 32, 32)
    for image, found, (row, column) in zip(images, placed, positions.tolist(), strict=True):
        assert torch.equal(found[0], F.pad(image, (column, 18 - column, row, 18 - row)))
    assert torch.equal(place_digits(images, (3, 11))[2], placed[2])


@pytest.mark.parametrize("position", [(-1, 0), (0, 19)])
def test_a_digit_that_sticks_out_is_refused(position: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"wholly on the canvas \(32, 32\), at rows 0 to 18 and columns 0 to 18"):
        place_digits(torch.ones(2, 14, 14), position)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"of shape \(2,\), or \(4, 2\) .*but got \(3, 2\)"):
        place_digits(torch.ones(4, 14, 14), torch.zeros(3, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"shape \(n, height, width\) but got \(4, 1, 14, 14\)"):
        place_digits(torch.ones(4, 1, 14, 14), (0, 0))


def test_digits_stand_in_the_corner_or_in_each_epoch_elsewhere() -> None:
    digits = load_digits()
    corner, everywhere = (PlacedDigits(digits, flag, seed=3) for flag in (False, True))
    image, label = corner[7]
    assert torch.equal(image[0, :14, :14], digits.images[7])
    assert label == digits.labels[7]

    def place(index: int, epoch: int) -> tuple[int, int]:
        everywhere.set_epoch(epoch)
        image, _ = everywhere[index]
        found = [
            (row, column)
            for row, column in all_positions().tolist()
            if torch.equal(image[0, row : row + 14, column : column + 14], digits.images[index])
        ]
        assert (image != 0).sum() == (digits.images[index] != 0).sum()
        return found[0]

    assert place(7, 0) == place(7, 0)
    assert len({place(index, epoch) for index in (7, 8) for epoch in range(4)}) > 5
