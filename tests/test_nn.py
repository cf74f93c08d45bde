"""Full convolution against scipy's, and against its own definition: every weight meets every pixel once."""

import copy
import inspect
import itertools
import math
import pickle
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from borderless.nn import FullConv1d, FullConv2d, FullConv3d

FULL = {1: FullConv1d, 2: FullConv2d, 3: FullConv3d}
PLAIN = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}

each_dimension = pytest.mark.parametrize("axes", [1, 2, 3])


@st.composite
def calls(draw: st.DrawFn, axes: int) -> dict[str, Any]:
    """Arguments of a layer, everything drawn."""

    def per_axis(low: int, high: int) -> tuple[int, ...]:
        return draw(st.tuples(*[st.integers(low, high)] * axes))

    groups = draw(st.integers(1, 3))
    return {
        "in_channels": groups * draw(st.integers(1, 2)),
        "out_channels": groups * draw(st.integers(1, 2)),
        "kernel_size": per_axis(1, 5 if axes < 3 else 4),
        "stride": per_axis(1, 3),
        "dilation": per_axis(1, 3),
        "groups": groups,
        "bias": draw(st.booleans()),
    }


@st.composite
def drawn_images(draw: st.DrawFn, axes: int, channels: int) -> torch.Tensor:
    """Images (N, channels, *sizes) in float64, often smaller than a dilated kernel."""
    # In three dimensions scipy's direct correlation is the cost of the test.
    sizes = draw(st.tuples(*[st.integers(1, {1: 12, 2: 7, 3: 4}[axes])] * axes))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31 - 1)))
    return torch.randn(draw(st.integers(1, 2)), channels, *sizes, generator=generator, dtype=torch.float64)


def full_correlation(
    images: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> np.ndarray:
    """The same by scipy, which knows no stride, dilation, group or channel: those are done here in the plainest way."""
    out_channels, inputs_a_group, *kernel = weight.shape
    dilated = np.zeros(
        (out_channels, inputs_a_group, *(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)))
    )
    dilated[(..., *(slice(None, None, d) for d in dilation))] = weight.detach().numpy()
    sampled = tuple(slice(None, None, s) for s in stride)
    maps = []
    for image, out in itertools.product(images.numpy(), range(out_channels)):
        first = out // (out_channels // groups) * inputs_a_group
        response = sum(
            scipy.signal.correlate(image[first + i], dilated[out, i], mode="full", method="direct")
            for i in range(inputs_a_group)
        )
        maps.append(response[sampled] + (0 if bias is None else bias[out].item()))
    return np.stack(maps).reshape(len(images), out_channels, *maps[0].shape)


@each_dimension
@settings(max_examples=60)
@given(data=st.data())
def test_equals_scipys_full_correlation(axes: int, data: st.DataObject) -> None:
    call = data.draw(calls(axes))
    images = data.draw(drawn_images(axes, call["in_channels"]))
    layer = FULL[axes](**call, dtype=torch.float64)
    maps = layer(images).detach().numpy()
    expected = full_correlation(
        images, layer.weight, layer.bias, **{name: call[name] for name in ("stride", "dilation", "groups")}
    )
    assert maps.shape == expected.shape
    np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-10)


def test_one_case_by_hand() -> None:
    """So that the layer and the oracle cannot be wrong in the same way."""
    weight = torch.tensor([[[10.0, 1.0]]], dtype=torch.float64)
    layer = FullConv1d(1, 1, 2, stride=2, dilation=2, bias=False, dtype=torch.float64)
    layer.load_state_dict({"weight": weight})
    images = torch.tensor([[[1.0, 2.0, 3.0]]], dtype=torch.float64)
    # Windows start at -2, 0, 2 and read (start, start + 2); outside is 0.
    assert layer(images).tolist() == [[[1.0, 13.0, 30.0]]]
    assert full_correlation(images, weight, None, (2,), (2,), 1).tolist() == [[[1.0, 13.0, 30.0]]]


