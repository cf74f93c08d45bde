"""Functions along the channels: without keepdim, with several results, in any layout; and maps spread over channels."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import borderless as bl
from support.bodies import CHANNELS, noise, seeded
from support.endless_plane import assert_as_on_a_huge_canvas


def nan_where(known: Tensor, cells: Tensor) -> Tensor:
    """`known` (N, H, W), with the NaN of `cells`, which integers cannot hold."""
    return known.unsqueeze(1) + 0 * cells.sum(1, keepdim=True)


ALONG_CHANNELS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "argmax(1)": lambda a, b: nan_where((a * b).argmax(1), a + b),
    "argmin(dim=1)": lambda a, b: nan_where((a * b).argmin(dim=1), a + b),
    "argmax with keepdim": lambda a, b: torch.argmax(a * b, 1, keepdim=True) + 0 * (a + b)[:, :1],
    "logsumexp(1)": lambda a, b: (a + b).logsumexp(1).unsqueeze(1),
    "logsumexp over two dimensions": lambda a, b: torch.stack([a, b], 1).logsumexp((1, 2)).unsqueeze(1),
    "topk": lambda a, b: (a * b).topk(2, 1)[0],
    "topk by names": lambda a, b: torch.topk(input=a * b, k=2, dim=1).values * 1.0,
    "sort": lambda a, b: (a * b).sort(dim=1, descending=True).values,
    "indices of sort": lambda a, b: (a * b).sort(1).indices + 0 * a * b,
    "kthvalue": lambda a, b: (a * b).kthvalue(2, 1).values.unsqueeze(1),
    "median": lambda a, b: torch.median(a * b, dim=1, keepdim=True)[0],
    "mode": lambda a, b: (a * b).round().mode(1)[0].unsqueeze(1),
    "max and min": lambda a, b: a.max(1, keepdim=True)[0] - torch.min(input=b, dim=1, keepdim=True)[0],
    "cumsum, cummax": lambda a, b: a.cumsum(1) + b.cummax(1).values,
    "channels last": lambda a, b: (a * b).permute(0, 2, 3, 1).sort(-1).values.permute(0, 3, 1, 2),
    "PReLU of one weight, channels last": lambda a, b: F.prelu(
        (a * b).permute(0, 2, 3, 1), a.new_full((1,), 0.2)
    ).permute(0, 3, 1, 2),
    "PReLU of one weight by name": lambda a, b: F.prelu(input=a * b, weight=torch.full((1,), 0.2, dtype=torch.float64)),
    "expand_as over channels": lambda a, b: a[:, :1].expand_as(b) * b,
    "expand_as by name": lambda a, b: a[:, 1:2].expand_as(other=b) + b,
    "expand_as of the same shape": lambda a, b: a.expand_as(b) + b,
    "a map as a mask": lambda a, b: (
        a.masked_fill(b > 0.1, 0.5) + torch.where(condition=a > b, input=a, other=0.2) + 0 * b
    ),
}


@pytest.mark.parametrize("body", ALONG_CHANNELS.values(), ids=ALONG_CHANNELS)
def test_along_channels(body: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert_as_on_a_huge_canvas(seeded(body), noise(2, 3, 7, 10), 32, 1)


OUTPUTS: dict[str, Callable[[Tensor, Tensor], object]] = {
    "labels": lambda a, b: [a.argmax(1)],
    "topk": lambda a, b: (a + b).topk(2, 1),
    "unbind": lambda a, b: a.unbind(dim=1),
    "expand_as": lambda a, b: [a[:, :1].expand_as(b)],
    "max": lambda a, b: torch.max(input=a, dim=1),
    "min": lambda a, b: [a.min(1).values],
}


@pytest.mark.parametrize("body", OUTPUTS.values(), ids=OUTPUTS)
def test_what_leaves_the_model_is_what_the_unmodified_model_gives(body: Callable[[Tensor, Tensor], object]) -> None:
    images = noise(2, 3, 7, 10)
    with torch.inference_mode():
        expected, got = seeded(body)(images), bl.convert(seeded(body), "zero")(images)
    assert type(got) is type(expected)
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("border", ["zero", "infinite"])
def test_functions_along_channels_are_placed(border: str) -> None:
    patch = noise(3, 8, 8)
    canvas = torch.zeros(1, 3, 30, 30, dtype=torch.float64)
    canvas[..., 4:12, 6:14] = patch
    for body in OUTPUTS.values():
        model = bl.convert(seeded(lambda a, b, body=body: body(a, b)[0] * 1), border)
        with torch.inference_mode():
            expected, got = model(canvas), bl.place(model, patch, [(4, 6)], canvas=(30, 30))
        assert (got - expected).abs().max() <= 1e-12


REFUSED: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    "over space": (lambda a, b: a.argmax(3), "runs over space"),
    "over everything": (lambda a, b: a.argmax(), "without a dimension, so it runs over space"),
    "the last dimension by default": (lambda a, b: a.sort()[0], "runs over space"),
    "over the batch": (lambda a, b: a.softmax(0), "runs over the batch"),
    "expand_as to other sizes": (lambda a, b: a.expand_as(b[..., :-1]), "spreads a feature map"),
    "expand_as along the batch": (lambda a, b: a.expand_as(torch.stack([b, b], 1)), "spreads a feature map"),
    "PReLU of many weights, channels last": (
        lambda a, b: F.prelu(a.permute(0, 2, 3, 1), torch.ones(7, dtype=a.dtype)),
        "runs over space",
    ),
}


@pytest.mark.parametrize(("body", "text"), REFUSED.values(), ids=REFUSED)
def test_refused_by_name(body: Callable[[Tensor, Tensor], Tensor], text: str) -> None:
    for border in ("zero", "infinite"):
        with pytest.raises(bl.UnsupportedOperation, match=text):
            bl.convert(seeded(body), border)(noise(2, 3, 7, 10))


AS_WEIGHT: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "of a convolution": lambda a, b: F.conv2d(a[:1], b[:1, :, 2:5, 2:5]),
    "of a convolution, by name": lambda a, b: F.conv2d(input=a, weight=b[:, :, 2:5, 2:5]),
    "of a convolution of a tensor": lambda a, b: F.conv2d(torch.ones(1, CHANNELS, 9, 9), b),
    "of a transposed convolution": lambda a, b: F.conv_transpose2d(torch.ones(1, 2, 9, 9), weight=b),
    "of a linear layer": lambda a, b: F.linear(a.permute(0, 2, 3, 1), b),
    "of a linear layer of a tensor": lambda a, b: F.linear(torch.ones(1, 10), weight=b),
    "of prelu": lambda a, b: F.prelu(torch.ones(1, CHANNELS), b),
    "of prelu of a map": lambda a, b: F.prelu(a, weight=b),
    "of batch norm": lambda a, b: F.batch_norm(torch.ones(2, CHANNELS, 3), None, None, weight=b, training=True),
    "of batch norm of a map": lambda a, b: F.batch_norm(a, None, None, weight=b, training=True),
    "of group norm": lambda a, b: F.group_norm(a, 2, weight=b),
    "of instance norm": lambda a, b: F.instance_norm(a, weight=b),
    "of layer norm": lambda a, b: F.layer_norm(a.permute(0, 2, 3, 1), (CHANNELS,), weight=b),
}


@pytest.mark.parametrize("body", AS_WEIGHT.values(), ids=AS_WEIGHT)
def test_a_feature_map_as_weight_is_refused_by_name(body: Callable[[Tensor, Tensor], Tensor]) -> None:
    for border in ("zero", "infinite"):
        with pytest.raises(bl.BorderlessError, match="a feature map is its parameter"):
            bl.convert(seeded(body), border)(noise(2, 3, 7, 10))
