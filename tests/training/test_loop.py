"""The training loop: it learns, stops and starts again as if nothing had happened, and says what is wrong."""

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

import borderless as bl
from borderless.errors import TrainingError
from borderless.training import Recipe, Score, evaluate, fit, loop
from borderless.training.checkpoint import LAST, PREVIOUS, CheckpointWarning
from support.bars import Bars, network, weights_equal

RECIPE = Recipe(epochs=6, batch_size=8, learning_rate=0.05, patience=2)
SAVING = dataclasses.replace(RECIPE, save_minutes=0)


class Stopped(Exception):
    pass


def stop_after(epochs: int):
    def progress(done: int, total: int) -> None:
        if done == epochs:
            raise Stopped

    return progress


def test_it_learns_and_ends_with_the_best_weights(tmp_path: Path) -> None:
    model, validation = network(), Bars(40, seed=2)
    seen = []
    history = fit(model, Bars(80, seed=1), validation, RECIPE, tmp_path, 0, progress=lambda *n: seen.append(n))
    assert history[-1].loss < 0.7 * history[0].loss
    assert seen == [(i + 1, 6) for i in range(len(history))]
    assert not model.training
    best = max(epoch.validation_accuracy for epoch in history)
    assert best > 0.8
    assert evaluate(model, validation, 7).accuracy == best


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
    monkeypatch.setattr(loop, "evaluate", lambda *_: Score(1.0, next(accuracies)))
    model = network()
    at_best: list[nn.Module] = []

    def progress(done: int, total: int) -> None:
        if done == 2:
            at_best.append(copy.deepcopy(model))

    recipe = Recipe(epochs=30, learning_rate=0.01, patience=2, min_learning_rate=1e-4)
    history = fit(model, Bars(16, seed=1), Bars(16, seed=2), recipe, tmp_path, 0, progress=progress)
    assert [epoch.learning_rate for epoch in history] == pytest.approx([0.01] * 4 + [1e-3] * 2 + [1e-4] * 2)
    assert weights_equal(model, at_best[0])


def test_evaluation_counts_every_image_once_and_keeps_the_mode() -> None:
    model, data = network(), Bars(13, seed=1)
    model.train()
    random = torch.get_rng_state()
    found = evaluate(model, data, 4)
    assert evaluate(model, data, 4, workers=2) == found
    assert torch.equal(torch.get_rng_state(), random)
    assert model.training
    model.eval()
    assert found.accuracy == sum(int(model(image[None]).argmax()) == label for image, label in data) / 13