@st.composite
def geometries(draw: st.DrawFn, axes: int) -> dict[str, tuple[int, ...]]:
    """Sizes, kernel, stride and dilation of a convolution, an integer an axis."""
    per_axis = {"sizes": (1, 7 - axes), "kernel": (1, 4 if axes < 3 else 3), "stride": (1, 3), "dilation": (1, 3)}
    return {name: draw(st.tuples(*[st.integers(*bounds)] * axes)) for name, bounds in per_axis.items()}


def meetings(sizes: tuple[int, ...], kernel: tuple[int, ...], **arguments: tuple[int, ...]) -> torch.Tensor:
    """How often each weight meets each pixel, (*sizes, *kernel): an image for each pixel, a channel for each weight."""
    pixels, weights = math.prod(sizes), math.prod(kernel)
    layer = FULL[len(sizes)](1, weights, kernel, bias=False, dtype=torch.float64, **arguments)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(weights).view(weights, 1, *kernel))
        counts = layer(torch.eye(pixels, dtype=torch.float64).view(pixels, 1, *sizes)).flatten(2).sum(2)
    return counts.view(*sizes, *kernel)


@each_dimension
@settings(max_examples=25)
@given(data=st.data())
def test_every_weight_meets_every_pixel_once(axes: int, data: st.DataObject) -> None:
    drawn = data.draw(geometries(axes))
    counts = meetings(drawn["sizes"], drawn["kernel"], dilation=drawn["dilation"])
    assert torch.equal(counts, torch.ones_like(counts))


@each_dimension
@settings(max_examples=25)
@given(data=st.data())
def test_a_stride_chooses_by_the_index_and_never_by_the_edge(axes: int, data: st.DataObject) -> None:
    drawn = data.draw(geometries(axes))
    sizes, kernel, stride, dilation = (drawn[name] for name in ("sizes", "kernel", "stride", "dilation"))

    def meet(i: int, t: int, k: int, s: int, d: int) -> bool:
        return (i + d * (k - 1) - d * t) % s == 0

    expected = [
        all(map(meet, pixel, weight, kernel, stride, dilation))
        for pixel in itertools.product(*map(range, sizes))
        for weight in itertools.product(*map(range, kernel))
    ]
    counts = meetings(sizes, kernel, stride=stride, dilation=dilation)
    assert counts.flatten().tolist() == expected


