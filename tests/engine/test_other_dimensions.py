"""Maps of which not every dimension after the channels is space, and maps without channels."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import borderless as bl
from support.bodies import CHANNELS, noise, seeded
from support.endless_plane import assert_as_on_a_huge_canvas

OVER_CHANNELS = noise(2, 1, 3, 3, 5)  # (out, in, channels, height, width)


def over_channels(a: Tensor, b: Tensor) -> Tensor:
    """A 3-D kernel slides over channels too, with zeros around them; as in ChannelNet."""
    maps = F.conv3d((a * b)[:, None], OVER_CHANNELS, noise(2), stride=(2, 1, 1), padding=(1, 1, 2))
    return F.max_pool3d(maps.tanh(), 3, 1, 1).flatten(1, 2)


def averages_over_channels(a: Tensor, b: Tensor) -> Tensor:
    maps = F.avg_pool3d((a + b).unsqueeze(1), (2, 3, 3), 1, (1, 1, 1), count_include_pad=False)
    return F.batch_norm(maps, noise(1), noise(1).exp()).squeeze(1) * 2


def single_frame(a: Tensor, b: Tensor) -> Tensor:
    """A clip of one frame, (N, C, 1, H, W)."""
    return F.conv3d(a[:, :, None], noise(CHANNELS, CHANNELS, 3, 3, 3), padding=1).squeeze(2) + b


def without_channels(a: Tensor, b: Tensor) -> Tensor:
    """As non-maximum suppression of scores (N, H, W)."""
    scores = (a * b).sum(1)
    return (scores - F.max_pool2d(scores, 5, 1, 2)).unsqueeze(1)


def averages_without_channels(a: Tensor, b: Tensor) -> Tensor:
    return F.avg_pool2d((a * b).mean(1), 3, 1, 1)[:, None]


BODIES = [over_channels, averages_over_channels, single_frame, without_channels, averages_without_channels]


@pytest.mark.parametrize("body", BODIES)
def test_as_the_unmodified_model_and_on_a_huge_canvas(body) -> None:
    images, model = noise(2, 3, 12, 16), seeded(body)
    assert torch.equal(bl.convert(model, "zero")(images), model(images))
    for border in ("full", "reflect"):
        assert bl.convert(model, border)(images).shape == model(images).shape
    assert_as_on_a_huge_canvas(model, images, 32, 1)


@pytest.mark.parametrize("border", ["zero", "infinite"])
@pytest.mark.parametrize("body", BODIES)
def test_place_gives_what_whole_canvases_give(border, body) -> None:
    model = bl.convert(seeded(body), border)
    patch, positions, canvas = noise(3, 5, 4), [(0, 0), (4, 7)], (16, 20)
    images = torch.zeros(2, 3, *canvas, dtype=torch.float64)
    for image, (row, column) in zip(images, positions, strict=True):
        image[:, row : row + 5, column : column + 4] = patch
    torch.testing.assert_close(bl.place(model, patch, positions, canvas), model(images))


class OfWaves(nn.Module):
    """Waves (N, T) as maps (N, 1, T, 1), with kernels of (k, 1); as in CREPE."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, (9, 1), (2, 1)), nn.Conv2d(4, 4, (3, 1), padding="same")
        self.norm = nn.BatchNorm2d(4)
        nn.init.normal_(self.norm.running_mean)
        self.keeps_maps = False

    def forward(self, waves: Tensor) -> Tensor:
        maps = self.norm(self.first(F.pad(waves[:, None, :, None], (0, 0, 4, 4))).relu())
        maps = F.avg_pool2d(F.max_pool2d(self.second(maps), (2, 1), (2, 1)), (3, 1), 1, (1, 0))
        return maps if self.keeps_maps else maps.mean((2, 3))


@pytest.mark.parametrize("phase", ["fixed", "adaptive"])
def test_waves_with_a_new_dimension(phase) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = OfWaves().double().eval()
    waves = torch.zeros(2, 96, dtype=torch.float64)
    step = 4 if phase == "fixed" else 7
    waves[0, 3:24] = waves[1, 3 + 5 * step : 24 + 5 * step] = noise(21)
    assert torch.equal(bl.convert(model, "zero", images={"waves": "NT"})(waves), model(waves))
    first, second = bl.convert(model, "infinite", phase=phase, images={"waves": "NT"})(waves)
    torch.testing.assert_close(first, second, rtol=1e-12, atol=0)
    apart = torch.zeros(1, 960, dtype=torch.float64)
    apart[0, 400:421] = noise(21)
    model.keeps_maps = True
    plane = bl.convert(model, "infinite", images={"waves": "NT"})(apart)
    torch.testing.assert_close(plane[:, :, 8:-8], model(apart)[:, :, 8:-8], rtol=1e-12, atol=1e-14)


def test_maps_without_channels_are_no_maps_for_a_convolution() -> None:
    model = seeded(lambda a, b: F.conv2d((a * b).sum(1), noise(2, 2, 3, 3)))  # mixes the samples
    with pytest.raises(bl.ImageError, match=r"Expected a feature map \(batch, channels, 2 spatial axes\)"):
        bl.convert(model, "infinite")(noise(2, 3, 8, 8))
