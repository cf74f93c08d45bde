"""The training loop: it learns, stops and starts again as if nothing had happened, and says what is wrong."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from borderless.errors import TrainingError
from borderless.training import Recipe, evaluate, fit, loop

RECIPE = Recipe(epochs=6, batch_size=8, learning_rate=0.05, patience=2)


class Bars(Dataset[tuple[Tensor, int]]):
    """A bar that lies or stands somewhere, in noise."""

    def __init__(self, count: int, seed: int, noise: float = 0.3) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.images = noise * torch.randn(count, 1, 8, 8, generator=draw)
        self.labels = torch.arange(count) % 2
        for image, label in zip(self.images, self.labels, strict=True):
            at = int(torch.randint(8, (), generator=draw))
            image[0, at if label else slice(None), slice(None) if label else at] += 1

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], int(self.labels[index])


def network(dropout: float = 0.2) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 2),
        )


class Stopped(Exception):
    pass


def stop_after(epochs: int):
    def progress(done: int, total: int) -> None:
        if done == epochs:
            raise Stopped

    return progress


def weights_equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_it_learns_and_ends_with_the_best_weights(tmp_path: Path) -> None:
    model, validation = network(), Bars(40, seed=2)
    seen = []
    history = fit(model, Bars(80, seed=1), validation, RECIPE, tmp_path, 0, progress=lambda *n: seen.append(n))
    assert history[-1].loss < 0.7 * history[0].loss
    assert seen == [(i + 1, 6) for i in range(len(history))]
    assert not model.training
    best = max(epoch.validation_accuracy for epoch in history)
    assert best > 0.8
    assert evaluate(model, validation, 7) == best


def test_a_training_that_was_stopped_ends_like_one_that_was_not(tmp_path: Path) -> None:
    train, validation = Bars(40, seed=1), Bars(40, seed=2)
    whole, parts = network(), network()
    expected = fit(whole, train, validation, RECIPE, tmp_path / "whole", 3)
    for epochs in (1, 4):
        with pytest.raises(Stopped):
            fit(parts, train, validation, RECIPE, tmp_path / "parts", 3, progress=stop_after(epochs))
        parts = network()  # another process knows nothing but the folder
    torch.rand(5)
    assert fit(parts, train, validation, RECIPE, tmp_path / "parts", 3) == expected
    assert weights_equal(whole, parts)
    again = network()
    assert fit(again, train, validation, RECIPE, tmp_path / "parts", 3) == expected, "finished: nothing is trained"
    assert weights_equal(whole, again)


def test_neither_order_nor_dropout_touch_the_callers_random_state(tmp_path: Path) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    fit(network(), Bars(16, seed=1), Bars(16, seed=2), Recipe(epochs=1), tmp_path, 0)
    assert torch.equal(torch.rand(3), expected)


def test_the_step_size_falls_on_a_plateau_and_ends_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validation improves twice and then never again: ×0.1 after every two epochs, until it is too small."""
    accuracies = iter([0.5, 0.7] + [0.6] * 20)
    monkeypatch.setattr(loop, "evaluate", lambda *_: next(accuracies))
    model = network()
    at_best: list[nn.Module] = []

    def progress(done: int, total: int) -> None:
        if done == 2:
            at_best.append(copy.deepcopy(model))

    recipe = Recipe(epochs=30, learning_rate=0.01, patience=2, smallest_learning_rate=1e-4)
    history = fit(model, Bars(16, seed=1), Bars(16, seed=2), recipe, tmp_path, 0, progress=progress)
    assert [epoch.learning_rate for epoch in history] == pytest.approx([0.01] * 4 + [1e-3] * 2 + [1e-4] * 2)
    assert weights_equal(model, at_best[0])


def test_evaluation_counts_every_image_once_and_keeps_the_mode() -> None:
    model, data = network(), Bars(13, seed=1)
    model.train()
    found = evaluate(model, data, 4)
    assert model.training
    model.eval()
    assert found == sum(int(model(image[None]).argmax()) == label for image, label in data) / 13


def test_what_cannot_be_resumed_is_refused_and_left_alone(tmp_path: Path) -> None:
    train, validation = Bars(16, seed=1), Bars(16, seed=2)
    fit(network(), train, validation, Recipe(epochs=1), tmp_path, 0)
    before = (tmp_path / loop.LAST).read_bytes()
    with pytest.raises(TrainingError, match="checkpoint of another training"):
        fit(network(), train, validation, Recipe(epochs=2), tmp_path, 0)
    with pytest.raises(TrainingError, match="checkpoint of another training"):
        fit(network(), train, validation, Recipe(epochs=1), tmp_path, 1)
    assert (tmp_path / loop.LAST).read_bytes() == before
    (tmp_path / loop.LAST).write_bytes(before[: len(before) // 2])
    with pytest.raises(TrainingError, match=r"cannot be read.*delete it to start anew"):
        fit(network(), train, validation, Recipe(epochs=1), tmp_path, 0)


def test_a_loss_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    data = Bars(16, seed=1)
    data.images[3] = torch.inf
    with pytest.raises(TrainingError, match=r"got a loss of nan in epoch 1.*smaller learning_rate"):
        fit(network(), data, Bars(16, seed=2), RECIPE, tmp_path, 0)
    assert not (tmp_path / loop.LAST).exists()


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"learning_rate": -1.0}, {"factor": 1.0}, {"momentum": 1.0}])
def test_recipes_without_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match="needed: epochs"):
        Recipe(**wrong)  # type: ignore[arg-type]
