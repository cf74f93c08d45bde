"""Moving objects in small: a run of the recipe, the page, wrong settings."""

import csv
import dataclasses
from pathlib import Path

import pytest

from borderless.data.choices import Behind
from borderless.errors import ConfigError
from borderless.experiments import EXPERIMENTS
from borderless.experiments.experiment import Result
from borderless.experiments.moving_objects import MovingObjectsConfig as Config
from borderless.experiments.runner import run
from support.labeled_images import write_fashion_mnist

EXPERIMENT = EXPERIMENTS["moving-objects"]


def test_the_recipe_predicts_the_same_everywhere_on_black(tmp_path: Path) -> None:
    data = write_fashion_mnist(tmp_path / "fashion", {"train": 100, "t10k": 20}, packed=True)
    config = Config(
        data=data,
        arms=("own-moved", "recipe"),
        at=("left",),
        per_class=(2,),
        rates=(4e-3, 1e-6),
        seeds=1,
        validation_images=5,
        test_images=12,
        training=dataclasses.replace(Config().training, epochs=1),
    )
    section = run(EXPERIMENT, config, tmp_path / "run", progress=False)
    with (tmp_path / "run" / "table.csv").open() as file:
        own, recipe = csv.DictReader(file)
    assert float(recipe["changed"]) == 0
    same = [float(recipe[key]) for key in ("accuracy", "worst", "everywhere", "edge", "left", "right")]
    assert same == pytest.approx([same[0]] * 6)
    assert own["training_images"] == "20" and float(own["cost"]) == 1 < float(recipe["cost"])
    assert {own["learning_rate"], recipe["learning_rate"]} <= {"0.004", "1e-06"}
    assert "against 0.0 %" not in section.text[-1] or float(own["changed"]) == 0
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


def test_drawing_compares_by_seed(tmp_path: Path) -> None:
    behind: tuple[Behind, ...] = ("black", "photographs")
    config = Config(arms=("own", "own-moved", "recipe"), at=("left",), behind=behind, per_class=(0, 5), seeds=3)
    results = []
    for cell in EXPERIMENT.cells(config):
        gain = {"own": 0.0, "own-moved": 0.1, "recipe": 0.2}[cell.parameters["arm"]]
        accuracy = 0.5 + gain + 0.01 * cell.parameters["seed"]
        metrics = dict.fromkeys(
            ("accuracy", "worst", "everywhere", "edge", "right", "changed", "crops_changed"), accuracy
        )
        results.append(Result(cell, {**metrics, "cost": 1.0 + gain}, tmp_path, 1.0))
    section = EXPERIMENT.draw(config, results, tmp_path)
    assert len(section.tables) == len(section.figures) == 2
    table = section.tables[0]
    assert [row[:2] for row in table.rows][::3] == [["5", "original padding"], ["all", "original padding"]]
    assert table.rows[2][-3:] == ["+20.0 ± 0.0", "+10.0 ± 0.0", "1.2×"]
    assert "+10.0 ± 0.0 points over all positions" in " ".join(section.text)


@pytest.mark.parametrize("arms", [("own",), ("own", "recipe"), ("own-moved", "recipe")])
def test_the_result_of_any_arms_is_told(arms: tuple[str, ...], tmp_path: Path) -> None:
    config = Config(arms=arms, seeds=1)
    keys = ("accuracy", "worst", "everywhere", "edge", "right", "changed", "cost")
    results = [Result(cell, dict.fromkeys(keys, 0.25), tmp_path, 1.0) for cell in EXPERIMENT.cells(config)]
    result = EXPERIMENT.draw(config, results, tmp_path).result
    compared = "+0.0 points over all positions" in result
    assert compared == (set(arms) == {"own-moved", "recipe"})
    assert compared or "On black, trained on the left: original padding 25.0" in result
    assert result.endswith((".", "%."))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"objects": "tiles", "behind": ("photographs",)}, "a black background for tiles of photographs"),
        ({"behind": ("white",)}, "each one of black, photographs"),
        ({"rates": ()}, "rates to be one or more values"),
        ({"at": ("right",)}, "each one of anywhere, left"),
    ],
)
def test_settings_without_sense_are_refused(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Config(**wrong)
