"""Which border keeps the promise: the numbers that the figure shows, and the measure itself on maps made by hand."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from borderless.data.drawings import LETTER
from borderless.data.letter import image, on_plane
from borderless.experiments import EXPERIMENTS
from borderless.experiments.equivariance import EquivarianceConfig as Config
from borderless.experiments.equivariance import experiment as equivariance
from borderless.experiments.experiment import Cell
from borderless.experiments.runner import run
from borderless.measures.equivariance import empty_response, relative_difference

# Relative differences below this are float32 rounding.
EXACT = 1e-5


def errors(border: str, bias: bool, folder: Path) -> list[float]:
    cell = Cell("one", {"border": border, "bias": bias})
    return equivariance.run_cell(Config(largest_shift=6), cell, folder)["errors"]


def test_the_object_moves_and_stays_whole() -> None:
    for shift in range(9):
        moved = image(shift)[0, 0]
        assert moved.sum() == LETTER.sum()
        assert torch.equal(torch.roll(image()[0, 0], (-shift, -shift), (0, 1)), moved)


def test_the_measure_sees_a_lost_cell_and_the_shift() -> None:
    map_ = SimpleNamespace(window=torch.zeros(1, 1, 4, 4), start=(-1, 2))
    map_.window[0, 0, 1, 1] = 3.0  # frame index (0, 3)
    moved = SimpleNamespace(window=torch.zeros(1, 1, 4, 4), start=(-1, 2))
    moved.window[0, 0, 0, 0] = 3.0  # frame index (-1, 2)
    assert relative_difference(on_plane(moved, 0.0), on_plane(map_, 0.0, 1), 3.0) == 0
    moved.window.zero_()
    assert relative_difference(on_plane(moved, 0.0), on_plane(map_, 0.0, 1), 3.0) == 1


@pytest.mark.parametrize("bias", [False, True])
def test_infinite_is_exact(bias: bool, tmp_path: Path) -> None:
    assert max(errors("infinite", bias, tmp_path)) < EXACT


def test_full_is_exact_only_without_a_bias(tmp_path: Path) -> None:
    assert max(errors("full", False, tmp_path)) < EXACT
    assert min(errors("full", True, tmp_path)) > 0.01


@pytest.mark.parametrize("border", ["valid", "zero", "reflect", "replicate", "circular"])
def test_the_others_fail_near_the_edge(border: str, tmp_path: Path) -> None:
    assert errors(border, False, tmp_path)[-1] > 0.1


def test_circular_is_exact_for_circular_shifts(tmp_path: Path) -> None:
    cell = Cell("one", {"border": "circular", "bias": True})
    metrics = equivariance.run_cell(Config(largest_shift=8), cell, tmp_path)
    assert max(metrics["errors_around"]) < EXACT
    assert metrics["errors"][-1] > 0.1


def test_the_section_tells_it(tmp_path: Path) -> None:
    page = run(
        EXPERIMENTS["equivariance"],
        Config(borders=("zero", "circular", "infinite"), largest_shift=2),
        tmp_path,
        progress=False,
    )
    assert [row[0] for row in page.tables[0].rows] == ["zero", "circular", "circular shift", "infinite"]
    assert [figure.path.name for figure in page.figures] == ["equivariance.png", "errors.png"]
    assert all(figure.path.is_file() for figure in page.figures)
    assert (tmp_path / "table.csv").read_text().startswith("border,bias,shift_px,relative_error")


def test_a_shift_out_of_sight_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected largest_shift to be from 1 to 8 but got largest_shift=9"):
        Config(largest_shift=9)


def test_weights_come_from_the_seed_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (equivariance.network(True, seed)[0].weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.isfinite(empty_response(equivariance.network(True, 0)))
