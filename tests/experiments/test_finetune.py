import dataclasses
from pathlib import Path

import pytest

from borderless.errors import ConfigError
from borderless.experiments import EXPERIMENTS
from borderless.experiments.experiment import Result
from borderless.experiments.finetune import FinetuningConfig as Config

pytest.importorskip("skimage")
EXPERIMENT = EXPERIMENTS["finetune"]
TINY = "timm/test_resnet"


def config(**options: object) -> Config:
    training = dataclasses.replace(Config().training, epochs=1)
    return Config(arch=TINY, weights="random", canvas_px=64, seeds=1, training=training, **options)


@pytest.mark.nightly
def test_a_seed_learns_converts_and_is_tested_at_the_edge(tmp_path: Path) -> None:
    made = config(arms=("own", "infinite-adaptive"), reach=None)
    cell = EXPERIMENT.cells(made)[0]
    found = EXPERIMENT.run_cell(made, cell, tmp_path)
    assert found["own cost"] == 1
    assert found["infinite-adaptive cost"] > 1
    assert found["own changed"] > 0
    # On an endless plane the edge of the canvas is no place like another, before and after.
    assert found["infinite-adaptive changed"] == found["infinite-adaptive before changed"] == 0
    assert found["infinite-adaptive middle"] == found["infinite-adaptive edges"] == found["infinite-adaptive worst"]
    assert {path.name for path in tmp_path.iterdir()} == {"start", "own", "infinite-adaptive"}
    assert EXPERIMENT.run_cell(made, cell, tmp_path) == found, "it goes on from what is there"


@pytest.mark.parametrize("seeds", [1, 2])
def test_drawing_writes_figure_and_table(tmp_path: Path, seeds: int) -> None:
    made = dataclasses.replace(config(), seeds=seeds)
    keys = ("middle", "edges", "worst", "changed")
    metrics = {f"{arm} {moment}{key}": 0.5 for arm in made.arms for moment in ("before ", "") for key in keys}
    metrics |= {f"{arm} cost": 1.5 for arm in made.arms}
    results = [Result(cell, dict(metrics), tmp_path, 1.0) for cell in EXPERIMENT.cells(made)]
    section = EXPERIMENT.draw(made, results, tmp_path)
    assert (tmp_path / "table.csv").is_file()
    assert all(figure.path.stat().st_size > 5000 for figure in section.figures)
    assert [len(table.rows) for table in section.tables] == [4]
    assert "points in the middle" in " ".join(section.text)


@pytest.mark.parametrize("wrong", [{"seeds": 0}, {"canvas_px": 48}, {"reach": -1}, {"arms": ("none",)}])
def test_settings_without_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"Expected .* but got"):
        Config(**wrong)
