"""Actions in small: the arms, real videos through the same code, the page, settings without sense."""

import csv
import dataclasses
from pathlib import Path

import pytest
import torch

from borderless.conversion import conversion_of
from borderless.errors import ConfigError
from borderless.experiments import EXPERIMENTS
from borderless.experiments.actions import ARMS, EMBEDDED, PAPER
from borderless.experiments.actions import ActionsConfig as Config
from borderless.experiments.actions.experiment import network
from borderless.experiments.runner import run
from support.videos import write_ucf101

EXPERIMENT = EXPERIMENTS["actions"]
ONE_EPOCH = dataclasses.replace(EMBEDDED, epochs=1)


def test_every_arm_runs_and_the_page_is_drawn(tmp_path: Path) -> None:
    config = Config(training_clips=32, test_clips=8, training=ONE_EPOCH)
    section = run(EXPERIMENT, config, tmp_path, progress=False)
    with (tmp_path / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["arm"] for row in rows] == list(ARMS)
    assert [figure.path.name for figure in section.figures] == ["clips.png", "curves-small.png"]
    costs = [float(row["cost"]) for row in rows]
    assert costs[0] == 1 and all(1.3 < one < 3 for one in costs[1:]) and costs[1] < costs[2]
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_videos_go_the_same_way(tmp_path: Path) -> None:
    write_ucf101(tmp_path)
    config = dataclasses.replace(
        Config.paper(),
        data=tmp_path / "videos",
        cache=tmp_path / "cache",
        archs=("small",),
        arms=("same",),
        training=dataclasses.replace(PAPER, epochs=1, batch_size=4, workers=0),
    )
    section = run(EXPERIMENT, config, tmp_path / "run", progress=False)
    assert [figure.path.name for figure in section.figures] == ["curves-small.png"]


@pytest.mark.filterwarnings("ignore::borderless.RoundingWarning")  # clips of 8 frames
@pytest.mark.parametrize("arch", ["small", "resnet3d18"])
def test_networks_of_the_arms(arch: str) -> None:
    clips = torch.rand(1, 3, 8, 32, 32)
    shapes = {}
    for arm in ARMS:
        model = network(arch, arm, 5, seed=0).eval()
        maps = []
        first = next(module for module in model.modules() if isinstance(module, torch.nn.Conv3d))
        first.register_forward_hook(lambda module, args, output, maps=maps: maps.append(tuple(output.shape[2:])))
        with torch.no_grad():
            assert model(clips).shape == (1, 5)
        shapes[arm] = maps[0]
        assert (conversion_of(model) is not None) == arm.startswith("infinite")
    assert shapes["full"][0] == shapes["same"][0] and shapes["full"][1] > shapes["same"][1]
    weights = [network(arch, arm, 5, seed=0).state_dict() for arm in ("same", "full", "infinite")]
    assert all(torch.equal(weights[0][name], other[name]) for other in weights[1:] for name in weights[0])


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"arms": ("half",)}, "of same, full, full-temporal"),
        ({"archs": ("resnet18",)}, "each once, each one of small, resnet3d18"),
        ({"training_clips": 4}, "Expected training_clips to be at least 8 but got training_clips=4"),
        ({"seeds": 0}, "got seeds=0"),
        ({"splits": Path("lists")}, "got splits='lists' without --data"),
    ],
)
def test_settings_without_sense_are_refused(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Config(**wrong)
