"""Red-Green images. Oracles: what the paper says of them, and the published draws, written out once more."""

import numpy as np
import pytest
import torch

from borderless.data.red_green import SIZES, red_green
from borderless.errors import DataError


def squares(image: torch.Tensor) -> dict[str, tuple[int, int]]:
    """(row, column) of the red and of the green square; each is 4 × 4."""
    found = {}
    for name, channel in (("red", image[0]), ("green", image[1])):
        rows, columns = channel.nonzero().T
        assert len(rows) == 16 and rows.max() - rows.min() == columns.max() - columns.min() == 3
        found[name] = (int(rows.min()), int(columns.min()))
    assert not image[2].any()
    return found


@pytest.mark.parametrize("protocol", ["clean", "published"])
def test_order_and_halves(protocol: str) -> None:
    data = red_green(3, protocol)
    for split, size, swapped in (
        (data.train, 2000, False),
        (data.validation, 1000, False),
        (data.similar, 1000, False),
        (data.dissimilar, 1000, True),
    ):
        assert len(split) == size and split.labels.tolist() == [0, 1] * (size // 2)
        for image, label in zip(split.images[:200], split.labels, strict=False):
            at = squares(image)
            assert (at["green"][1] - at["red"][1] >= 5) if label == 0 else (at["red"][1] - at["green"][1] >= 5)
            is_upper = all(3 <= row <= 10 for row, _ in at.values())
            is_lower = all(19 <= row <= 26 for row, _ in at.values())
            assert is_upper != is_lower and is_upper == ((label == 0) != swapped)


def test_the_dissimilar_set_is_the_similar_one_with_its_halves_swapped() -> None:
    data = red_green(0)
    assert torch.equal(data.dissimilar.images, data.similar.images.roll(16, dims=2))


def test_clean_splits_share_no_image_and_follow_the_seed() -> None:
    data, again, other = red_green(0), red_green(0), red_green(1)
    kept = [
        {image.numpy().tobytes() for image in split.images} for split in (data.train, data.validation, data.similar)
    ]
    assert not kept[0] & kept[1] and not kept[0] & kept[2] and not kept[1] & kept[2]
    assert torch.equal(data.train.images, again.train.images)
    assert not torch.equal(data.train.images, other.train.images)


def test_published_images_are_those_of_the_published_draws() -> None:
    draw = np.random.RandomState(1988)
    data = red_green(7, "published")
    for index in range(300):
        middle = (7, 23)[index % 2]
        left = draw.randint(28 / 2 - 4)
        row = draw.randint(-28 / 6, 28 / 6) + middle
        right, other_row = draw.randint(left, 28), draw.randint(-28 / 6, 28 / 6) + middle
        while abs(left - right) < 5:
            right, other_row = draw.randint(left, 28), draw.randint(-28 / 6, 28 / 6) + middle
        at = squares(data.train.images[index])
        first, second = ("red", "green") if index % 2 == 0 else ("green", "red")
        assert at == {first: (row, left), second: (other_row, right)}
    for split in (data.validation, data.similar):
        assert torch.equal(split.images, data.train.images[: len(split)])


def test_sizes_and_protocols() -> None:
    assert SIZES == {"train": 2000, "validation": 1000, "test": 1000}
    with pytest.raises(DataError, match="one of clean, published but got 'leaky'"):
        red_green(0, "leaky")
