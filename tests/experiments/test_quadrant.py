"""The quadrant experiment. Oracles: where no cell sees both picture and edge, features are equal, bit by bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from borderless.data.quadrant import Canvases, canvas_px, positions
from borderless.errors import DataError, UnknownName
from borderless.experiments import quadrant, run
from borderless.experiments.published import QUADRANT
from borderless.experiments.quadrant import EXPERIMENT, Config
from borderless.experiments.quadrant_figures import PUBLISHED
from borderless.experiments.quadrant_network import calibrate_, feature_network, folded
from borderless.experiments.runner import Cell, ConfigError, Result
from borderless.models import load
from borderless.training import Recipe

FEW = Config(archs=("resnet18",), borders_px=(0, 16), pictures=6)


def cell(arch: str = "resnet18", init: str = "random", policy: str = "own", border_px: int = 0) -> Cell:
    return Cell("cell", {"arch": arch, "init": init, "policy": policy, "border_px": border_px, "seed": 0})


def test_cells_are_everything_times_everything_with_names_of_their_own() -> None:
    config = Config(archs=("resnet18", "timm/resnet10t"), policies=("own", "full"), borders_px=(16, 0), seeds=2)
    cells = EXPERIMENT.cells(config)
    assert len(cells) == len({c.name for c in cells}) == 16
    assert cells[0].name == "resnet18-random-own-border0-seed0"
    assert all("/" not in c.name for c in cells)


def test_the_papers_networks_and_borders_are_found() -> None:
    assert set(PUBLISHED.values()) == {key[0] for key in QUADRANT}
    assert {key[2] for key in QUADRANT} == set(Config().borders_px)


def test_canvases_hold_each_picture_at_both_places() -> None:
    pictures = torch.rand(3, 3, 56, 56)
    canvases = Canvases(pictures, 16)
    assert len(canvases) == 6
    for index in range(6):
        image, label = canvases[index]
        row, column = positions(16)[label]
        assert tuple(image.shape[1:]) == canvas_px(16)
        assert torch.equal(image[:, row : row + 56, column : column + 56], pictures[index // 2])
        assert image.count_nonzero() == pictures[index // 2].count_nonzero()
        assert label == index % 2


@pytest.mark.parametrize(
    ("arch", "policy", "border_px", "is_equal"),
    [
        ("bagnet33", "own", 16, False),
        ("bagnet33", "own", 32, True),  # its cells see 33 px: not a picture and what lies behind 32 px of border
        ("bagnet33", "infinite", 0, True),
        ("resnet18", "own", 0, False),
        ("resnet18", "full", 0, False),  # BatchNorm leaves a background that full convolution does not carry along
        ("resnet18", "infinite", 0, True),
        ("resnet18", "infinite-adaptive", 16, True),
        ("resnet18", "own", 512, True),
    ],
)
def test_features_are_equal_exactly_where_they_must_be(
    tmp_path: Path, arch: str, policy: str, border_px: int, is_equal: bool
) -> None:
    found = EXPERIMENT.run_cell(FEW, cell(arch, policy=policy, border_px=border_px), tmp_path)
    if is_equal:
        assert found["change"] < 1e-6
        assert (found["accuracy"], found["low"], found["high"]) == (0.5, 0.5, 0.5)
        assert found["is_chance"]
    else:
        assert found["change"] > 1e-3
    with np.load(tmp_path / "right.npz") as saved:
        assert saved["score"].mean() == found["accuracy"]
        assert saved["control"].shape == (2, 6)
    assert found["field_radius_px"] == {"bagnet33": 16.5, "resnet18": 217.5}[arch]


def test_location_is_read_from_own_padding(tmp_path: Path) -> None:
    config = Config(archs=("resnet18",), pictures=40)
    found = EXPERIMENT.run_cell(config, cell(), tmp_path)
    assert not found["is_chance"]
    assert found["accuracy"] > 0.7
    assert found["has_converged"]


def test_training_from_scratch_goes_end_to_end_and_resumes(tmp_path: Path) -> None:
    config = Config(archs=("timm/resnet10t",), pictures=4, training=Recipe(epochs=2, batch_size=4))
    scratch = cell("timm/resnet10t", "scratch", "infinite")
    found = EXPERIMENT.run_cell(config, scratch, tmp_path)
    assert found["epochs"] == 2
    assert found["accuracy"] == 0.5, "under infinite even training cannot tell the places apart"
    assert found["change"] < 1e-5
    assert EXPERIMENT.run_cell(config, scratch, tmp_path) == found
    assert "control_accuracy" not in found


def test_the_cached_network_is_not_trained(tmp_path: Path) -> None:
    config = Config(archs=("timm/resnet10t",), pictures=4, training=Recipe(epochs=1))
    EXPERIMENT.run_cell(config, cell("timm/resnet10t", "scratch"), tmp_path)
    network = quadrant._network("timm/resnet10t", "scratch", "paper", 0, None)
    fresh = feature_network("timm/resnet10t", "scratch", "paper", 0)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), fresh.parameters(), strict=True))


@pytest.mark.parametrize(
    ("arch", "pool", "kind", "features"),
    [
        ("resnet18", "paper", nn.AdaptiveMaxPool2d, 512),
        ("resnet18", "own", nn.AdaptiveAvgPool2d, 512),
        ("bagnet33", "paper", nn.AdaptiveMaxPool2d, 2048),
        ("densenet121", "paper", None, 1024),
        ("mobilenet_v3_small", "max", nn.AdaptiveMaxPool2d, 1024),
        ("timm/resnet10t", "paper", None, 512),
    ],
)
def test_feature_networks(arch: str, pool: str, kind: type[nn.Module] | None, features: int) -> None:
    model = feature_network(arch, "random", pool, seed=1)
    assert not model.training
    with torch.no_grad():
        assert model(torch.rand(2, 3, 64, 64)).shape == (2, features)
    if kind is not None:
        assert isinstance(model.avgpool, kind)


def test_pretrained_weights_come_from_a_file(tmp_path: Path) -> None:
    expected = load("timm/resnet10t")
    torch.save(expected.state_dict(), tmp_path / "weights.pt")
    got = feature_network("timm/resnet10t", "pretrained", "paper", seed=1, weights=tmp_path / "weights.pt")
    assert torch.equal(got.get_parameter("conv1.0.weight"), expected.get_parameter("conv1.0.weight"))


def test_the_packaged_network_is_pretrained_without_a_download(tmp_path: Path) -> None:
    config = Config(archs=("tf_efficientnet_lite0",), inits=("pretrained",), pictures=8)
    found = EXPERIMENT.run_cell(config, cell("tf_efficientnet_lite0", "pretrained"), tmp_path)
    assert found["features"] == 1280
    assert found["change"] > 1e-3
    same = EXPERIMENT.run_cell(config, cell("tf_efficientnet_lite0", "pretrained", "infinite"), tmp_path)
    assert same["change"] < 1e-5
    assert same["accuracy"] == 0.5


def test_timms_networks_take_the_largest_value_when_asked() -> None:
    own, largest = (feature_network("timm/resnet10t", "random", pool, seed=1) for pool in ("own", "max"))
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        maps = own.forward_features(images)
        assert torch.allclose(own(images), maps.mean((2, 3)))
        assert torch.allclose(largest(images), maps.amax((2, 3)))


def test_calibration_gives_each_norm_the_statistics_of_its_input() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4, momentum=0.3))
    images = Canvases(torch.rand(8, 3, 56, 56), 0)
    calibrate_(model, images, batch_size=4)
    with torch.no_grad():
        maps = model[0](torch.stack([image for image, _ in images]))
    assert torch.allclose(model[1].running_mean, maps.mean((0, 2, 3)), atol=1e-6)
    assert torch.allclose(model[1].running_var, maps.var((0, 2, 3)), rtol=0.05)
    assert model[1].momentum == 0.3
    assert not model.training


@pytest.mark.parametrize(("arch", "norms"), [("resnet18", 0), ("bagnet9", 0), ("timm/resnet10t", None)])
def test_folded_networks_are_the_same_function(arch: str, norms: int | None) -> None:
    model = feature_network(arch, "random", "paper", seed=0).double()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    quick = folded(model)
    if norms is not None:
        assert sum(isinstance(module, nn.BatchNorm2d) for module in quick.modules()) == norms
    images = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        expected = model(images)
        torch.testing.assert_close(quick(images), expected, rtol=1e-10, atol=float(expected.abs().max()) * 1e-12)


def test_a_network_whose_way_depends_on_its_values_is_not_folded() -> None:
    class Fork(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images if images.sum() > 0 else -images

    fork = Fork()
    assert folded(fork) is fork


def test_a_convolution_that_is_used_twice_keeps_its_norm() -> None:
    class Twice(nn.Module):
        def __init__(self, way: str) -> None:
            super().__init__()
            self.way, self.convolution, self.norm = way, nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
            nn.init.uniform_(self.norm.running_mean, 1, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            map_ = self.convolution(images)
            if self.way == "called":
                return self.convolution(self.norm(map_))
            return map_ + self.norm(map_)

    images = torch.rand(1, 4, 8, 8, dtype=torch.float64)
    for way in ("called", "read"):
        model = Twice(way).double().eval()
        torch.testing.assert_close(folded(model)(images), model(images), rtol=1e-12, atol=1e-12)


def test_networks_without_a_pool_or_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="which has no AdaptiveAvgPool2d"):
        feature_network("densenet121", "random", "max", seed=0)
    with pytest.raises(UnknownName, match="resnet18"):
        feature_network("resnet18x", "random", "paper", seed=0)


def test_a_run_on_a_folder_of_images_draws_figure_and_tables(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for i in range(15):
        Image.fromarray(draw.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"no image")
    config = Config(
        archs=("timm/resnet10t", "resnet18"), policies=("own", "infinite"), borders_px=(0,), pictures=5, data=folder
    )
    with pytest.warns(UserWarning, match=r"cannot be read, broken\.png"):
        section = run(EXPERIMENT, config, tmp_path / "run", progress=False)
    table, control = section.tables
    assert table.columns[3:] == ["0 px"]
    assert [row[:3] for row in table.rows] == [
        ["timm/resnet10t", "random", "own padding"],
        ["timm/resnet10t", "random", "infinite"],
        ["ResNet-18", "random", "the paper's"],
        ["ResNet-18", "random", "own padding"],
        ["ResNet-18", "random", "infinite"],
    ]
    assert table.rows[2][3] == "≈ 100.0"
    assert table.rows[4][3] == "50.0 (50.0–50.0) ="
    assert len(control.rows) == 4
    assert section.figures[0].path.is_file()
    assert (tmp_path / "run" / "table.csv").read_text().count("\n") == 5


def test_several_seeds_and_inits_are_drawn(tmp_path: Path) -> None:
    config = Config(archs=("resnet18", "bagnet33"), inits=("scratch", "random"), policies=("own", "full"), seeds=2)
    results = []
    for one in EXPERIMENT.cells(config):
        right = 1.0 if one.parameters["border_px"] < 64 else 0.5
        metrics = {"accuracy": right, "low": right, "high": right, "is_chance": right == 0.5, "change": right - 0.5}
        metrics |= {"field_radius_px": 217.5}
        if one.parameters["init"] == "random":
            metrics |= {"control_accuracy": 0.49, "control_is_chance": True}
        results.append(Result(one, metrics, tmp_path, 1.0))
    section = EXPERIMENT.draw(config, results, tmp_path)
    assert section.tables[0].rows[1][3] == "100.0 (100.0–100.0)"
    assert section.tables[0].rows[1][-1] == "50.0 (50.0–50.0) ="
    assert {row[1] for row in section.tables[1].rows} == {"random"}
    assert "up to a border of 32 px" in section.text[1]
    assert "means over 2 seeds" in section.figures[0].caption


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="which is not there"):
        EXPERIMENT.run_cell(Config(data=tmp_path / "none", pictures=2), cell(), tmp_path)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"archs": ()}, "at least one, each once"),
        ({"borders_px": (16, 16)}, "at least one, each once"),
        ({"borders_px": (-1,)}, "no negative border"),
        ({"seeds": 0}, "one seed"),
        ({"policies": ("zero",)}, "policies are own, full"),
        ({"weights": Path("a.pt")}, "pretrained among inits"),
        ({"protocol": "paper"}, "protocols are split, published"),
    ],
)
def test_settings_without_sense_are_refused(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Config(**wrong)


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ConfigError, match=f"got device='{device}', and PyTorch sees [0-9]+ GPUs here; needed: cpu"):
        Config(device=device)
