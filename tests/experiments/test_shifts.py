"""The shift experiment in small: exact arms are exact, the page, data from a folder, settings without sense."""

import csv
import dataclasses
from pathlib import Path

import pytest

from borderless.cli import main as cli
from borderless.errors import ConfigError
from borderless.experiments import EXPERIMENTS
from borderless.experiments.runner import run
from borderless.experiments.shifts import COMPARED, PAPERS_NETWORKS
from borderless.experiments.shifts import ShiftsConfig as Config
from borderless.training.recipe import IMAGENET
from support.labeled_images import write_folder

EXPERIMENT = EXPERIMENTS["shifts"]
FEW = dataclasses.replace(
    Config.small(),
    arms=("own", "infinite", "infinite-adaptive-blur"),
    test_images=24,
    training=dataclasses.replace(Config().training, epochs=1),
)


@pytest.mark.slow
def test_exact_arms_are_exact_and_everything_is_drawn(tmp_path: Path) -> None:
    section = run(EXPERIMENT, FEW, tmp_path, progress=False)
    with (tmp_path / "table.csv").open() as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    assert float(rows["infinite-adaptive-blur"]["canvas"]) == 1
    assert float(rows["infinite"]["canvas_stride"]) == float(rows["infinite-adaptive-blur"]["canvas_stride"]) == 1
    assert rows["own"]["stride_px"] == "4"
    assert {float(row["cost"]) >= 1 for row in rows.values()} == {True}
    assert [figure.path.name for figure in section.figures] == ["consistency-small.png", "diagonal-small.png"]
    assert "No prediction changes on the canvas" in section.text[1]
    assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.mark.nightly
def test_papers_numbers_stand_beside_those_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real path of --data, on small crops: the sizes are the paper's divided by seven."""
    data = write_folder(tmp_path / "data", {"a": 8, "b": 8})
    for name, value in {"PAPER_CROP_PX": 32, "SHORTER_SIDE_PX": 36}.items():
        monkeypatch.setattr(f"borderless.experiments.shifts.experiment.{name}", value)
    monkeypatch.setattr(
        "borderless.experiments.shifts.experiment.RANGE_PX",
        {"zhang2019": 4, "kayhan2020": 8, "circular": 4, "canvas": 8},
    )
    monkeypatch.setattr("borderless.data.imagenet_a.folders_of", lambda every: sorted(every))
    config = dataclasses.replace(
        Config.paper(),
        data=data,
        classes="imagenet-a",
        archs=("resnet18",),
        arms=("own", "full"),
        passes=1,
        training=dataclasses.replace(IMAGENET, epochs=1, batch_size=4, workers=0),
    )
    section = run(EXPERIMENT, config, tmp_path / "run", progress=False)
    columns = list(section.tables[0].columns)
    first = section.tables[0].rows[0]
    assert first[columns.index("paper: diagonal")] == "79.43"
    assert first[columns.index("paper: consistency")] == "86.43"
    assert len(section.figures) == 2


def test_with_data_the_command_line_starts_from_the_papers_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        "borderless.experiments.runner.run", lambda experiment, config, folder, **_: seen.append(config) or 1 / 0
    )
    for words in (["--data", "images", "--seeds", "3"], ["--data=images", "--archs", "resnet50"], []):
        with pytest.raises(ZeroDivisionError):
            cli.main(["run", "shifts", *words])
    assert seen[0] == dataclasses.replace(Config.paper(), data=Path("images"), seeds=3)
    assert seen[0].archs == PAPERS_NETWORKS and seen[0].training.epochs == 90
    assert seen[1].archs == ("resnet50",) and seen[1].training == IMAGENET
    assert seen[2] == Config()


def test_cells() -> None:
    cells = EXPERIMENT.cells(Config(archs=("small", "timm/resnet10t"), seeds=2))
    assert len(cells) == len({cell.name for cell in cells}) == 2 * 2 * len(COMPARED)
    assert cells[0].name == "small-own-seed0"


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"arms": ("owl",)}, "arms to be one or more values, each once, each one of own, own-padded, full"),
        ({"arms": ()}, "one or more values"),
        ({"seeds": 0}, "got seeds=0"),
        ({"classes": "imagenet-a"}, "without --data"),
    ],
)
def test_settings_without_sense_are_refused(wrong: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Config(**wrong)
