"""`infinite` is the network on an endless image: the maps of torchvision trunks, cell by cell."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import nn

import borderless as bl
from support.endless_plane import assert_as_on_a_huge_canvas
from support.networks import NETWORKS, randomised, relative_change


def before_pool(name: str, last: str) -> nn.Sequential:
    """The children of a torchvision network up to and including the one called `last`."""
    children = list(NETWORKS[name]().named_children())
    names = [child for child, _ in children]
    return nn.Sequential(*(module for _, module in children[: names.index(last) + 1]))


# name: (trunk, total stride, padding in pixels: a multiple of the stride beyond the receptive field). Depthwise
# convolutions in float64 are slow on large canvases, so two trunks end early.
TRUNKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "resnet18": (lambda: before_pool("resnet18", "layer4"), 32, 480),
    "squeezenet1_1": (lambda: NETWORKS["squeezenet1_1"]().features, 16, 256),
    "shufflenet_v2_x0_5 to stage 3": (lambda: before_pool("shufflenet_v2_x0_5", "stage3"), 16, 336),
    "mnasnet0_5 to layer 10": (lambda: NETWORKS["mnasnet0_5"]().layers[:11], 16, 304),
    "googlenet": (lambda: before_pool("googlenet", "inception5b"), 32, 448),
    "vgg11_bn": (lambda: torchvision.models.vgg11_bn(num_classes=1, init_weights=False).features, 32, 192),
}


@pytest.mark.parametrize("name", TRUNKS)
def test_infinite_is_the_network_on_a_huge_canvas(name: str) -> None:
    make, stride, padding_px = TRUNKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = randomised(make(), 0).double()
    height = 66 if name == "vgg11_bn" else 33  # its last pool would be a global one on a map as large as the kernel
    image = torch.randn(1, 3, height, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    signal = assert_as_on_a_huge_canvas(trunk, image, padding_px, stride)
    assert all(start <= 0 for start in signal.start), "the frame lies within the window"
    assert all(s + w >= n for s, w, n in zip(signal.start, signal.window.shape[2:], signal.frame, strict=True))

    with torch.inference_mode():  # power: at the frame's edge the network's own padding gives something else
        framed = bl.convert(trunk, "infinite")(image)
        assert type(framed) is torch.Tensor and framed.shape == signal.shape
        assert relative_change(framed, trunk(image)) > 1e-3
    inner = signal.window[..., -signal.start[0] :, -signal.start[1] :][..., : signal.frame[0], : signal.frame[1]]
    assert torch.equal(framed, inner), "the frame is cut from the window"
