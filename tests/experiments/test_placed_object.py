import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from borderless.data.photos import PHOTOS
from borderless.errors import ConfigError
from borderless.experiments import EXPERIMENTS
from borderless.experiments.experiment import Cell, Result
from borderless.experiments.placed_object import ARMS, Background, PhotoName
from borderless.experiments.placed_object import PlacedObjectConfig as Config
from borderless.experiments.placed_object import experiment as placed_object
from borderless.experiments.placed_object.experiment import logits_at

EXPERIMENT = EXPERIMENTS["placed-object"]


def test_photos_of_the_config_are_those_of_the_data() -> None:
    assert set(PhotoName.__args__) == set(PHOTOS)
    assert set(placed_object.BRIGHTNESS) == set(Background.__args__)


def test_cells_are_photos_times_backgrounds_times_arms() -> None:
    config = Config.small()
    cells = EXPERIMENT.cells(config)
    assert len(cells) == len(config.photos) * len(config.backgrounds) * len(ARMS)
    assert len({cell.name for cell in cells}) == len(cells)


def test_offsets_are_on_and_off_the_stride() -> None:
    for config in (Config(), Config.small()):
        whole = [offset % placed_object.TOTAL_STRIDE_PX == 0 for offset in config.offsets_px]
        assert any(whole)
        assert not all(whole)
        assert config.offsets_px[len(whole) // 2] == 64  # the middle: what the others are compared with


def test_answers_place_the_photo() -> None:
    """A "network" that returns the row and column of the brightest pixel finds the photo where it was put."""

    class Brightest(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            where = images[:, 0].flatten(1).argmax(1)
            return torch.stack([where // 224, where % 224, images.amin((1, 2, 3))], 1).double()

    photo = torch.full((3, 96, 96), 0.5)
    photo[:, 2, 5] = 1
    positions = torch.cartesian_prod(torch.tensor([0, 64, 128]), torch.tensor([0, 15, 33, 128]))
    logits, seconds_per_image = logits_at(Brightest(), photo, positions, color=-0.25)
    assert logits.tolist() == [[row + 2, column + 5, -0.25] for row, column in positions.tolist()]
    assert seconds_per_image > 0


@pytest.mark.parametrize(("arm", "is_same_everywhere"), [("own", False), ("infinite-adaptive", True)])
def test_a_cell(tmp_path: Path, arm: str, is_same_everywhere: bool) -> None:
    config = Config(offsets_px=(0, 65))
    cell = Cell("cell", {"photo": "cat", "background": "black", "arm": arm})
    metrics = EXPERIMENT.run_cell(config, cell, tmp_path)
    assert (metrics["change_between"] < 1e-5) == is_same_everywhere
    assert (metrics["probability_max"] - metrics["probability_min"] < 1e-4) == is_same_everywhere
    assert (metrics["cost"] == 1) == (arm == "own")
    assert sum(metrics["predictions"].values()) == 4
    with np.load(tmp_path / "maps.npz") as maps:
        assert maps["probability"].shape == maps["is_right"].shape == (2, 2)
        assert maps["is_right"].mean() == metrics["right_share"]


def test_drawing_writes_a_figure_and_a_table_for_each_background(tmp_path: Path) -> None:
    config = dataclasses.replace(Config.small(), backgrounds=("black", "gray"))
    n = len(config.offsets_px)
    generator = np.random.default_rng(0)
    results = []
    for cell in EXPERIMENT.cells(config):
        folder = tmp_path / cell.name
        folder.mkdir()
        probability = generator.random((n, n))
        np.savez(folder / "maps.npz", probability=probability, first=probability > 0.5, is_right=probability > 0.5)
        metrics = {
            "distinct_predictions": 2,
            "change_whole_strides": 1e-6,
            "change_between": None,
            "probability_min": probability.min(),
            "probability_mean": probability.mean(),
            "probability_max": probability.max(),
            "right_share": 0.25,
            "predictions": {"tabby": 4, "cup": 12},
            "macs": 385e6,
            "cost": 1.0,
            "receptive_field_px": 300,
            "ms_per_image": 20.0,
        }
        results.append(Result(cell, metrics, folder, 1.0))
    section = EXPERIMENT.draw(config, results, tmp_path)
    assert [figure.path.name for figure in section.figures] == ["placed_object_black.png", "placed_object_gray.png"]
    assert all(figure.path.is_file() for figure in section.figures)
    assert [table.columns[0] for table in section.tables] == ["on black", "on gray"]
    assert [len(table.rows) for table in section.tables] == [len(ARMS)] * 2
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert len(lines) == 1 + len(results)
    assert "tabby 4; cup 12" in lines[1]
    assert "25 % with original padding" in section.text[2]
    # "2 2" are numbers of classes, one for each photograph.
    at = section.tables[0].columns.index("classes")
    assert {row[at] for row in section.tables[0].rows} == {"2 2"}
    assert "classes: number of different predicted classes, for cat, coffee;" in section.tables[0].caption


def test_the_demo_has_one_background() -> None:
    # On the others the network is wrong nearly everywhere, which is a figure full of crosses.
    assert Config.small().backgrounds == ("black",)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"photos": ()}, "photos to be one or more values, each once, each one of cat, coffee"),
        ({"offsets_px": (0, 0)}, "each once, each at least 0 but got offsets_px"),
        ({"offsets_px": (5,)}, "two or more offsets"),
        ({"offsets_px": (0, 129)}, "0 to 128, but got"),
        ({"size_px": 200}, "0 to 24, but got"),
    ],
)
def test_settings_without_sense_are_refused(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Config(**wrong)
