"""Run a model to measure it, on one thread, or with numbers drawn from a seed, and leave everything as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def measured(model: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients for the length of a with-block; each module's own mode is restored afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def one_thread() -> Iterator[None]:
    """Small steps take several times longer when threads share them, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within a with-block PyTorch's generator on the CPU draws from `seed`; afterwards it goes on as if untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