def test_a_checkpoint_of_another_training_is_refused_and_left_alone(tmp_path: Path) -> None:
    train, validation = Bars(16, seed=1), Bars(16, seed=2)
    fit(network(), train, validation, Recipe(epochs=1), tmp_path, 0)
    before = (tmp_path / LAST).read_bytes()
    with pytest.raises(TrainingError, match=r"of another .*recipe"):
        fit(network(), train, validation, Recipe(epochs=2), tmp_path, 0)
    with pytest.raises(TrainingError, match=r"of another .*seed 0, here 1"):
        fit(network(), train, validation, Recipe(epochs=1), tmp_path, 1)
    with pytest.raises(TrainingError, match=r"of another .*network"):
        fit(network(norm=False), train, validation, Recipe(epochs=1), tmp_path, 0)
    assert (tmp_path / LAST).read_bytes() == before
    (tmp_path / LAST).write_bytes(before[: len(before) // 2])
    with pytest.raises(TrainingError, match=r"cannot be read.*delete it to start anew"):
        fit(network(), train, validation, Recipe(epochs=1), tmp_path, 0)


@pytest.mark.parametrize("what", ["truncated", "foreign", "not a checkpoint"])
def test_the_checkpoint_before_is_used_when_the_last_is_not_good(what: str, tmp_path: Path) -> None:
    train, validation = Bars(16, seed=1), Bars(16, seed=2)
    whole, parts = network(), network()
    expected = fit(whole, train, validation, SAVING, tmp_path / "whole", 0)
    with pytest.raises(Stopped):
        fit(parts, train, validation, SAVING, tmp_path / "parts", 0, progress=stop_after(3))
    last = tmp_path / "parts" / LAST
    if what == "foreign":
        fit(network(), train, validation, Recipe(epochs=1), tmp_path / "other", 5)
        last.write_bytes((tmp_path / "other" / LAST).read_bytes())
    else:
        last.write_bytes(last.read_bytes()[:-100] if what == "truncated" else b"nothing")
    parts = network()
    with pytest.warns(CheckpointWarning, match=rf"{LAST}.*until then {PREVIOUS} is used"):
        assert fit(parts, train, validation, SAVING, tmp_path / "parts", 0) == expected
    assert weights_equal(whole, parts)


def test_epochs_that_end_in_less_time_than_saving_takes_are_not_all_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    save = loop.Checkpoints.save
    monkeypatch.setattr(loop, "SAVING_SHARE", 1e-9)
    monkeypatch.setattr(loop, "_DISK_BYTES_PER_S", float("inf"))  # so that the first epoch is saved
    monkeypatch.setattr(
        loop.Checkpoints, "save", lambda to, state: (saved.append(len(state["history"])), save(to, state))
    )
    train, validation = Bars(40, seed=1), Bars(40, seed=2)
    whole, parts = network(), network()
    expected = fit(whole, train, validation, RECIPE, tmp_path / "whole", 3)
    assert saved == [1, len(expected)]
    with pytest.raises(Stopped):
        fit(parts, train, validation, RECIPE, tmp_path / "parts", 3, progress=stop_after(3))
    assert saved[2:] == [1]
    parts = network()
    assert fit(parts, train, validation, RECIPE, tmp_path / "parts", 3) == expected
    assert weights_equal(whole, parts)
    best = torch.load(tmp_path / "parts" / "best.pt")
    assert all(torch.equal(value, best[name]) for name, value in whole.state_dict().items())


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, validation = Bars(16, seed=1), Bars(16, seed=2)
    whole = network()
    expected = fit(whole, train, validation, RECIPE, tmp_path / "whole", 0)
    folder = tmp_path / "parts"
    with pytest.raises(Stopped):
        fit(network(), train, validation, RECIPE, folder, 0, progress=stop_after(2))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("os.fsync", full)
        with pytest.raises(TrainingError, match=r"No space left on device.*earlier files are untouched"):
            fit(network(), train, validation, RECIPE, folder, 0)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    parts = network()
    assert fit(parts, train, validation, RECIPE, folder, 0) == expected
    assert weights_equal(whole, parts)


def test_the_best_weights_are_a_file_for_anybody(tmp_path: Path) -> None:
    model = network()
    fit(model, Bars(40, seed=1), Bars(20, seed=2), RECIPE, tmp_path, 0)
    other = network()
    other.load_state_dict(torch.load(tmp_path / "best.pt"))
    assert weights_equal(model, other)


@pytest.mark.parametrize("optimizer", ["sgd", "adadelta", "adamw"])
def test_every_optimizer_learns_and_resumes(optimizer: str, tmp_path: Path) -> None:
    rate = {"sgd": 0.05, "adadelta": 1.0, "adamw": 0.01}[optimizer]
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, learning_rate=rate)
    train, validation = Bars(48, seed=1), Bars(20, seed=2)
    whole, parts = network(), network()
    expected = fit(whole, train, validation, recipe, tmp_path / "whole", 0)
    assert expected[-1].loss < 0.8 * expected[0].loss
    with pytest.raises(Stopped):
        fit(parts, train, validation, recipe, tmp_path / "parts", 0, progress=stop_after(2))
    parts = network()
    assert fit(parts, train, validation, recipe, tmp_path / "parts", 0) == expected
    assert weights_equal(whole, parts)


def test_steps_are_those_of_a_bare_loop(tmp_path: Path) -> None:
    """An oracle without this loop: plain PyTorch, the same order."""
    recipe = Recipe(
        epochs=3,
        batch_size=10,
        learning_rate=0.1,
        nesterov=False,
        schedule="linear",
        shuffle=False,
        accumulation_steps=2,
    )
    train, model, plain = Bars(25, seed=1), network(dropout=0, norm=False), network(dropout=0, norm=False)
    history = fit(model, train, Bars(10, seed=2), recipe, tmp_path, 0)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-5)
    rates, losses = [], []
    for epoch in range(3):
        total = 0.0
        for step, chosen in enumerate(torch.arange(25).split(10)):
            rate = 0.1 * (1 - (3 * epoch + step) / 9)
            optimizer.param_groups[0]["lr"] = rate
            loss = nn.functional.cross_entropy(plain(train.images[chosen]), train.labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(chosen)
        rates.append(rate)
        losses.append(total / 25)
    assert [epoch.learning_rate for epoch in history] == pytest.approx(rates)
    assert [epoch.loss for epoch in history] == pytest.approx(losses, rel=1e-5)
    best = max(range(3), key=lambda i: (history[i].validation_accuracy, -i))
    if best == 2:
        for got, expected in zip(model.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_the_step_size_falls_every_few_epochs() -> None:
    recipe = Recipe(learning_rate=1.0, schedule="step", step_epochs=30, epochs=90)
    assert [recipe.rate(epoch, 0.5, 0) for epoch in (0, 29, 30, 59, 60)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_early_stopping_watches_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([1.0, 0.5, 0.6, 0.4, 0.7, 0.7, 0.7, 0.7])
    monkeypatch.setattr(loop, "evaluate", lambda *_: Score(next(losses), 0.5))
    recipe = Recipe(epochs=30, schedule="constant", stop_after=3, monitor="loss")
    history = fit(network(), Bars(16, seed=1), Bars(16, seed=2), recipe, tmp_path, 0)
    assert [epoch.validation_loss for epoch in history] == [1.0, 0.5, 0.6, 0.4, 0.7, 0.7, 0.7]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_learns_with_float32_weights(precision: str, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, precision=precision)
    model = network()
    history = fit(model, Bars(80, seed=1), Bars(20, seed=2), recipe, tmp_path, 0)
    assert max(epoch.validation_accuracy for epoch in history) > 0.9
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


class Jittered(Bars):
    """With a random transform, whose numbers follow from the epoch and the item's number."""

    epoch = -1

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image, label = super().__getitem__(index)
        draw = torch.Generator().manual_seed(1000 * self.epoch + index)
        return image + torch.randn(image.shape, generator=draw), label


def test_random_transforms_do_not_depend_on_who_loads(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=2)
    histories = [
        fit(
            network(),
            Jittered(20, seed=1),
            Bars(10, seed=2),
            dataclasses.replace(recipe, workers=workers),
            tmp_path / str(workers),
            0,
        )
        for workers in (0, 1)
    ]
    assert histories[0] == histories[1]


def test_curves_for_tensorboard_go_on_after_a_stop(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = dataclasses.replace(RECIPE, tensorboard=True, epochs=3)
    train, validation = Bars(16, seed=1), Bars(16, seed=2)
    with pytest.raises(Stopped):
        fit(network(), train, validation, recipe, tmp_path, 0, progress=stop_after(2))
    history = fit(network(), train, validation, recipe, tmp_path, 0)
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("validation_accuracy")
    assert [event.step for event in found] == [1, 2, 3]
    assert [event.value for event in found] == pytest.approx([epoch.validation_accuracy for epoch in history])


def test_synchronized_norms_refuse_a_converted_model(tmp_path: Path) -> None:
    model = bl.convert(network(), "infinite")
    with pytest.raises(TrainingError, match="sync_batchnorm=True but got a converted Sequential"):
        fit(model, Bars(16, seed=1), Bars(16, seed=2), dataclasses.replace(RECIPE, sync_batchnorm=True), tmp_path, 0)


def test_a_loss_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    data = Bars(16, seed=1)
    data.images[3] = torch.inf
    with pytest.raises(TrainingError, match=r"Expected a finite loss but got nan in epoch 1.*smaller learning_rate"):
        fit(network(), data, Bars(16, seed=2), RECIPE, tmp_path, 0)
    broken = Bars(16, seed=2)
    broken.images[5] = torch.nan
    with pytest.raises(TrainingError, match=r"Expected a finite validation loss but got nan in epoch 1"):
        fit(network(), Bars(16, seed=1), broken, RECIPE, tmp_path, 0)
    assert not (tmp_path / LAST).exists()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"epochs": 0}, "Expected epochs"),
        ({"learning_rate": -1.0}, "Expected epochs"),
        ({"stop_after": 0}, "Expected epochs"),
        ({"factor": 1.0}, "Expected factor"),
        ({"momentum": 1.0}, "Expected factor"),
        ({"dampening": 0.9}, "nesterov=False"),
    ],
)
def test_recipes_without_sense_are_refused(wrong: dict[str, float], text: str) -> None:
    with pytest.raises(TrainingError, match=text):
        Recipe(**wrong)
