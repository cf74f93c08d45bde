"""Gradients of maps, as Grad-CAM asks for them in hooks: those of ordinary tensors, on the map's frame."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import borderless as bl

FULL_HOOKS = ["register_full_backward_hook", "register_full_backward_pre_hook"]


def images() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def network(batch_norm: bool = False) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=not batch_norm),
            nn.BatchNorm2d(4) if batch_norm else nn.ReLU(),
            nn.Conv2d(4, 5, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(5, 2),
        )
    return model.double()


class Seen:
    """What a forward hook of `layer`, and code after the backward pass, find out of the gradient of its output."""

    def __init__(self, model: nn.Module, layer: nn.Module, batch: Tensor) -> None:
        self.gradients: list[Tensor] = []
        layer.register_forward_hook(self.hook)
        score = model(batch)[:, 0].square().sum()
        score.backward(retain_graph=True)
        assert self.output.grad is not None and self.output.retains_grad
        self.gradients.append(self.output.grad.clone())  # which later calls add to
        self.gradients += torch.autograd.grad(score, [self.output], retain_graph=True)
        self.gradients += torch.autograd.grad(score, self.output, retain_graph=True)
        assert torch.autograd.grad(score, self.unused, allow_unused=True) == (None,)

    def hook(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.output, self.unused = output, output * 2
        output.retain_grad()
        output.register_hook(hook=self.gradients.append)


@pytest.mark.parametrize("border", ["zero", "reflect", "circular", "full", "infinite", "valid"])
@pytest.mark.parametrize("batch_norm", [False, True], ids=["relu", "batch norm in training"])
def test_hooks_see_the_gradient_on_the_frame(border: str, batch_norm: bool) -> None:
    """Of a map outside of which the borders that grow or lose cells see a constant."""
    model = bl.convert(network(batch_norm), border)
    seen = Seen(model, model[0], images())
    assert len(seen.gradients) == 3 + 3
    window = seen.output.stored.grad
    assert window is not None
    known = [range(max(a, 0), min(b, 16)) for a, b in seen.output.box]
    part = tuple(slice(r.start, r.stop) for r in known)
    stored = tuple(slice(r.start - a, r.stop - a) for r, (a, _) in zip(known, seen.output.box, strict=True))
    for gradient in seen.gradients:
        assert type(gradient) is Tensor and gradient.shape == seen.output.shape == (2, 4, 16, 16)
        torch.testing.assert_close(gradient[:, :, *part], window[:, :, *stored] / 3, msg="of three calls")
        assert gradient.count_nonzero() == gradient[:, :, *part].count_nonzero()
    if border == "zero":
        own = network(batch_norm)
        for gradient, wanted in zip(seen.gradients, Seen(own, own[0], images()).gradients, strict=True):
            torch.testing.assert_close(gradient, wanted)


def test_under_infinite_the_gradient_is_that_on_a_large_plane() -> None:
    own, model = network(), bl.convert(network(), bl.Border("infinite"))
    model[4], own[4] = nn.AdaptiveMaxPool2d(1), nn.AdaptiveMaxPool2d(1)
    around = 24
    plane = Seen(own, own[0], F.pad(images(), [around] * 4))
    seen = Seen(model, model[0], images())
    for gradient, wanted in zip(seen.gradients, plane.gradients, strict=True):
        torch.testing.assert_close(gradient, wanted[:, :, around:-around, around:-around])


def test_a_hook_may_change_the_gradient_where_the_frame_is_all_that_is_stored() -> None:
    def gradients(model: nn.Sequential) -> list[Tensor]:
        model[0].register_forward_hook(
            lambda module, args, output: output.register_hook(lambda g: g.clamp(min=0)) and None
        )
        model(images())[:, 0].sum().backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    for got, wanted in zip(gradients(bl.convert(network(), "zero")), gradients(network()), strict=True):
        torch.testing.assert_close(got, wanted)
    with pytest.raises(bl.SignalError, match=r"new gradient for its frame .* output\.window\.register_hook"):
        gradients(bl.convert(network(), "infinite"))


def test_the_gradient_of_a_map_by_a_map_is_refused() -> None:
    model = bl.convert(network(), "infinite")
    model[2].register_forward_hook(lambda module, args, output: torch.autograd.grad(output, args[0]) and None)
    with pytest.raises(bl.UnsupportedOperation, match=r"a map is among its outputs; give it map\.crop\(\)"):
        model(images())


@pytest.mark.parametrize("register", FULL_HOOKS)
def test_a_full_backward_hook_is_refused_with_the_way_that_works(register: str) -> None:
    seen = []
    model = bl.convert(network(), "infinite")
    handle = getattr(model[2], register)(lambda module, *gradients: seen.append(gradients))
    with pytest.raises(bl.UnsupportedOperation, match=r"on module '2' \(Conv2d\) .* output\.register_hook"):
        model(images())
    with torch.no_grad():
        model(images())
    handle.remove()
    outer = nn.Sequential(model)
    getattr(outer, register)(lambda module, *gradients: seen.append(gradients))
    outer(images().requires_grad_()).sum().backward()
    (gradients,) = seen
    assert torch.equal(gradients[-1][0], torch.ones(2, 2, dtype=torch.float64))


def test_a_full_backward_hook_on_the_model_itself_is_refused_for_images_with_gradients() -> None:
    model = bl.convert(network(), "infinite")
    model.register_full_backward_hook(lambda module, inputs, outputs: None)
    with pytest.raises(bl.UnsupportedOperation, match=r"on the model itself .* torch\.nn\.Sequential\(model\)"):
        model(images().requires_grad_())


@pytest.mark.parametrize("grad", [True, False])
def test_the_operations_of_a_pass_are_counted(grad: bool) -> None:
    def counts(model: nn.Module) -> dict[str, dict[Any, int]]:
        with torch.set_grad_enabled(grad), FlopCounterMode(display=False) as counter:
            score = model(images()).sum()
            if grad:
                score.backward()
        return counter.get_flop_counts()

    own = counts(network())
    assert counts(bl.convert(network(), "zero")) == own
    larger = counts(bl.convert(network(), "infinite", phase="adaptive"))
    assert larger.keys() == own.keys() and sum(larger["Global"].values()) > sum(own["Global"].values())


@pytest.mark.parametrize("border", ["zero", "full", "infinite"])
def test_a_penalty_on_gradients_trains_through_batch_norm(border: str) -> None:
    """The slope of a gradient's norm along a direction, against the difference of two norms."""
    model = bl.convert(network(batch_norm=True), border).train()
    inputs = [images().requires_grad_(), *model.parameters()]
    directions = [torch.randn(one.shape, generator=torch.Generator().manual_seed(2)).double() for one in inputs]

    def penalty() -> Tensor:
        (slope,) = torch.autograd.grad(model(inputs[0]).square().sum(), inputs[0], create_graph=True)
        return slope.square().sum()

    gradients = torch.autograd.grad(penalty(), inputs, allow_unused=True)
    expected = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None)
    found = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            for one, direction in zip(inputs, directions, strict=True):
                one.add_(direction, alpha=step)
        found.append(penalty().detach())
    torch.testing.assert_close((found[0] - found[1]) / 2e-6, expected, rtol=1e-5, atol=0)
