"""Models that take more than one image: through the call, `explain`, `place`, `freeze` and `save_onnx`."""

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
from borderless.errors import ConversionError, ImageError


class Timed(nn.Module):
    """A convolution whose channels a time step scales, as in a diffusion model."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.embedding = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(1, 4)

    def forward(self, images: Tensor, time: Tensor, *, scale: float = 1.0, shift: Tensor | None = None) -> Tensor:
        gate = self.embedding(time.reshape(-1, 1).to(images.dtype))
        maps = self.conv(images) * gate[:, :, None, None] * scale
        pooled = maps.relu().mean((2, 3))
        return pooled if shift is None else pooled + shift


TIME = torch.tensor([3.0])
OTHERS: dict[str, Any] = {"scale": 2.0, "shift": torch.tensor([[1.0, 2.0, 3.0, 4.0]])}


def images(*shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 3, 12, 12)), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model() -> nn.Module:
    return Timed().eval()


def test_explain_passes_them_on(model: nn.Module) -> None:
    found = bl.explain(model, (12, 12), args=(TIME,), kwargs=OTHERS)
    assert [layer.module for layer in found.layers] == ["conv"]
    assert found.macs_own >= 12 * 12 * 27 * 4


@pytest.mark.parametrize("border", ["zero", "circular", "infinite"])
def test_place_passes_them_on(model: nn.Module, border: str) -> None:
    patches, positions = images(2, 3, 4, 4), [(0, 0), (5, 3)]
    canvases = torch.zeros(2, 2, 3, 12, 12)
    for i, (row, column) in enumerate(positions):
        canvases[i, :, :, row : row + 4, column : column + 4] = patches
    converted = bl.convert(model, border)
    with torch.no_grad():
        expected = converted(canvases.flatten(0, 1), TIME, **OTHERS).unflatten(0, (2, 2))
    got = bl.place(converted, patches, positions, canvas=(12, 12), args=(TIME,), kwargs=OTHERS)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_place_takes_one_image(model: nn.Module) -> None:
    with pytest.raises(ImageError, match="Expected one image, the canvas"):
        bl.place(model, images(1, 3, 4, 4), [(0, 0)], canvas=(12, 12), args=(images(),))


@pytest.mark.parametrize("dynamic_batch", [False, True])
def test_freeze_passes_them_on(model: nn.Module, dynamic_batch: bool) -> None:
    converted = bl.convert(model, "infinite", phase="adaptive")
    times = torch.tensor([3.0, 5.0])
    program = bl.freeze(converted, images(), dynamic_batch=dynamic_batch, args=(times,), kwargs=OTHERS)
    more = {**OTHERS, "shift": torch.zeros(1, 4)}
    with torch.no_grad():
        assert torch.allclose(program.module()(images(), times, **OTHERS), converted(images(), times, **OTHERS))
        assert torch.allclose(program.module()(images(), -times, **more), converted(images(), -times, **more))
        if dynamic_batch:
            batch, times = images(5, 3, 12, 12), torch.arange(5.0)
            assert torch.allclose(program.module()(batch, times, **OTHERS), converted(batch, times, **OTHERS))


@pytest.mark.filterwarnings("ignore")  # PyTorch's exporter warns about its own imports
def test_save_onnx_passes_them_on(model: nn.Module, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    converted, times = bl.convert(model, "infinite"), torch.tensor([3.0, 5.0])
    path = bl.save_onnx(converted, images(), tmp_path / "model.onnx", args=(times,), kwargs=OTHERS)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    batch, times = images(3, 3, 12, 12), torch.arange(3.0)
    given = [batch, times, OTHERS["shift"]]
    names = [each.name for each in session.get_inputs()]
    got = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)})[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(got), converted(batch, times, **OTHERS), rtol=1e-4, atol=1e-4)


def test_arguments_that_are_missing_are_named(model: nn.Module) -> None:
    missing = r"(?s)Expected the arguments of Timed.forward.*'time'.*args="
    converted = bl.convert(model, "zero")
    with pytest.raises(ConversionError, match=missing):
        bl.explain(model, (12, 12))
    with pytest.raises(ConversionError, match=missing):
        bl.place(model, images(1, 3, 4, 4), [(0, 0)], canvas=(12, 12))
    for dynamic_batch in (False, True):
        with pytest.raises(ConversionError, match=missing):
            bl.freeze(converted, images(), dynamic_batch=dynamic_batch)
    with pytest.raises(ConversionError, match="unexpected keyword argument 'speed'"):
        bl.explain(model, (12, 12), args=(TIME,), kwargs={"speed": 1})


def test_a_type_error_of_the_model_stays() -> None:
    class Wrong(nn.Conv2d):
        def forward(self, batch: Tensor) -> Tensor:
            return super().forward(batch) + super().forward()

    model = Wrong(3, 4, 3).eval()
    uses = [
        lambda: bl.explain(model, (12, 12)),
        lambda: bl.place(model, images(1, 3, 4, 4), [(0, 0)], canvas=(12, 12)),
        lambda: bl.freeze(bl.convert(model, "full"), images()),
    ]
    for use in uses:
        with pytest.raises(TypeError, match="missing 1 required positional argument") as caught:
            use()
        assert not isinstance(caught.value, ConversionError)


# Beside the image


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, batch: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        self.type = type(other)
        return self.conv(batch).mean((2, 3)), other


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
def test_labels_and_masks_are_let_through(dtype: torch.dtype) -> None:
    model, other = bl.convert(Masked(), "infinite"), torch.ones(2, 12, 12, dtype=dtype)
    _, got = model(images(), other)
    assert got is other and model.type is Tensor
    _, got = model(batch=images(), other=other)
    assert got is other
    with pytest.raises(ImageError, match=rf"floating-point.*but got {dtype} of shape \(2, 12, 12\)"):
        model(other, other)


# Models without what a measure counts


def test_a_model_without_multiply_adds_is_explained() -> None:
    found = bl.explain(nn.Sequential(nn.MaxPool2d(2)), (16, 16), channels=1)
    assert found.macs == found.macs_own == 0 and found.cost == 1
    assert "1.00 ×" in str(found)


@pytest.mark.parametrize("border", [None, "full", "infinite"])
def test_a_model_without_a_sliding_operation_is_placed(border: Any) -> None:
    model = nn.Sequential(nn.ReLU()).eval()
    model = model if border is None else bl.convert(model, border)
    canvases = torch.zeros(2, 1, 9, 9)
    patch = images(1, 1, 3, 3)
    canvases[0, :, :3, :3] = canvases[1, :, 4:7, 2:5] = patch[0]
    got = bl.place(model, patch[0], [(0, 0), (4, 2)], canvas=(9, 9))
    assert torch.equal(got, canvases.relu())


# freeze, of what it cannot keep


def test_sizes_from_values_are_refused_by_freeze() -> None:
    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.register_buffer("amount", torch.tensor(1))

        def forward(self, batch: Tensor) -> Tensor:
            return F.pad(self.conv(batch), [int(self.amount.item())] * 4)

    model = bl.convert(Counted(), "full")
    assert model(images()).shape == (2, 4, 12, 12)
    with pytest.raises(ConversionError, match=r"(?s)Expected sizes that follow from the shape.*item\(\).*from shapes"):
        bl.freeze(model, images())


# A change relative to nothing


@pytest.mark.parametrize("measure", [bl.equivariance_error, bl.testing.assert_equivariant])
def test_an_output_of_0_is_an_error(measure: Any) -> None:
    model = nn.Conv2d(3, 4, 3, padding=1).eval()
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    with pytest.raises(ImageError, match="Expected an output with values other than 0"):
        measure(model, images(), [(1, 0)])


@pytest.mark.parametrize("measure", [bl.equivariance_error, bl.testing.assert_equivariant])
def test_a_shift_without_its_list_is_an_error(measure: Any) -> None:
    with pytest.raises(ImageError, match=r"Expected a list of shifts .* but got \(3, 5\); write \[\(3, 5\)\]"):
        measure(nn.Conv2d(3, 4, 3, padding=1).eval(), images(), (3, 5))


# Which arguments are images


def test_a_model_gets_text_time_labels_and_masks_as_they_are() -> None:
    class Conditioned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.text = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(6, 4)

        def forward(
            self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, labels: Any = None, mask: Any = None
        ) -> tuple[Tensor, Any]:
            self.seen = [type(value) for value in (timestep, encoder_hidden_states, labels, mask)]
            gate = self.text(encoder_hidden_states).mean(1) + timestep[:, None]
            logits = self.conv(sample) * gate[:, :, None, None]
            return logits.mean((2, 3)), logits

    model = Conditioned().double().eval()
    given = images().double(), torch.tensor([1.0, 2.0]).double(), torch.rand(2, 5, 6).double()
    others = {"labels": torch.zeros(2, 12, 12, dtype=torch.long), "mask": torch.ones(2, 12, 12, dtype=torch.bool)}
    for border in ("zero", "infinite"):
        converted = bl.convert(model, border)
        pooled, dense = converted(*given, **others)
        assert converted.seen == [Tensor] * 4
        if border == "zero":
            assert torch.equal(pooled, model(*given)[0]) and torch.equal(dense, model(*given)[1])
        explained = bl.explain(model, (12, 12), border, args=tuple(value[:1] for value in given[1:]), kwargs=others)
        assert explained.images == ("sample",) and "images          sample" in str(explained)


class Named(nn.Module):
    """A hidden state of stride 2 beside the image, and the image not first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)
        self.last = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, time: Tensor, image: Tensor, hidden: Any = ()) -> Tensor:
        maps = self.conv(image) * time.reshape(-1, 1, 1, 1)
        for state in hidden:
            maps = maps + state
        return self.last(maps.relu())


