"""The Red-Green experiment in small: what each border must give, the page, and settings without sense."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import borderless as bl
from borderless.data.red_green import red_green
from borderless.errors import ConfigError
from borderless.experiments import EXPERIMENTS
from borderless.experiments.red_green import RECIPE
from borderless.experiments.red_green import RedGreenConfig as Config
from borderless.experiments.runner import run
from borderless.models.location import RedGreenNet

EXPERIMENT = EXPERIMENTS["red-green"]

FEW = Config(borders=("zero", "full"), seeds=1, training=dataclasses.replace(RECIPE, epochs=4))


def test_cells_are_every_border_with_every_seed() -> None:
    cells = EXPERIMENT.cells(Config(seeds=2))
    assert len(cells) == len({cell.name for cell in cells}) == 14
    assert cells[0].name == "valid-seed0"


@pytest.mark.nightly
def test_location_is_learned_under_zero_and_cannot_be_under_full(tmp_path: Path) -> None:
    section = run(EXPERIMENT, FEW, tmp_path, progress=False)
    with (tmp_path / "table.csv").open() as file:
        rows = {row["border"]: row for row in csv.DictReader(file)}
    assert float(rows["zero"]["similar"]) > 0.9 and float(rows["zero"]["dissimilar"]) < 0.5
    assert rows["full"]["similar"] == rows["full"]["dissimilar"] and rows["full"]["changed"] == "0"
    with np.load(tmp_path / "full-seed0" / "predictions.npz") as saved:
        assert np.array_equal(saved["similar"], saved["dissimilar"])
    assert [figure.path.name for figure in section.figures] == ["sets.png", "red_green.png"]
    assert "predicting by the half: <em>zero</em>" in section.text[1]
    assert "Under <em>full</em> every prediction" in section.text[2]
    shown = section.tables[0].rows[1]
    assert shown[0] == "full" and shown[2] == shown[4] == "89.7 ± 0.5"
    assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("border", ["full", "infinite"])
def test_logits_do_not_know_the_half(border: str) -> None:
    """Before any training, in float64: the pooled features are equal but for the order of sums."""
    data = red_green(0)
    model = bl.convert(RedGreenNet().double(), border)
    with torch.no_grad():
        one, other = (model(split.images[:50].double()) for split in (data.similar, data.dissimilar))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-14)


def test_the_network_is_the_papers() -> None:
    found = bl.explain(RedGreenNet(), (32, 32), "zero")
    assert found.total_stride == (8, 8)
    assert found.receptive_field == (17, 17)
    assert (
        sum(p.numel() for p in RedGreenNet().parameters()) == 3 * 32 * 9 + 32 * 32 * 9 + 32 * 64 * 9 + 64 * 64 * 9 + 130
    )


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"seeds": 0}, "seeds to be from 1 to 10000 but got seeds=0"),
        ({"borders": ()}, "borders to be one or more values"),
        ({"borders": ("zero", "zero")}, "each once"),
        ({"borders": ("mirror",)}, "of valid, zero"),
        ({"protocol": "leaky"}, "protocol to be one of clean, published"),
    ],
)
def test_settings_without_sense_are_refused(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Config(**wrong)
