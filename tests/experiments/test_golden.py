"""Every experiment in its smallest form gives the table that it gave when `golden/` was recorded.

To record one anew after a change that is meant to change numbers: copy the `table.csv` of the failed run, whose folder
the test names, to `golden/NAME.csv`.
"""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from borderless.cli.commands.demo import DEMO
from borderless.experiments import EXPERIMENTS
from borderless.experiments.runner import run
from borderless.runtime.evaluation import one_thread

GOLDEN = Path(__file__).parent / "golden"
SETTINGS: dict[str, dict[str, Any]] = {
    "equivariance": {"largest_shift": 2},
    "conv-types": {},
    "rook": {"borders": ("zero", "full"), "seeds": 1, "epochs": 3},
    "one-place": {"seeds": 1, "test_digits": 1, "training": {"epochs": 1}},
    "placed-object": {"photos": ("cat",), "backgrounds": ("black",), "offsets_px": (0, 65)},
    "quadrant": {"archs": ("resnet18",), "borders_px": (0,), "policies": ("own", "infinite"), "pictures": 4},
    "red-green": {"borders": ("full",), "seeds": 1, "training": {"epochs": 1}},
    # Trained until predictions are no ties, which every kind of processor decides its own way.
    "shifts": {"arms": ("own", "full"), "seeds": 1, "test_images": 24, "passes": 1, "training": {"epochs": 12}},
    "data-efficiency": {"per_class": (2,), "arms": ("own", "own-padded"), "seeds": 2, "training": {"epochs": 2}},
    "patch-matching": {"pairs": (16,), "arms": ("same",), "seeds": 1, "test_matches": 100, "training": {"epochs": 1}},
    "actions": {"arms": ("same", "full"), "training_clips": 16, "test_clips": 8, "training": {"epochs": 1}},
    "moving-objects": {
        "arms": ("own-moved", "recipe"),
        "at": ("left",),
        "per_class": (1,),
        "rates": (4e-3,),
        "seeds": 1,
        "validation_images": 4,
        "test_images": 4,
        "training": {"epochs": 1},
    },
    "finetune": {"arch": "timm/test_resnet", "weights": "random", "canvas_px": 64, "training": {"epochs": 1}},
}
LONG = ("one-place", "placed-object", "finetune")
# How far numbers may be off that training, or a sum in another order, decides; all others are exact.
TOLERANCES = {"equivariance": 1e-4, "conv-types": 0, "placed-object": 1e-2} | {
    name: 0.2 for name in SETTINGS if name not in ("equivariance", "conv-types", "placed-object")
}
# Times, and counts of predictions after training.
MEASURED = {"ms_per_image", "changed", "changed_predictions"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.nightly) if name in LONG else name for name in EXPERIMENTS]
)
def test_the_table_is_the_recorded_one(name: str, tmp_path: Path) -> None:
    experiment = EXPERIMENTS[name]
    settings = dict(SETTINGS[name])
    if "training" in settings:
        settings["training"] = dataclasses.replace(experiment.Config().training, **settings["training"])
    with one_thread():
        section = run(experiment, experiment.Config(**settings), tmp_path, progress=False)
    # The demo's page tells the result of each of its experiments in one line.
    assert section.result.endswith(".") or name not in DEMO
    recorded, made = (
        list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        for path in (GOLDEN / f"{name}.csv", tmp_path / "table.csv")
    )
    assert made[0] == recorded[0]
    assert len(made) == len(recorded)
    for row, wanted in zip(made[1:], recorded[1:], strict=True):
        for column, cell, expected in zip(recorded[0], row, wanted, strict=True):
            if column not in MEASURED:
                assert same(cell, expected, TOLERANCES[name]), f"{column} of {wanted[:3]}: {cell}, recorded {expected}"


def same(cell: str, expected: str, tolerance: float) -> bool:
    """Whether texts and whole numbers are equal, and other numbers nearly."""
    if cell == expected:
        return True
    try:
        return "." in expected and float(cell) == pytest.approx(float(expected), abs=tolerance, rel=tolerance / 10)
    except ValueError:
        return False
