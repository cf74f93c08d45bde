"""Run a model to measure it, on one thread, or with numbers drawn from a seed, and leave everything as it was."""

import asyncio
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from borderless.errors import ConversionError


@dataclass
class _Block:
    owner: tuple[threading.Thread, Any]
    depth: int = 0


# The modules that are inside a block now.
_BLOCKS: dict[nn.Module, _Block] = {}
_LOCK = threading.Lock()


@contextmanager
def exclusive(model: nn.Module) -> Generator[None]:
    """Let this thread or asyncio task alone change `model`, or a model that shares modules with it, in a with-block.

    Blocks of the same thread or task may be nested. Anyone may call the model meanwhile, and gets it as it is then.

    Raises:
        ConversionError: Another thread or task is inside such a block.
    """
    owner = threading.current_thread(), _current_task()
    with _LOCK:
        around = _BLOCKS.get(model)
        # Within a block of the same owner, which holds all modules until this one has ended, the model stands for them.
        modules = [model] if around is not None and around.owner == owner else list(model.modules())
        blocks = [_BLOCKS.get(module) for module in modules]
        if any(block is not None and block.owner != owner for block in blocks):
            raise ConversionError(
                f"Expected a {type(model).__name__} that nobody else is changing but got one that is already inside a "
                "block (bl.bordered, or a measure) of another thread or task; give each its own copy: "
                "bl.convert(model, …)"
            )
        for module, block in zip(modules, blocks, strict=True):
            _BLOCKS.setdefault(module, block or _Block(owner)).depth += 1
    try:
        yield
    finally:
        with _LOCK:
            for module in modules:
                block = _BLOCKS[module]
                block.depth -= 1
                if not block.depth:
                    del _BLOCKS[module]


def _current_task() -> Any:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop is running in this thread
        return None


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Set eval mode and turn gradients off for a with-block; restore each module's own mode afterwards."""
    with exclusive(model):
        modes = {module: module.training for module in model.modules()}
        try:
            model.eval()
            with torch.no_grad():
                yield
        finally:
            for module, mode in modes.items():
                module.training = mode


@contextmanager
def one_thread() -> Generator[None]:
    """Let PyTorch compute on one thread: several threads slow small steps down, most of all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Let PyTorch's generator on the CPU draw from `seed` in a with-block, and go on afterwards as if untouched."""
    with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
        torch.default_generator.manual_seed(seed)
        yield
