"""BagNets against their description, and the size of the patch that one output cell sees."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from borderless.models import load
from borderless.models.bagnet import BagNet

PATCHES = {9: 2, 17: 3, 33: 4}  # side in pixels: how many stages have a 3×3 convolution
ZEROS = {"vconv": 0, "sconv": 1, "fconv": 2}


def normed(state: dict[str, Tensor], name: str, maps: Tensor) -> Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{part}"].reshape(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (maps - mean) / (var + 1e-5).sqrt() * weight + bias


def described(state: dict[str, Tensor], images: Tensor, patch_px: int, zeros: int) -> Tensor:
    maps = F.conv2d(F.pad(F.conv2d(images, state["conv1.weight"]), (zeros,) * 4), state["conv2.weight"])
    maps = normed(state, "bn1", maps).relu()
    for stage, (depth, stride) in enumerate(((3, 2), (4, 2), (6, 2), (3, 1)), start=1):
        for index in range(depth):
            at = f"layer{stage}.{index}"
            wide = index == 0 and stage <= PATCHES[patch_px]
            steps = stride if index == 0 else 1
            branch = normed(state, f"{at}.bn1", F.conv2d(maps, state[f"{at}.conv1.weight"])).relu()
            branch = F.pad(branch, (zeros,) * 4) if wide else branch
            assert state[f"{at}.conv2.weight"].shape[-1] == (3 if wide else 1)
            branch = F.conv2d(branch, state[f"{at}.conv2.weight"], stride=steps)
            branch = normed(state, f"{at}.bn2", branch).relu()
            branch = normed(state, f"{at}.bn3", F.conv2d(branch, state[f"{at}.conv3.weight"]))
            shortcut = F.pad(maps, (1,) * 4) if wide and zeros == 2 else maps
            if index == 0:
                shortcut = F.conv2d(shortcut, state[f"{at}.downsample.0.weight"], stride=steps)
                shortcut = normed(state, f"{at}.downsample.1", shortcut)
            if wide and zeros == 0:  # the last row and column of a strided block, the last two of an unstrided one
                surplus = shortcut.shape[-1] - branch.shape[-1]
                shortcut = shortcut[..., : shortcut.shape[-2] - surplus, : shortcut.shape[-1] - surplus]
            maps = (branch + shortcut).relu()
    return F.linear(maps.mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize("arm", ZEROS)
@pytest.mark.parametrize("patch_px", PATCHES)
def test_the_network_is_the_one_described(arm: str, patch_px: int, drawn: Callable[..., nn.Module]) -> None:
    model = drawn(f"{arm}_bagnet{patch_px}", num_classes=5)
    images = torch.randn(1, 3, 37, 37, dtype=torch.float64)
    with torch.inference_mode():
        expected = described(model.state_dict(), images, patch_px, ZEROS[arm])
        torch.testing.assert_close(model(images), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("patch_px", PATCHES)
def test_one_cell_of_the_published_network_sees_one_patch(patch_px: int, drawn: Callable[..., nn.Module]) -> None:
    model = drawn(f"vconv_bagnet{patch_px}", num_classes=2)
    cells: list[Tensor] = []
    model.layer4.register_forward_hook(lambda _, __, maps: cells.append(maps))
    images = torch.randn(1, 3, 57, 57, dtype=torch.float64, requires_grad=True)
    model(images)
    row, column = 1, 2
    (gradient,) = torch.autograd.grad(cells[0][0, :, row, column].sum(), images)
    rows, columns = gradient[0].abs().sum(0).nonzero(as_tuple=True)
    assert (int(rows.min()), int(columns.min())) == (8 * row, 8 * column)
    assert (int(rows.max()), int(columns.max())) == (8 * row + patch_px - 1, 8 * column + patch_px - 1)


def test_state_dicts_have_the_published_names() -> None:
    """Those of ResNet-50 and of one more convolution in the stem."""
    with torch.device("meta"):
        theirs = set(torchvision.models.resnet50().state_dict())
        for arm in ZEROS:
            assert set(load(f"{arm}_bagnet33").state_dict()) == theirs | {"conv2.weight"}


def test_images_need_not_be_square() -> None:
    assert BagNet(9, num_classes=2).eval()(torch.zeros(1, 3, 20, 33)).shape == (1, 2)
