"""What a Signal refuses, and what it survives, on its way through a model's own Python code."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import borderless as bl


class Swish(torch.autograd.Function):
    """An activation as networks of before 2021 wrote it."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


class Between(nn.Module):
    """Two convolutions and something between them."""

    def __init__(self, between: object) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.between(self.first(x))).mean((2, 3))


def through_checkpoint(reentrant: bool) -> object:
    return lambda x: checkpoint(torch.sigmoid, x, use_reentrant=reentrant)


@pytest.mark.parametrize(
    ("between", "name"), [(Swish.apply, "Swish"), (through_checkpoint(True), "CheckpointFunction")]
)
def test_a_function_that_would_lose_gradients_is_refused(between: object, name: str) -> None:
    model = bl.convert(Between(between), "infinite")
    with pytest.raises(bl.UnsupportedOperation, match=f"'{name}'.*gradients would be lost"):
        model(torch.rand(2, 1, 6, 6))


def test_a_custom_function_runs_where_no_gradient_is_wanted() -> None:
    model, images = Between(Swish.apply), torch.rand(2, 1, 6, 6)
    with torch.no_grad():
        assert torch.equal(bl.convert(model, "zero")(images), model(images))


def test_checkpointing_without_reentry_gives_the_same_gradients() -> None:
    plain, checkpointed = (bl.convert(Between(between), "infinite") for between in (torch.sigmoid, None))
    checkpointed.load_state_dict(plain.state_dict())
    checkpointed.between = through_checkpoint(False)
    images = torch.rand(2, 1, 6, 6)
    for model in (plain, checkpointed):
        model(images).square().sum().backward()
    for (name, p), q in zip(plain.named_parameters(), checkpointed.parameters(), strict=True):
        assert p.grad is not None, name
        torch.testing.assert_close(p.grad, q.grad)


def test_padding_does_not_let_an_in_place_operation_reach_the_map_it_came_from() -> None:
    class PadThenRelu(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = x * 1
            padded = nn.functional.pad(x, (1, 1, 1, 1))
            padded.relu_()
            return padded.sum((2, 3)) + 10 * x.sum((2, 3))

    images = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    expected = images.relu().sum((2, 3)) + 10 * images.sum((2, 3))
    torch.testing.assert_close(bl.convert(PadThenRelu(), "infinite")(images), expected)


def test_repr_names_the_frame_and_the_border() -> None:
    signal = bl.convert(nn.Conv2d(1, 1, 3, padding=1), "infinite", output="signal")(torch.zeros(1, 1, 4, 5))
    assert repr(signal).startswith("Signal(frame=(4, 5), window=(1, 1, 6, 7), start=(-1, -1), stride=(1, 1)")
    assert "Border('infinite')" in repr(signal)
