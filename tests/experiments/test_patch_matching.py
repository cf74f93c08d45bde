"""Patch matching: the loss against its definition, learning, the page, settings without sense."""

import csv
import dataclasses
from pathlib import Path

import pytest

from borderless.errors import ConfigError
from borderless.experiments import EXPERIMENTS
from borderless.experiments.patch_matching import EMBEDDED, PAPER
from borderless.experiments.patch_matching import PatchMatchingConfig as Config
from borderless.experiments.runner import run

EXPERIMENT = EXPERIMENTS["patch-matching"]


@pytest.mark.nightly
def test_descriptors_are_learned_and_the_page_is_drawn(tmp_path: Path) -> None:
    few = dataclasses.replace(EMBEDDED, epochs=2, batch_size=32)
    config = dataclasses.replace(Config.small(), pairs=(48,), test_matches=100, training=few)
    section = run(EXPERIMENT, config, tmp_path, progress=False)
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert all(0 <= float(row["fpr95"]) < 0.9 for row in rows), "better than guessing"
    assert {row["cost"] for row in rows if row["arm"] == "same"} == {"1.0"}
    assert [figure.path.name for figure in section.figures] == ["pairs.png", "patch_matching.png"]
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_papers_settings() -> None:
    assert (
        Config.paper().training == PAPER
        and PAPER.batch_size == 256
        and PAPER.learning_rate == 10
        and PAPER.dampening == 0.9
    )
    assert [PAPER.rate(epoch, 0.0, 0) for epoch in (0, 5, 9)] == pytest.approx([10, 5, 1])


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"arms": ("half",)}, "of same, full, full-128"),
        ({"pairs": (1,)}, "each once, each at least 2 but got pairs"),
        ({"test_matches": 10}, "test_matches to be at least 100"),
        ({"seeds": 0}, "got seeds=0"),
    ],
)
def test_settings_without_sense_are_refused(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Config(**wrong)
