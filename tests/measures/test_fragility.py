"""Small changes of an image: JPEG is Pillow's, noise is as strong, a shift is one pixel; predictions are counted."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from borderless.measures.fragility import fragility, jpeg, scene


def test_jpeg_is_pillows_on_the_range_of_the_values() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    levels[0, 0], levels[0, 1] = 0, 255
    data = io.BytesIO()
    Image.fromarray(levels).save(data, format="JPEG", quality=50)
    wanted = torch.from_numpy(np.asarray(Image.open(data)).astype(np.float32)).permute(2, 0, 1)
    found = jpeg(torch.from_numpy(levels).permute(2, 0, 1).float() * 2 - 7)
    torch.testing.assert_close(found, wanted * 2 - 7)
    assert torch.equal(jpeg(torch.full((1, 8, 8), 3.0)), torch.full((1, 8, 8), 3.0))


class ByColumn(nn.Module):
    """Predict the parity of the column of the brightest pixel, and count the images."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        column = images[:, 0].amax(1).argmax(1)
        return torch.nn.functional.one_hot(column % 2, 2).float()


def test_a_shift_by_one_pixel_is_counted_and_noise_is_as_strong_as_jpeg() -> None:
    photographs = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    objects = torch.zeros(2, 1, 4, 4)
    objects[:, :, 1, 1] = 50
    model = ByColumn()
    found = fragility(model, objects, (6, 6), photographs, batch_size=5)
    # Six of the eight directions change the column, by one.
    assert (found.one_pixel.value, found.one_pixel.low, found.one_pixel.objects) == (0.75, 0.75, 2)
    assert found.jpeg.value == found.noise.value == 0  # the pixel stays the brightest
    images = torch.cat(model.seen)
    first, compressed, noise = images[0], images[1], images[2:6]
    assert torch.equal(first, scene(objects[0], photographs[0], (6, 6)))
    strength = (compressed - first).square().mean().sqrt()
    torch.testing.assert_close((noise - first).square().mean().sqrt(), strength, rtol=0.1, atol=0)
    assert len(images) == 2 * (1 + 1 + 4 + 8)


def test_at_an_edge_there_are_fewer_directions() -> None:
    model = ByColumn()
    fragility(model, torch.rand(1, 1, 4, 4), (0, 0), torch.rand(1, 1, 16, 16))
    assert len(torch.cat(model.seen)) == 1 + 1 + 4 + 3
