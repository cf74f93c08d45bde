"""Uneven padding by integers, blind spots by gradients."""

import pytest
import torch
from torch import nn

from borderless.errors import ImageError
from borderless.measures.uneven_padding import UnevenPadding, even_sizes, influence, uneven_padding
from support.planted import network


@pytest.mark.parametrize(
    ("size", "after"),
    [(32, 0), (31, None), (33, None), (30, 0)],
)
def test_a_stride_that_does_not_come_out_even(size: int, after: int | None) -> None:
    model = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    found = uneven_padding(model, (size, 33), channels=3)
    wanted = [] if after is None else [UnevenPadding("", "conv2d", "rows", size, 1, after)]
    assert list(found) == wanted


def test_cells_that_are_left_unread_are_negative_padding() -> None:
    (found,) = uneven_padding(nn.Sequential(nn.MaxPool2d(3)), (14, 15), channels=1)
    assert (found.axis, found.before, found.after) == ("rows", 0, -2)


def test_the_nearest_sizes_without_uneven_padding() -> None:
    model = network()  # two convolutions of stride 2
    assert uneven_padding(model, (32, 32), 3)
    assert even_sizes(model, (32, 32), 3) == [33, 29, 37]
    for side in (33, 29, 37):
        assert not uneven_padding(model, (side, side), 3)


def test_sizes_that_the_model_cannot_take_are_passed_over() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 3, stride=2))
    assert even_sizes(model, (7, 7), 3, most=2, within=4) == [7, 11]


def test_a_blind_spot_is_found_at_its_rows() -> None:
    pooled = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with torch.no_grad():
        pooled[0].weight[:, :, 2] = 0  # looks at its own row and the one above
    found = influence(pooled, torch.rand(8, 1, 18, 16))
    # Rows 16 and 17 are in no window of the pool, and the convolution does not carry them upwards.
    assert (found.unread_rows, found.unread_columns) == ([16, 17], [])
    whole = influence(pooled, torch.rand(8, 1, 16, 16))
    assert (whole.unread_rows, whole.unread_columns) == ([], [])


def test_influence_is_one_in_the_middle_of_an_even_handed_network() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    found = influence(model, torch.rand(2, 1, 6, 9))
    assert found.rows == pytest.approx(1)
    assert found.columns == pytest.approx(1)


def test_a_model_without_a_tensor_to_ask_about() -> None:
    class Two(nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return images, images

    with pytest.raises(ImageError, match="Expected one tensor but got tuple from Two"):
        influence(Two(), torch.rand(1, 1, 4, 4))
