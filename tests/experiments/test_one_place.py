import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from borderless.data.digits import TRAINED_AT, all_positions
from borderless.errors import ConfigError
from borderless.experiments import EXPERIMENTS
from borderless.experiments.experiment import Cell, Result
from borderless.experiments.one_place import ARMS
from borderless.experiments.one_place import OnePlaceConfig as Config
from borderless.measures.over_positions import accuracy_by_stride
from borderless.models.small import STRIDE_PX, network

EXPERIMENT = EXPERIMENTS["one-place"]


def test_cells_are_arms_times_seeds() -> None:
    cells = EXPERIMENT.cells(Config(seeds=2))
    assert len(cells) == 2 * len(ARMS)
    assert len({cell.name for cell in cells}) == len(cells)
    assert {cell.parameters["seed"] for cell in cells[: len(ARMS)]} == {0}


def test_the_network_is_small_and_has_stride_4() -> None:
    model = network(seed=0)
    assert sum(p.numel() for p in model.parameters()) == 24_106
    assert model[:-3](torch.zeros(2, 1, 32, 32)).shape == (2, 32, 32 // STRIDE_PX, 32 // STRIDE_PX)


@pytest.mark.parametrize(("arm", "is_same_everywhere"), [("own", False), ("infinite-adaptive", True)])
def test_a_cell_predicts_at_every_place(tmp_path: Path, arm: str, is_same_everywhere: bool) -> None:
    config = Config(seeds=1, test_digits=8, training=dataclasses.replace(Config().training, epochs=2))
    metrics = EXPERIMENT.run_cell(config, Cell("cell", {"arm": arm, "seed": 0}), tmp_path)
    with np.load(tmp_path / "predictions.npz") as saved:
        predictions = saved["predictions"]
    assert predictions.shape == (361, 8)
    assert metrics["changed_predictions"] == (predictions != predictions[0]).sum()
    assert (metrics["changed_predictions"] == 0) == is_same_everywhere
    # Two epochs are little, but enough not to say the same of every digit, which would be the same everywhere as well.
    assert metrics["validation_accuracy"] > 0.2


@pytest.mark.parametrize("seeds", [1, 3])
def test_drawing_writes_figure_and_tables(tmp_path: Path, seeds: int) -> None:
    config = Config(seeds=seeds, test_digits=4)
    labels = torch.tensor([0, 1, 2, 3])
    generator = torch.Generator().manual_seed(0)
    results = []
    for cell in EXPERIMENT.cells(config):
        folder = tmp_path / cell.name
        folder.mkdir()
        predictions = torch.where(torch.rand(361, 4, generator=generator) < 0.7, labels, 9)
        np.savez_compressed(folder / "predictions.npz", predictions=predictions.numpy(), labels=labels.numpy())
        found = accuracy_by_stride(predictions, labels, all_positions(), STRIDE_PX, TRAINED_AT)
        metrics = {**found, "validation_accuracy": 1.0, "parameters": 1, "cost": 2.5}
        results.append(Result(cell, metrics, folder, 1.0))
    section = EXPERIMENT.draw(config, results, tmp_path)
    (table,), (figure,) = section.tables, section.figures
    assert figure.path.is_file()
    assert [row[0] for row in table.rows] == [arm.title for arm in ARMS.values()]
    assert ("±" in table.rows[0][2]) == (seeds > 1)
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + len(results)
    shown = 100 * np.mean([r.metrics["accuracy_min"] for r in results if r.cell.parameters["arm"] == "own"])
    assert f"{shown:.1f} % at the worst" in section.text[1]


@pytest.mark.parametrize("wrong", [{"seeds": 0}, {"test_digits": 0}, {"test_digits": 361}])
def test_settings_without_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"Expected (seeds|test_digits) to be"):
        Config(**wrong)
