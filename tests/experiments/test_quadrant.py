"""The quadrant experiment. Oracles: where no cell sees both picture and edge, features are equal, bit by bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from borderless.data.quadrant import Canvases, canvas_px, positions
from borderless.errors import ConfigError, DataError
from borderless.experiments import EXPERIMENTS
from borderless.experiments.experiment import Cell, Result
from borderless.experiments.published import QUADRANT
from borderless.experiments.quadrant import QuadrantConfig as Config
from borderless.experiments.quadrant import experiment as quadrant
from borderless.experiments.quadrant.page import PUBLISHED, plots
from borderless.experiments.runner import run
from borderless.models.features import as_published, feature_network, first_padding_px
from borderless.training import Recipe

EXPERIMENT = EXPERIMENTS["quadrant"]
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
    assert set(PUBLISHED.values()) == {key[0] for key in QUADRANT.numbers}
    assert {key[2] for key in QUADRANT.numbers} == set(Config().borders_px)


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


def test_the_published_protocol_trains_the_linear_layer_alone_and_normalizes_by_the_border(
    tmp_path: Path,
) -> None:
    arch = "timm/resnet10t"
    config = Config(archs=(arch,), pictures=2, protocol="published", training=Recipe(epochs=1, batch_size=4))
    found = EXPERIMENT.run_cell(config, cell(arch), tmp_path)
    assert found["epochs"] == 1 and "control_accuracy" not in found
    trained = torch.load(tmp_path / "best.pt", weights_only=True)
    plain = quadrant._network(config, arch, "random", 0)
    assert torch.equal(trained["0.layer4.0.conv2.weight"], plain.layer4[0].conv2.weight)
    assert not torch.equal(trained["0.layer4.0.bn2.running_mean"], plain.layer4[0].bn2.running_mean)
    assert plain.maxpool.kernel_size == 3


@torch.no_grad()
def test_the_published_border_takes_the_place_of_the_first_padding() -> None:
    model = as_published(feature_network("resnet18", "random", "paper", 0))
    assert first_padding_px(model) == 3 and model.maxpool.kernel_size == 2
    canvas, _ = Canvases(torch.rand(1, 3, 56, 56), 0)[0]
    wide, _ = Canvases(canvas[None, :, :56, :56], 16 - first_padding_px(model))[0]
    found = model(wide[None])
    model.conv1.padding = (16, 16)
    assert torch.allclose(found, model(canvas[None]), rtol=1e-4)


def test_the_cached_network_is_not_trained(tmp_path: Path) -> None:
    config = Config(archs=("timm/resnet10t",), pictures=4, training=Recipe(epochs=1))
    EXPERIMENT.run_cell(config, cell("timm/resnet10t", "scratch"), tmp_path)
    network = quadrant._network(config, "timm/resnet10t", "scratch", 0)
    fresh = feature_network("timm/resnet10t", "scratch", "paper", 0)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), fresh.parameters(), strict=True))


def test_the_packaged_network_is_pretrained_without_a_download(tmp_path: Path) -> None:
    config = Config(archs=("tf_efficientnet_lite0",), inits=("pretrained",), pictures=8)
    found = EXPERIMENT.run_cell(config, cell("tf_efficientnet_lite0", "pretrained"), tmp_path)
    assert found["features"] == 1280
    assert found["change"] > 1e-3
    same = EXPERIMENT.run_cell(config, cell("tf_efficientnet_lite0", "pretrained", "infinite"), tmp_path)
    assert same["change"] < 1e-5
    assert same["accuracy"] == 0.5


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
    with pytest.warns(UserWarning, match=r"broken\.png, which cannot be read"):
        section = run(EXPERIMENT, config, tmp_path / "run", progress=False)
    table, control = section.tables
    assert table.columns[3:] == ["0 px"]
    assert [row[:3] for row in table.rows] == [
        ["timm/resnet10t", "random", "original padding"],
        ["timm/resnet10t", "random", "infinite"],
        ["ResNet-18", "random", "the paper's"],
        ["ResNet-18", "random", "original padding"],
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


def test_the_demo_ends_where_nothing_can_be_read() -> None:
    demo = Config.small()
    first, *_, last = demo.sorted_borders_px
    for arch in demo.archs:
        assert first < quadrant._field_px(demo, arch) / 2 <= last


@pytest.mark.parametrize(
    ("borders_px", "title", "at_the_line"),
    [((32, 128), "ResNet-18  (field radius 217.5 px)", []), ((32, 128, 256), "ResNet-18", [" 217.5 px"])],
)
def test_the_radius_of_the_field_is_at_its_line_or_if_that_is_off_the_axis_in_the_title(
    borders_px: tuple[int, ...],
    title: str,
    at_the_line: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = []
    save = plots.save
    monkeypatch.setattr(plots, "save", lambda fig, *rest, **options: drawn.append(fig) or save(fig, *rest, **options))
    config = Config(archs=("resnet18",), borders_px=borders_px)
    metrics = {"accuracy": 0.9, "low": 0.8, "high": 1.0, "is_chance": False, "change": 0.1, "field_radius_px": 217.5}
    metrics |= {"control_accuracy": 0.56, "control_is_chance": False}
    results = [Result(one, metrics, tmp_path, 1.0) for one in EXPERIMENT.cells(config)]
    section = EXPERIMENT.draw(config, results, tmp_path)
    (ax,) = drawn[0].axes
    assert ax.get_title() == title
    assert [text.get_text() for text in ax.texts] == at_the_line
    # A control that misses 50 % now and then is what its interval promises.
    assert "of the 95 % intervals, one in twenty misses it by chance" in section.tables[1].caption


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="which does not exist"):
        EXPERIMENT.run_cell(Config(data=tmp_path / "none", pictures=2), cell(), tmp_path)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"archs": ()}, "archs to be one or more values, each once"),
        ({"borders_px": (16, 16)}, "one or more values, each once, each at least 0"),
        ({"borders_px": (-1,)}, "each once, each at least 0 but got borders_px"),
        ({"seeds": 0}, "seeds to be from 1 to 10000"),
        ({"policies": ("zero",)}, "of own, full"),
        ({"weights": Path("a.pt")}, "pretrained among inits"),
        ({"protocol": "published", "policies": ("full",)}, "the policy own with the published protocol but got full"),
        ({"protocol": "paper"}, "protocol to be one of split, published"),
    ],
)
def test_settings_without_sense_are_refused(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Config(**wrong)


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(ConfigError, match=f"but got device='{device}', and PyTorch sees [0-9]+ GPUs"):
        Config(device=device)