def test_images_are_named_or_follow_one_rule() -> None:
    model, time = Named().double().eval(), torch.tensor([2.0]).double()
    image, hidden = images(1, 3, 12, 12).double(), [images(1, 4, 6, 6).double()] * 2
    with pytest.warns(bl.PositionDependentWarning, match="an ordinary tensor with a value for each position"):
        assert torch.equal(bl.convert(model, "zero")(time, image, hidden[:1]), model(time, image, hidden[:1]))
    named = bl.convert(model, "infinite", images=("image", "hidden"))
    huge = F.pad(image, [32] * 4), [F.pad(state, [16] * 4) for state in hidden]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        got = named(time, image, hidden)
        torch.testing.assert_close(got, model(time, *huge)[..., 16:22, 16:22], rtol=1e-12, atol=1e-12)
        assert torch.equal(got, named(hidden=hidden, image=image, time=time))
        assert torch.equal(got, bl.convert(model, "infinite", images=(1, 2))(time, image, hidden))
    kept = pickle.loads(pickle.dumps(copy.deepcopy(named)))
    assert torch.equal(got, kept(time, image, hidden))
    with pytest.raises(ImageError, match=r"a whole stride with phase='fixed'.*leave the second out"):
        bl.convert(model, "infinite", phase="adaptive", images=("image", "hidden"))(time, image, hidden)


