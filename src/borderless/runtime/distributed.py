"""The processes that work together, as torchrun starts them: on one machine or on several. Usually there is one."""

import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from borderless.runtime.blame import note_blame

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """rank: which process this is, from 0. size: how many there are. Every method is called by all of them."""

    rank: int = 0
    size: int = 1

    @property
    def is_leader(self) -> bool:
        """Of all processes only one writes files."""
        return self.rank == 0

    def shared(self, value: T) -> T:
        """The leader's value."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def each(self, compute: Callable[[], T]) -> list[T]:
        """What `compute` gives in every process, in the order of their ranks; an error in one is raised in all."""
        if self.size == 1:
            return [compute()]
        everyones = self.gathered(_attempted(compute))
        for _, error in everyones:
            if error is not None:
                raise error
        return [value for value, _ in everyones]  # type: ignore[misc]

    def led(self, compute: Callable[[], T]) -> T:
        """What `compute` gives in the first process, the only one to call it; an error there is raised in all."""
        if self.size == 1:
            return compute()
        value, error = self.shared(_attempted(compute) if self.is_leader else (None, None))
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def agree_on(self, tensors: Iterable[Tensor]) -> None:
        """Give `tensors` the leader's values, in place."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, src=0)

    def total(self, *amounts: float) -> list[float]:
        """Each amount, summed over the processes."""
        return [sum(each) for each in zip(*self.gathered(amounts), strict=True)]


def _attempted(compute: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """What `compute` gives, or the error that it ends in, as other processes can be sent it."""
    try:
        return compute(), None
    except Exception as error:
        return None, _portable(error)


def _portable(error: Exception) -> Exception:
    """An error that other processes can be sent."""
    try:
        sent = pickle.loads(pickle.dumps(error))
    except Exception:
        sent = RuntimeError(f"{type(error).__name__}: {error}")
    return note_blame(error, sent)


_joined = 0  # blocks of `joined` that this process is in


def team() -> Team:
    """The processes that have joined; this one alone if none have, whatever else it does with others."""
    if _joined and distributed.is_available() and distributed.is_initialized():
        return Team(distributed.get_rank(), distributed.get_world_size())
    return Team()


@contextmanager
def joined() -> Iterator[Team]:
    """Join the processes that torchrun started, until the end of the block; alone where it started none or only one.

    Each process takes the GPU of its number on the machine, where there are any. A process group that is there already
    is used, and stays.
    """
    global _joined
    is_alone = int(os.environ.get("WORLD_SIZE", "1")) == 1 or "MASTER_ADDR" not in os.environ
    if is_alone or distributed.is_initialized():
        _joined += 1
        try:
            yield team()
        finally:
            _joined -= 1
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        distributed.init_process_group("cpu:gloo,cuda:nccl")
    else:
        distributed.init_process_group("gloo")
    _joined += 1
    try:
        yield team()
    finally:
        _joined -= 1
        distributed.destroy_process_group()
