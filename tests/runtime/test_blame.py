"""Whose fault is an error? Of this package's faults none may pass for a property of a model."""

import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import borderless as bl
from borderless.engine.signal import Signal
from borderless.errors import DataError
from borderless.measures.border_effect import border_error
from borderless.runtime.blame import is_bug, note_blame

IMAGES = torch.rand(2, 3, 8, 8)


class Failing(nn.Module):
    """A convolution, then whatever `fail` does with its map."""

    def __init__(self, fail: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.fail = nn.Conv2d(3, 4, 3, padding=1), fail

    def forward(self, images: Tensor) -> Tensor:
        return self.fail(self.stem(images))


def error_of(run: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        run()
    return caught.value


@pytest.mark.parametrize(
    ("fail", "kind"),
    [
        (lambda x: {}[x.shape[2]], KeyError),
        (lambda x: x.no_such_attribute, AttributeError),
        (lambda x: x + torch.rand(1, 4, 5, 5), RuntimeError),
        (lambda x: x.reshape(2, 4, 63), RuntimeError),
    ],
)
@pytest.mark.filterwarnings("ignore::borderless.errors.PositionDependentWarning")
@pytest.mark.parametrize("border", [None, "infinite"])
def test_what_a_model_raises_is_its_own(
    fail: Callable[[Tensor], Tensor], kind: type[Exception], border: str | None
) -> None:
    model: nn.Module = Failing(fail).eval()
    if border is not None:
        model = bl.convert(model, border)
    error = error_of(lambda: model(IMAGES))
    assert isinstance(error, kind | bl.BorderlessError)
    assert not is_bug(error)


def test_what_torch_raises_for_a_model_without_code_of_its_own_is_the_models() -> None:
    assert not is_bug(error_of(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3, 2))(IMAGES)))


def test_a_fault_of_a_rule_is_a_bug_though_the_model_was_running(monkeypatch: pytest.MonkeyPatch) -> None:
    model = bl.convert(Failing(torch.relu).eval(), "infinite")
    monkeypatch.delattr(Signal, "derive")
    error = error_of(lambda: model(IMAGES))
    assert isinstance(error, AttributeError)
    assert is_bug(error)


def test_a_fault_of_a_measure_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("borderless.measures.border_effect.intersection")
    error = error_of(lambda: border_error(Failing(torch.relu).eval(), IMAGES))
    assert isinstance(error, NameError)
    assert is_bug(error)
    assert is_bug(error_of(lambda: torch.zeros(2) + torch.zeros(3))), "no model was running"


@pytest.mark.parametrize("error", [DataError("got none"), MemoryError(), torch.OutOfMemoryError("full")])
def test_what_is_said_on_purpose_and_want_of_memory_are_no_bugs(error: Exception) -> None:
    assert not is_bug(error)


@pytest.mark.parametrize("is_one", [True, False])
def test_other_processes_know_it_without_the_traceback(is_one: bool) -> None:
    model = Failing(lambda x: x + torch.rand(1, 4, 5, 5))
    error = error_of((lambda: torch.zeros(2) + torch.zeros(3)) if is_one else (lambda: model(IMAGES)))
    sent = pickle.loads(pickle.dumps(error))
    assert is_bug(sent), "a traceback is not sent"
    received = pickle.loads(pickle.dumps(note_blame(error, sent)))
    assert is_bug(received) is is_one