def test_explain_place_freeze_and_measures_know_the_named_images(model: nn.Module, tmp_path: Path) -> None:
    converted = bl.convert(Named().double().eval(), "infinite", images=("image",))
    time, image = torch.tensor([2.0]).double(), images(1, 3, 12, 12).double()
    assert bl.explain(converted, (12, 12), args=(time,)).images == ("image",)
    assert bl.explain(bl.revert_(copy.deepcopy(converted)), (12, 12), args=(time,), images=("image",)).images
    program = bl.freeze(converted, image, args=(time,))
    with torch.no_grad():
        assert torch.allclose(program.module()(time, image=image), converted(time, image))
        patch = images(1, 3, 4, 4).double()
        canvas = torch.zeros(1, 3, 12, 12).double()
        canvas[0, :, 3:7, 5:9] = patch[0]
        got = bl.place(converted, patch, [(3, 5)], canvas=(12, 12), args=(time,))
        torch.testing.assert_close(got[0], converted(time, canvas), rtol=1e-12, atol=1e-12)
        with bl.bordered(converted, "zero") as plain:
            assert torch.equal(plain(time, image), bl.revert_(copy.deepcopy(converted))(time, image))


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.conv(first) - self.conv(second)


def test_two_images_of_one_size_are_both_images() -> None:
    found = bl.explain(Pair(), (8, 8), args=(torch.zeros(1, 1, 8, 8),))
    assert found.images == ("first", "second") and found.position_reads == ()


def test_a_convolution_of_a_map_that_is_no_image_is_named() -> None:
    class Other(Pair):
        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            return self.conv(first).mean((2, 3)) - self.conv(second).amax((2, 3))

    with pytest.warns(bl.PositionDependentWarning, match=r"cells of a map: the argument 'second', which is not among"):
        bl.convert(Other(), "infinite")(torch.rand(1, 1, 8, 8), torch.rand(1, 1, 5, 5))
    with pytest.warns(bl.PositionDependentWarning, match="the argument 'second'"):
        bl.convert(Other(), "infinite", images=["first"])(torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8))


