"""Maps whose spatial axes change places: what is known of each axis goes along."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import borderless as bl
from support.bodies import CHANNELS, noise, seeded
from support.endless_plane import assert_as_on_a_huge_canvas

ROWS, COLUMNS = noise(CHANNELS, CHANNELS, 5, 3), noise(CHANNELS, CHANNELS, 1, 3)


def there(a: Tensor, b: Tensor) -> Tensor:
    """Stays transposed: a kernel that is not square, on axes of unlike length."""
    return F.conv2d((a * b).transpose(2, 3), ROWS, padding=(2, 0))


def there_and_back(a: Tensor, b: Tensor) -> Tensor:
    """One kernel along both axes, and a skip."""
    along_rows = F.conv2d(a.mT, COLUMNS, padding=(0, 1)).relu().permute(0, 1, 3, 2)
    return F.conv2d(along_rows, COLUMNS, padding=(0, 1)) + b


def channels_last(a: Tensor, b: Tensor) -> Tensor:
    """(N, W, H, C), channels mixed there, and back."""
    mixed = F.linear((a + b).permute(0, 3, 2, 1), noise(CHANNELS, CHANNELS))
    return mixed.permute(0, 3, 2, 1) * b


def strided(a: Tensor, b: Tensor) -> Tensor:
    """Strides of 2 and 1 on the transposed map, and means over all of space."""
    coarse = F.conv2d(a.mT, ROWS, stride=(2, 1), padding=(2, 1))
    return (coarse * coarse.mean((2, 3), keepdim=True).sigmoid() * b.mean((2, 3), keepdim=True)).mT


def stacked(a: Tensor, b: Tensor) -> Tensor:
    """The batch moves at the same time."""
    return F.relu((a - b).permute(3, 1, 0, 2) * 2).permute(2, 1, 3, 0)


@pytest.mark.parametrize("body", [there, there_and_back, channels_last, strided, stacked])
def test_as_the_unmodified_model_and_on_a_huge_canvas(body) -> None:
    images, model = noise(2, 3, 12, 16), seeded(body)
    assert torch.equal(bl.convert(model, "zero")(images), model(images))
    for border in ("full", "reflect", "replicate", "circular"):
        assert bl.convert(model, border)(images).shape == model(images).shape
    if body is not strided:
        signal = assert_as_on_a_huge_canvas(model, images, 32, 1)
        assert signal.lattice.axes == ((1, 0) if body is there else None)


@pytest.mark.parametrize("border", ["circular", "infinite"])
@pytest.mark.parametrize("body", [there, there_and_back, channels_last, strided])
def test_adaptive_phase_moves_with_the_object(border, body) -> None:
    """All of the object is in the frame, and as far from its edge as the network reads."""

    def on_coarse_maps(a: Tensor, b: Tensor) -> Tensor:
        return body(F.max_pool2d(a, 2), F.avg_pool2d(b, 2)).square().mean((2, 3))

    model = bl.convert(seeded(on_coarse_maps), border, phase="adaptive")
    images = torch.zeros(2, 3, 64, 72, dtype=torch.float64)
    images[0, :, 20:27, 24:29] = images[1, :, 25:32, 35:40] = noise(3, 7, 5)
    first, second = model(images)
    torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("border", ["zero", "infinite"])
@pytest.mark.parametrize("body", [there, there_and_back, strided])
def test_place_and_tiles_give_the_whole(border, body) -> None:
    model = bl.convert(seeded(body).eval(), border)
    patch, positions, canvas = noise(3, 5, 4), [(0, 0), (4, 7)], (16, 20)
    images = torch.zeros(2, 3, *canvas, dtype=torch.float64)
    for image, (row, column) in zip(images, positions, strict=True):
        image[:, row : row + 5, column : column + 4] = patch
    whole = model(images)
    torch.testing.assert_close(bl.place(model, patch, positions, canvas), whole)
    if border == "zero":
        torch.testing.assert_close(bl.tile(seeded(body), images[1], tile=8), whole[1])


def test_total_strides_are_those_of_the_images_axes() -> None:
    model = seeded(lambda a, b: F.avg_pool2d(F.avg_pool2d(a, (3, 1)).mT, (2, 1)).mT.sum((2, 3)))
    assert tuple(bl.explain(model, (12, 16), "infinite").total_stride) == (3, 2)


def test_a_map_does_not_join_its_transpose() -> None:
    images = noise(1, 3, 12, 12)
    for body in (lambda a, b: a + a.mT, lambda a, b: torch.cat([a, b.permute(0, 1, 3, 2)], 1)):
        with pytest.raises(bl.UnsupportedOperation, match="different lattices"):
            bl.convert(seeded(body), "infinite")(images)


def test_a_vector_of_cells_reads_position_as_it_does_elsewhere() -> None:
    class Flattens(nn.Module):
        """As RNet of facenet_pytorch: width before height, as in the framework that its weights come from."""

        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4 * 30, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.convolution(x).permute(0, 3, 2, 1).contiguous()
            return self.linear(x.view(x.shape[0], -1))

    model, images = Flattens().double(), noise(2, 3, 7, 8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for border in ("zero", "infinite"):
            torch.testing.assert_close(bl.convert(model, border)(images), model(images), rtol=1e-12, atol=0)
    assert all("a weight for each position" in str(warning.message) for warning in caught) and len(caught) == 2


def test_a_change_in_place_is_not_lost() -> None:
    def changed(a: Tensor, b: Tensor) -> Tensor:
        a.mT.mul_(2)
        return a * b

    model, images = seeded(changed), noise(1, 3, 8, 9)
    with torch.no_grad():
        assert torch.equal(bl.convert(model, "zero")(images), model(images))
        with pytest.raises(bl.UnsupportedOperation, match=r"\.clone\(\)"):
            bl.convert(model, "infinite")(images)
