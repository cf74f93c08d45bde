"""Data efficiency in small: nested subsets, the control of equal cost, real formats, the page, wrong settings."""

import csv
import dataclasses
from pathlib import Path

import pytest
import torch

from borderless.data.shown import shown_in_training
from borderless.errors import ConfigError, DataError
from borderless.experiments import EXPERIMENTS
from borderless.experiments.data_efficiency import DataEfficiencyConfig as Config
from borderless.experiments.data_efficiency.experiment import _data
from borderless.experiments.runner import run
from support.labeled_images import write_fashion_mnist

EXPERIMENT = EXPERIMENTS["data-efficiency"]
ONE_EPOCH = dataclasses.replace(Config().training, epochs=1)


def test_every_arm_runs_and_the_page_is_drawn(tmp_path: Path) -> None:
    config = Config(per_class=(2, 4), arms=("own", "full", "own-padded", "recipe"), seeds=1, training=ONE_EPOCH)
    section = run(EXPERIMENT, config, tmp_path, progress=False)
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4
    assert {row["training_images"] for row in rows if row["per_class"] == "4"} == {"40"}
    costs = {row["arm"]: float(row["cost"]) for row in rows}
    assert costs["own"] == 1 and costs["own-padded"] >= costs["full"] > 1.5
    assert section.figures[0].path.name == "data_efficiency.png"
    assert "With 2 images per class, difference from original padding: full" in section.text[1]
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_random_translations_move_digits_and_small_images_in_each_epoch(tmp_path: Path) -> None:
    digits = _data(None, 0).train.few(1, 0)
    fashion = _data(write_fashion_mnist(tmp_path, {"train": 100, "t10k": 20}, packed=True), 0).train.few(1, 0)
    for images in (digits, fashion):
        still, moved = (shown_in_training(images, moves) for moves in (False, True))
        first = moved[0][0]
        assert torch.equal(first, moved[0][0]) and first.shape == still[0][0].shape
        moved.set_epoch(1)
        assert not torch.equal(first, moved[0][0])
    inside, outside = (one[0][0] for one in (shown_in_training(digits, True), shown_in_training(digits, False)))
    assert sorted(inside.flatten().tolist()) == sorted(outside.flatten().tolist()), "the whole digit, elsewhere"


def test_fashion_mnist_and_too_few_images(tmp_path: Path) -> None:
    data = write_fashion_mnist(tmp_path / "fashion", {"train": 100, "t10k": 20}, packed=True)
    config = Config(data=data, per_class=(3, 0), arms=("own",), seeds=1, training=ONE_EPOCH)
    run(EXPERIMENT, config, tmp_path / "run", progress=False)
    with (tmp_path / "run" / "table.csv").open() as file:
        assert [row["training_images"] for row in csv.DictReader(file)] == ["30", "90"]
    with pytest.raises(DataError, match="Expected 10 training images per class but got 9 of class 0"):
        run(EXPERIMENT, dataclasses.replace(config, per_class=(10,)), tmp_path / "other", progress=False)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"arms": ("owl",)}, "each once, each one of own, own-padded, full, infinite"),
        ({"per_class": ()}, "per_class to be one or more values"),
        ({"per_class": (-1,)}, "each once, each at least 0 but got per_class"),
        ({"seeds": 0}, "got seeds=0"),
    ],
)
def test_settings_without_sense_are_refused(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Config(**wrong)