@each_dimension
def test_same_convolution_fails_what_full_convolution_passes(axes: int) -> None:
    """With padding k // 2 the last weight meets the last pixel and never the first: what full convolution mends."""
    layer = PLAIN[axes](1, 1, 3, padding=1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.zero_().view(-1)[-1] = 1
    image = torch.zeros(1, 1, *[5] * axes, dtype=torch.float64)
    image.view(-1)[-1] = 1
    assert layer(image).sum() == 1
    image = image.flip(*range(2, 2 + axes))
    assert layer(image).sum() == 0


@each_dimension
@settings(max_examples=25)
@given(data=st.data())
def test_repr_is_the_call(axes: int, data: st.DataObject) -> None:
    call = data.draw(calls(axes))
    layer = FULL[axes](**call)
    again = eval(repr(layer), {cls.__name__: cls for cls in FULL.values()})
    padding = tuple(d * (k - 1) for d, k in zip(call["dilation"], call["kernel_size"], strict=True))
    plain = PLAIN[axes](**call, padding=padding)
    for copied in (layer, again):
        assert type(copied) is FULL[axes]
        for name in (*plain.__constants__, "_reversed_padding_repeated_twice"):
            assert getattr(copied, name) == getattr(plain, name), name
        assert (copied.bias is None) == (plain.bias is None)
    assert repr(again) == repr(layer)


def test_repr_leaves_defaults_out() -> None:
    assert repr(FullConv2d(3, 64, 7, stride=2)) == "FullConv2d(3, 64, 7, stride=2)"
    assert (
        repr(FullConv3d(4, 8, (1, 3, 3), stride=(1, 2, 2), dilation=2, groups=2, bias=False))
        == "FullConv3d(4, 8, (1, 3, 3), stride=(1, 2, 2), dilation=2, groups=2, bias=False)"
    )


@each_dimension
def test_arguments_are_those_of_the_plain_layer_less_padding(axes: int) -> None:
    plain = inspect.signature(PLAIN[axes]).parameters
    full = inspect.signature(FULL[axes]).parameters
    assert [name for name in full if name != "refused"] == [
        name for name in plain if name not in ("padding", "padding_mode")
    ]
    assert {n: p.default for n, p in full.items() if n in plain} == {n: plain[n].default for n in full if n in plain}


@each_dimension
def test_stands_in_for_the_plain_layer(axes: int) -> None:
    arguments = {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "groups": 2}
    torch.manual_seed(1)
    full = FULL[axes](**arguments)
    torch.manual_seed(1)
    plain = PLAIN[axes](**arguments, padding=2)
    assert isinstance(full, PLAIN[axes])
    assert list(full.state_dict()) == list(plain.state_dict()) == ["weight", "bias"]
    image = torch.randn(2, 4, *[5] * axes)
    assert torch.equal(full(image), plain(image))
    assert torch.equal(full(image[0]), plain(image[0]))
    assert full.load_state_dict(PLAIN[axes](**arguments).state_dict())
    for copied in (copy.deepcopy(full), pickle.loads(pickle.dumps(full))):
        assert torch.equal(copied(image), full(image))
        assert repr(copied) == repr(full)


@each_dimension
def test_gradients_are_those_of_the_function(axes: int) -> None:
    layer = FULL[axes](2, 2, 2, stride=2, dilation=2, groups=2, dtype=torch.float64)
    image = torch.randn(1, 2, *[2] * axes, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (image, *layer.parameters()))


def test_device_and_dtype_reach_the_parameters() -> None:
    layer = FullConv2d(1, 1, 3, device="meta", dtype=torch.float16)
    assert {(p.device.type, p.dtype) for p in layer.parameters()} == {("meta", torch.float16)}


def test_sizes_may_be_any_integers_and_sequences() -> None:
    layer = FullConv2d(1, 1, [3, np.int64(5)], stride=torch.Size([2, 1]))
    assert layer.kernel_size == (3, 5)
    assert layer.padding == (2, 4)
    assert layer.stride == (2, 1)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            {"padding": 1},
            TypeError,
            "Expected no padding but got padding=1 for FullConv2d: it pads with dilation * (kernel_size - 1) by "
            "definition. "
            "Leave padding out, or use torch.nn.Conv2d to choose it.",
        ),
        (
            {"padding_mode": "circular"},
            TypeError,
            "Expected no padding_mode but got padding_mode='circular' for FullConv2d: it pads with zeros by "
            "definition. "
            "Leave padding_mode out, or use torch.nn.Conv2d to choose it.",
        ),
        ({"strides": 2}, TypeError, "FullConv2d got an unexpected argument strides=2"),
        (
            {"stride": (1, 1, 1)},
            ValueError,
            "Expected stride to be one positive int, or one for each axis (height, width), but got (1, 1, 1) for "
            "FullConv2d.",
        ),
        (
            {"dilation": 0},
            ValueError,
            "Expected dilation to be one positive int, or one for each axis (height, width), but got 0 for FullConv2d.",
        ),
        (
            {"stride": ()},
            ValueError,
            "Expected stride to be one positive int, or one for each axis (height, width), but got () for FullConv2d.",
        ),
        (
            {"stride": 1.5},
            TypeError,
            "Expected stride to be one positive int, or one for each axis (height, width), but got 1.5 for FullConv2d.",
        ),
        (
            {"dilation": "2"},
            TypeError,
            "Expected dilation to be one positive int, or one for each axis (height, width), but got '2' for "
            "FullConv2d.",
        ),
    ],
)
def test_errors_say_got_need_do(arguments: dict, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as raised:
        FullConv2d(3, 4, 3, **arguments)
    assert str(raised.value) == text


@each_dimension
def test_errors_name_the_class_and_its_axes(axes: int) -> None:
    with pytest.raises(
        ValueError, match=rf"^Expected kernel_size .*\((depth|height|length).* but got 0 for FullConv{axes}d"
    ):
        FULL[axes](1, 1, 0)
    with pytest.raises(TypeError, match=rf"use torch\.nn\.Conv{axes}d to choose it\.$"):
        FULL[axes](1, 1, 1, padding="same")
