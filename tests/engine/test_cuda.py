"""What a GPU computes is what the CPU computes. Skipped without one: these two were written on a machine without a GPU,
and have not run there."""

from collections.abc import Iterator

import pytest
import torch
import torchvision
from torch import nn

import borderless as bl

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]


@pytest.fixture
def exact_matmul(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 keeps 10 bits of a factor."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def test_infinite_adaptive_is_the_same_and_exact(exact_matmul: None) -> None:
    model = torchvision.models.resnet18(num_classes=10).eval()
    converted = bl.convert(model, "infinite", phase="adaptive")
    images = torch.zeros(2, 3, 96, 96)
    images[0, :, 20:60, 10:50] = torch.randn(3, 40, 40)
    images[1] = images[0].roll((13, 31), (1, 2))
    with torch.no_grad():
        expected = converted(images)
        got = converted.to("cuda")(images.to("cuda"))
    assert got.is_cuda
    torch.testing.assert_close(got.cpu(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got[1], got[0], rtol=1e-4, atol=1e-4)


def test_the_gradient_under_reflect_is_deterministic_and_the_cpus(exact_matmul: None, deterministic: None) -> None:
    """PyTorch's own padding has no deterministic gradient on a GPU, and would refuse."""
    model = bl.convert(nn.Sequential(nn.Conv2d(3, 4, 5, padding=2, bias=False), nn.ReLU()), "reflect").double()
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)

    def gradient(device: str) -> torch.Tensor:
        here = images.to(device, copy=True).requires_grad_()
        return torch.autograd.grad(model.to(device)(here).square().sum(), here)[0]

    expected, got = gradient("cpu"), gradient("cuda")
    torch.testing.assert_close(got.cpu(), expected)
    assert torch.equal(got, gradient("cuda"))
