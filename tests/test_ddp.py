"""DistributedDataParallel, two processes on the CPU: the gradients are those of one process with the joint batch."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

import borderless as bl
from support.networks import patch, placed, residual

# One worker of pytest-xdist, so that both processes are started once.
pytestmark = pytest.mark.xdist_group("ddp")

WORLD = 2
PHASES = ("fixed", "adaptive")


def batch() -> tuple[Tensor, Tensor]:
    places = [(0, 0), (17, 3), (8, 30), (25, 26)]
    return placed([patch(9, seed) for seed in range(4)], places, 40), torch.arange(4)


def converted(phase: str) -> nn.Module:
    """In eval mode: batch statistics would differ between the halves."""
    return bl.convert(residual().double(), "infinite", phase=phase)


def gradients(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    F.cross_entropy(model(images), labels).backward()
    return {name.removeprefix("module."): parameter.grad for name, parameter in model.named_parameters()}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    try:
        images, labels = (tensor.chunk(WORLD)[rank] for tensor in batch())
        for phase in PHASES:
            model = nn.parallel.DistributedDataParallel(converted(phase)).eval()
            torch.save(gradients(model, images, labels), f"{folder}/{phase}-{rank}.pt")
        dist.barrier()
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both processes have left their gradients, for either phase."""
    path = tmp_path_factory.mktemp("ddp")
    mp.spawn(work, (str(path),), nprocs=WORLD)
    return path


@pytest.mark.parametrize("phase", PHASES)
def test_gradients_equal_one_process_with_the_joint_batch(phase: str, folder: Path) -> None:
    expected = gradients(converted(phase), *batch())
    largest = max(gradient.abs().max() for gradient in expected.values())
    for rank in range(WORLD):
        got = torch.load(folder / f"{phase}-{rank}.pt")
        assert got.keys() == expected.keys()
        for name, gradient in expected.items():
            assert (got[name] - gradient).abs().max() <= 1e-12 * largest, name
    alone = gradients(converted(phase), *(tensor[:2] for tensor in batch()))
    assert max((alone[name] - expected[name]).abs().max() for name in expected) > 1e-3 * largest, (
        "no power: half the batch gives the same"
    )
