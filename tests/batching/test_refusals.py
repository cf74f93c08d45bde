"""What cannot run on images of unequal sizes is refused by name."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import borderless as bl
from batching.networks import Attending, Flattened, SizeDependent, Sliding

IMAGES = [torch.rand(2, 20, 20), torch.rand(2, 24, 28)]


class After(nn.Module):
    """A convolution, and what a function makes of its map."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.function = nn.Conv2d(2, 3, 3, padding=1), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.layer(x))


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            Flattened(),
            r"torch.Tensor.flatten in module 'flat' \(Flatten\): it makes ordinary tensors of unequal shapes",
        ),
        (Attending(), r"in module 'attention' \(MultiheadAttention\): .*attention, or a tensor"),
        (
            SizeDependent(),
            r"the model itself \(SizeDependent\): the model's path depends on the size: \[20, 28\] beside",
        ),
        (After(lambda x: x - x.mean()), "torch.Tensor.mean in the model itself .*: it joins or selects images"),
        (After(lambda x: x - x.mean(0, keepdim=True)), "torch.Tensor.mean in the model itself"),
        (After(lambda x: torch.cat([x, x])), "torch.cat in the model itself .*: it joins or selects images"),
        (After(lambda x: x[:1]), "it joins or selects images"),
        (After(lambda x: x.reshape(-1, 1, *x.shape[2:])), "it makes 6 rows of the 2 images"),
        (After(lambda x: x + torch.rand(24, 28)), "a tensor with a value for each position"),
        (After(lambda x: x[..., : int(x.shape[-1] / 2)]), r"int\(\) keeps one number of many"),
        (After(lambda x: torch.linalg.svd(x)), "svd"),
    ],
)
def test_the_module_is_named(model: nn.Module, text: str) -> None:
    with pytest.raises(bl.UnsupportedOperation, match=text):
        bl.batched(model, IMAGES)


@pytest.mark.parametrize(
    ("images", "text"),
    [
        ([], "at least one image but got an empty list"),
        (torch.rand(2, 2, 8, 8), r"a list of images \(C, \*space\) but got a tensor of torch.float32"),
        ([torch.rand(2, 8, 8), None], "floating-point tensors .* but got NoneType None as image 1"),
        ([torch.zeros(2, 8, 8, dtype=torch.uint8)], "but got a tensor of torch.uint8 .* as image 0"),
        ([torch.rand(2, 8, 8), torch.rand(3, 8, 8)], "equal channels but got 2 and, as image 1, 3"),
        ([torch.rand(2, 8, 8), torch.rand(2, 8, 8).double()], "equal dtype but got torch.float32 and, as image 1"),
        ([torch.rand(2, 8, 8), torch.rand(2, 8, 8, device="meta")], "equal device but got cpu and, as image 1, meta"),
        ([torch.rand(2, 8, 8), torch.rand(2, 8)], r"images of 3 dimensions, .* but got the shape \(2, 8\) as image 1"),
        ([torch.rand(2, 8, 0)], r"none of them empty, but got the shape \(2, 8, 0\) as image 0"),
    ],
)
def test_images_that_do_not_fit_together(images: Any, text: str) -> None:
    with pytest.raises(bl.BatchError, match=text):
        bl.batched(Sliding(), images)


def test_an_adaptive_phase() -> None:
    model = bl.convert(Sliding(), "infinite", phase="adaptive")
    with pytest.raises(bl.BatchError, match="phase='fixed' for images of unequal sizes"):
        bl.batched(model, IMAGES)


def test_an_image_of_which_nothing_is_left() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 5), nn.Conv2d(3, 3, 5))
    with pytest.raises(
        bl.ImageError, match=r"image 1, of whose feature map of \(3, 6\) cells torch.conv2d in module '1'"
    ):
        bl.batched(model, [torch.rand(2, 20, 20), torch.rand(2, 7, 10)])


def test_two_arguments_of_images() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(2, 3, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.layer(x + y)

    with pytest.raises(bl.BatchError, match=r"got another tensor of shape \(1, 2, 24, 28\) among those of Two"):
        bl.batched(Two(), IMAGES, args=(torch.rand(1, 2, 24, 28),))


def test_no_model() -> None:
    with pytest.raises(bl.ConversionError, match=r"Expected a torch\.nn\.Module"):
        bl.batched(len, IMAGES)  # pyright: ignore[reportArgumentType]
