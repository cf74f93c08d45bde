"""Consistency and diagonal accuracy. Oracles: models whose answer is a known function of where the image stands."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import borderless as bl
from borderless.errors import ImageError
from borderless.measures.shift_consistency import PROTOCOLS, RANGE_PX


class Constant(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.tensor([[0.0, 1.0, 0.5]]).expand(len(images), -1)


class ReadsRow(nn.Module):
    """Class 1 if the brightest pixel is in an odd row."""

    def forward(self, images: Tensor) -> Tensor:
        row = images.flatten(1).argmax(1) // images.shape[3]
        return torch.stack([1 - row % 2, row % 2], 1).float()


def dots(count: int, size: int = 20) -> Tensor:
    """One bright pixel in the middle."""
    images = torch.zeros(count, 1, size, size)
    images[:, :, size // 2, size // 2] = 1
    return images


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_constant_is_consistent_and_right_where_its_label_is(protocol: str) -> None:
    labels = torch.tensor([1, 1, 0, 1])
    found = bl.consistency(Constant(), torch.rand(4, 3, 70, 70), labels, protocol, passes=2)
    assert (found.value, found.low, found.high, found.fidelity) == (1.0, 1.0, 1.0, 0.75)
    assert found.agrees.shape == (2, 4)
    along = bl.diagonal(Constant(), torch.rand(4, 3, 70, 70), labels, protocol)
    assert along.value == 0.75 and along.at.shape == (RANGE_PX[protocol] + 1,)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_answers_follow_the_offsets(protocol: str) -> None:
    """Rows agree if both offsets are odd or both even: half of them; at multiples of 2 all of them."""
    images = dots(300)
    found = bl.consistency(ReadsRow(), images, protocol=protocol, range_px=6)
    assert 0.46 < found.value < 0.54 and found.low < found.value < found.high
    assert found.fidelity is None
    even = bl.consistency(ReadsRow(), images, protocol=protocol, range_px=6, multiple_px=2)
    assert even.value == 1.0


def test_along_the_diagonal_the_answer_alternates() -> None:
    found = bl.diagonal(ReadsRow(), dots(3), torch.zeros(3, dtype=torch.long), "canvas", range_px=4)
    np.testing.assert_array_equal(found.at, [1, 0, 1, 0, 1])
    assert found.value == pytest.approx(0.6)


def test_crops_are_those_of_the_protocols() -> None:
    sizes = []

    class Spy(Constant):
        def forward(self, images: Tensor) -> Tensor:
            sizes.append(tuple(images.shape))
            return super().forward(images)

    bl.consistency(Spy(), torch.rand(2, 1, 256, 256), protocol="zhang2019", passes=1)
    bl.consistency(Spy(), torch.rand(2, 1, 288, 288), protocol="kayhan2020", passes=1)
    assert set(sizes) == {(2, 1, 224, 224)}
    first = torch.arange(64.0).reshape(1, 1, 8, 8)
    seen = []
    spy = nn.Module()
    spy.forward = lambda images: seen.append(images) or torch.zeros(1, 2)
    bl.diagonal(spy, first, torch.zeros(1, dtype=torch.long), range_px=3)
    for i, crop in enumerate(seen):
        assert torch.equal(crop, first[..., i : i + 5, i : i + 5])


def test_a_data_set_gives_what_a_tensor_gives() -> None:
    images, labels = dots(30), torch.arange(30) % 2
    expected = bl.consistency(ReadsRow(), images, labels, "canvas", range_px=5)
    found = bl.consistency(ReadsRow(), TensorDataset(images, labels), protocol="canvas", range_px=5, batch_size=7)
    assert np.array_equal(found.agrees, expected.agrees) and found.fidelity == expected.fidelity
    along = [
        bl.diagonal(ReadsRow(), images, labels, "canvas", range_px=5),
        bl.diagonal(ReadsRow(), TensorDataset(images, labels), protocol="canvas", range_px=5, batch_size=7),
    ]
    assert np.array_equal(along[0].at, along[1].at)
    with pytest.raises(ImageError, match="got images without labels"):
        bl.diagonal(ReadsRow(), images, range_px=5)


def test_offsets_are_an_images_own_and_come_from_the_seed() -> None:
    model, images = ReadsRow(), dots(40)
    one = bl.consistency(model, images, protocol="circular", seed=3)
    assert np.array_equal(one.agrees, bl.consistency(model, images, protocol="circular", seed=3, batch_size=7).agrees)
    assert np.array_equal(one.agrees[:, :10], bl.consistency(model, images[:10], protocol="circular", seed=3).agrees)
    assert not np.array_equal(one.agrees, bl.consistency(model, images, protocol="circular", seed=4).agrees)
    assert one.agrees.mean(1).min() > 0 and one.agrees.mean(1).max() < 1, "not one offset for all images"


def test_infinite_is_consistent_at_its_stride_and_with_an_adaptive_phase_everywhere() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten()
    )
    images = torch.rand(60, 3, 24, 24)

    def equal_share(border: str, phase: str, multiple_px: int) -> float:
        converted = bl.convert(model, border, phase=phase)
        return bl.consistency(converted, images, protocol="canvas", range_px=16, multiple_px=multiple_px).value

    assert equal_share("infinite", "fixed", 4) == 1.0
    assert equal_share("infinite", "adaptive", 1) == 1.0
    assert equal_share("infinite", "fixed", 1) < 1.0, "the stride is felt between"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"protocol": "mine"}, "Expected protocol to be one of zhang2019"),
        ({"range_px": 20}, "images larger than the offsets"),
        ({"range_px": 0}, "at least 1 but got"),
        ({"multiple_px": 0}, "at least 1 but got"),
        ({"passes": 0}, "Expected at least one"),
        ({"labels": torch.zeros(2)}, "one class number per image"),
        ({"images": torch.zeros(3, 1, 20, 20, dtype=torch.uint8)}, r"Expected a floating-point tensor \(N, C, H, W\)"),
        ({"model": nn.Identity()}, r"Expected logits of shape \(images, classes\)"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: dict[str, object], text: str) -> None:
    with pytest.raises(ImageError, match=text):
        bl.consistency(**{"model": Constant(), "images": dots(3), "range_px": 4} | arguments)