LAYOUTS: dict[str, tuple[Any, tuple[int, ...], Any]] = {
    "NT": (lambda x: x.unsqueeze(1), (2, 40), nn.Conv1d(1, 3, 5, 2, 2)),
    "NTC": (lambda x: x.transpose(1, 2), (2, 40, 4), nn.Conv1d(4, 3, 5, 2, 2)),
    "NHWC": (lambda x: x.permute(0, 3, 1, 2), (2, 12, 16, 4), nn.Conv2d(4, 3, 5, 2, 2)),
    "NBCHW": (lambda x: x.flatten(0, 1), (2, 3, 4, 12, 16), nn.Conv2d(4, 3, 5, 2, 2)),
    "NCBHW": (lambda x: x.transpose(1, 2).flatten(0, 1), (2, 4, 3, 12, 16), nn.Conv2d(4, 3, 5, 2, 2)),
    "NHW": (lambda x: x[:, None], (2, 12, 16), nn.Conv2d(1, 3, 5, 2, 2)),
}


class Laid(nn.Module):
    def __init__(self, turn: Any, conv: nn.Module) -> None:
        super().__init__()
        self.turn, self.conv, self.last = turn, conv, nn.BatchNorm1d(3) if conv.weight.ndim == 3 else nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.conv(self.turn(x)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str) -> None:
    turn, shape, conv = LAYOUTS[layout]
    model, x = Laid(turn, conv).double().eval(), images(*shape).double()
    assert torch.equal(bl.convert(model, "zero", images={"x": layout})(x), model(x))
    spread = [layout.index(axis) for axis in layout if axis not in "NBC"]
    padding = [amount for axis in reversed(range(x.ndim)) for amount in ([8, 8] if axis in spread else [0, 0])]
    cells = (..., *[slice(4, 4 + -(-n // 2)) for n in model(x).shape[2:] for n in [2 * n]])
    with torch.no_grad():
        got = bl.convert(model, "infinite", images={"x": layout})(x)
        torch.testing.assert_close(got, model(F.pad(x, padding))[cells], rtol=1e-12, atol=1e-12)
    assert bl.convert(model, "infinite", phase="adaptive", images={"x": layout})(x).shape == got.shape
    size = tuple(x.shape[axis] for axis in spread)
    found = bl.explain(model, size, images={"x": layout})
    assert found.layers[0].frame == tuple(got.shape[2:]) and found.images == ("x",)


def test_what_cannot_be_named_is_said(model: nn.Module) -> None:
    with pytest.raises(ConversionError, match=r"argument of Timed.forward but got 'image'; did you mean"):
        bl.convert(model, "zero", images=("image",))
    with pytest.raises(ConversionError, match=r"a position among the 4 arguments of Timed\.forward but got 7"):
        bl.convert(model, "zero", images=(7,))
    wrong: Any
    for wrong in ("images", (), 3):
        with pytest.raises(ConversionError, match=r"Expected images to name arguments of forward but got .*images=\("):
            bl.convert(model, "zero", images=wrong)
    for wrong in ("TNC", "N", "NC", "NTT", "", 3):
        with pytest.raises(ConversionError, match=r"one letter a dimension, N first, such as 'NTC'"):
            bl.convert(model, "zero", images={"images": wrong})
    with pytest.raises(ImageError, match=r"Expected an image \(N, H, W, C\) but got shape \(2, 12, 12\)"):
        bl.convert(model, "zero", images={"images": "NHWC"})(torch.rand(2, 12, 12), TIME)
    with pytest.raises(ImageError, match=r"Expected images \(N, C, \*space\) but got shape \(2, 12\).*'NT'"):
        bl.convert(model, "zero", images=("images",))(torch.rand(2, 12), TIME)
    with pytest.raises(ImageError, match=r"Expected a floating-point image in the arguments 'images' of Timed"):
        bl.convert(model, "zero", images=("images",))(torch.ones(2, 3, 12, 12, dtype=torch.int64), TIME)
    with pytest.raises(ImageError, match=r"got no image for Laid.*For waveforms \(N, T\) say so: .*images={'x': 'NT'}"):
        bl.convert(Laid(*LAYOUTS["NT"][::2]), "zero")(torch.rand(2, 40))
