"""Patch matching: the loss against its definition, learning, the page, settings without sense."""

import csv
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from borderless.errors import TrainingError
from borderless.experiments import run
from borderless.experiments.patch_matching import EMBEDDED, EXPERIMENT, PAPER, Config, HardestInBatch
from borderless.experiments.runner import ConfigError
from borderless.training import fit


class Given(nn.Module):
    """Descriptors as they come."""

    def forward(self, descriptors: torch.Tensor) -> torch.Tensor:
        return descriptors


def test_the_loss_takes_the_closest_wrong_match_of_either_patch() -> None:
    torch.manual_seed(2)
    anchors, positives = (nn.functional.normalize(torch.randn(6, 4, dtype=torch.float64)) for _ in range(2))
    expected, right = 0.0, 0
    for i in range(6):
        own = (anchors[i] - positives[i]).norm()
        wrong = [(anchors[i] - positives[j]).norm() for j in range(6) if j != i]
        wrong += [(anchors[j] - positives[i]).norm() for j in range(6) if j != i]
        expected += max(0.0, float(1 + own - min(wrong))) / 6
        right += int(own < min(wrong))
    loss, found = HardestInBatch().loss(Given(), [anchors, positives])
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    assert int(found) == right


def test_a_patch_that_comes_twice_is_no_wrong_match() -> None:
    descriptors = nn.functional.normalize(torch.eye(4)[[0, 0, 1, 2]])
    loss, right = HardestInBatch().loss(Given(), [descriptors, descriptors])
    assert float(loss) == 0 and int(right) == 4


@pytest.mark.slow
def test_descriptors_are_learnt_and_the_page_is_drawn(tmp_path: Path) -> None:
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


def test_batches_cannot_be_parted(tmp_path: Path) -> None:
    parted = dataclasses.replace(EMBEDDED, parts=2)
    with pytest.raises(TrainingError, match="HardestInBatch, whose losses depend on all of a batch"):
        fit(Given(), [0] * 64, [], parted, tmp_path, 0, objective=HardestInBatch())


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"arms": ("half",)}, "of same, full, full-128"),
        ({"pairs": (1,)}, "two pairs"),
        ({"test_matches": 10}, "100 test matches"),
        ({"seeds": 0}, "got seeds=0"),
    ],
)
def test_settings_without_sense_are_refused(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Config(**wrong)
