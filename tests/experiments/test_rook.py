"""The rook: what each border lets one filter learn, the film, and the images themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from borderless.data import rook as data
from borderless.data.drawings import ROOK
from borderless.experiments import EXPERIMENTS
from borderless.experiments.experiment import Cell
from borderless.experiments.rook import RookConfig as Config
from borderless.experiments.rook import experiment as rook
from borderless.experiments.runner import run
from borderless.models.location import RookNet


def train(border: str, seed: int, folder: Path, **settings: Any) -> dict[str, Any]:
    return rook.run_cell(Config(**settings), Cell("one", {"border": border, "seed": seed}), folder)


def test_both_images_hold_the_same_rook_in_opposite_corners() -> None:
    upper_left, lower_right = data.images()[:, 0]
    height, width = ROOK.shape
    assert torch.equal(upper_left[:height, :width], lower_right[-height:, -width:])
    assert torch.equal(upper_left[:height, :width] * 9, torch.from_numpy(ROOK).float())
    assert upper_left[height:].eq(data.BACKGROUND).all()
    assert upper_left[:, width:].eq(data.BACKGROUND).all()
    assert torch.equal(upper_left.flatten().sort().values, lower_right.flatten().sort().values)
    assert torch.equal(data.images(margin=2)[0, 0, 2 : 2 + height, 2 : 2 + width], upper_left[:height, :width])
    with pytest.raises(ValueError, match="0 to 17 px"):
        data.images(margin=18)


def test_zero_padding_learns_location_and_trains_as_plain_pytorch_does(tmp_path: Path) -> None:
    metrics = train("zero", 0, tmp_path, epochs=6)
    assert metrics["accuracy"] == 1
    assert not metrics["features_equal"]
    assert metrics["learned_after_epochs"] <= 6
    history = np.load(tmp_path / "history.npz")
    assert history["maps"].shape == (7, 2, 32, 32)

    torch.manual_seed(0)
    model = RookNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(6):
        for image, label in zip(data.images(), data.labels(), strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model(image[None]), label[None]).backward()
            optimizer.step()
    np.testing.assert_allclose(history["filter"][-1], model.convolution.weight[0, 0].detach(), atol=1e-4)


@pytest.mark.parametrize("border", ["full", "infinite", "circular"])
def test_without_cropping_there_is_nothing_to_learn(border: str, tmp_path: Path) -> None:
    metrics = train(border, 0, tmp_path, epochs=5)
    assert metrics["accuracy"] == 0.5
    assert metrics["features_equal"]
    maxima = np.load(tmp_path / "history.npz")["maps"].max((2, 3))
    np.testing.assert_allclose(maxima[:, 0], maxima[:, 1], rtol=1e-5)


def test_a_dead_relu_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dead(RookNet):
        def __init__(self) -> None:
            super().__init__()
            nn.init.constant_(self.convolution.weight, -1.0)

    monkeypatch.setattr(rook, "RookNet", Dead)
    section = run(EXPERIMENTS["rook"], Config(borders=("zero",), seeds=1, epochs=2), tmp_path, progress=False)
    assert section.tables[0].rows[0][1] == "50 †"
    assert "The ReLU died" in section.tables[0].caption
    assert "zero seed 0" in section.tables[0].caption


def test_learned_after() -> None:
    assert rook._learned_after([0.5, 1, 0.5, 1, 1]) == 3
    assert rook._learned_after([1, 1]) == 0
    assert rook._learned_after([1, 0.5]) is None


def test_the_run_makes_a_film_its_last_picture_and_a_table_with_the_papers_number(tmp_path: Path) -> None:
    config = Config(borders=("zero", "full"), seeds=1, epochs=4)
    section = run(EXPERIMENTS["rook"], config, tmp_path, progress=False)
    with Image.open(tmp_path / "rook.gif") as film:
        assert film.n_frames == 3  # every second epoch, and the last
        assert film.width >= 800
        assert film.info["loop"] == 0
    assert (tmp_path / "rook.gif").stat().st_size < 1_500_000
    assert (tmp_path / "rook.png").is_file()
    zero, full = section.tables[0].rows
    assert zero[:2] == ["zero", "100"]
    assert full[:2] == ["full", "50"]
    assert [zero[-2], full[-2]] == ["100.0 ± 0.0", "–"]
    assert "100 % under zero (same), 50 % under full" in section.figures[1].caption
    assert full[-1] == "0"
    assert "Equal maxima for both images (difference 0 in the table) prove" in section.result
