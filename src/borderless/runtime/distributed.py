"""The group of processes that torchrun started, on one machine or on several. Usually there is one."""

import importlib
import os
import pickle
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from borderless.runtime.blame import note_blame

T = TypeVar("T")


@dataclass(frozen=True)
class ProcessGroup:
    """Processes that work together. Every method is called by all of them.

    Args:
        rank: The number of this process, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_leader(self) -> bool:
        """Whether this is the one process that writes files."""
        return self.rank == 0

    def broadcast(self, value: T) -> T:
        """Return the leader's value."""
        if self.size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def all_gather(self, value: T) -> list[T]:
        """Return the values of all processes, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def map(self, compute: Callable[[], T]) -> list[T]:
        """Call `compute` in every process and return the results by rank; raise an error of one in all."""
        if self.size == 1:
            return [compute()]
        everyones = self.all_gather(_attempted(compute))
        for _, error in everyones:
            if error is not None:
                raise error
        return [value for value, _ in everyones]  # pyright: ignore[reportReturnType]

    def on_leader(self, compute: Callable[[], T]) -> T:
        """Call `compute` on rank 0 only and return its result in all processes; raise its error in all."""
        if self.size == 1:
            return compute()
        value, error = self.broadcast(_attempted(compute) if self.is_leader else (None, None))
        if error is not None:
            raise error
        return value  # pyright: ignore[reportReturnType]

    def broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Copy the leader's values into `tensors`, in place."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, src=0)

    def all_reduce_sum(self, *amounts: float) -> list[float]:
        """Return each amount, summed over the processes."""
        return [sum(each) for each in zip(*self.all_gather(amounts), strict=True)]


def _attempted(compute: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """Return the result of `compute`, or its error as other processes can be sent it."""
    try:
        return compute(), None
    except Exception as error:
        return None, _portable(error)


def _portable(error: Exception) -> Exception:
    """Return an error that other processes can be sent."""
    try:
        sent = pickle.loads(pickle.dumps(error))
    except Exception:
        sent = RuntimeError(f"{type(error).__name__}: {error}")
    return note_blame(error, sent)


_joined = 0  # blocks of `joined` that this process is in


def process_group() -> ProcessGroup:
    """Return the processes that have joined; this one alone if none have, whatever else it does with others."""
    if _joined and distributed.is_available() and distributed.is_initialized():
        return ProcessGroup(distributed.get_rank(), distributed.get_world_size())
    return ProcessGroup()


@contextmanager
def joined() -> Generator[ProcessGroup]:
    """Join the processes that torchrun started, until the end of the block; alone where it started none or only one.

    Each process takes the GPU of its number on the machine, where there are any. An existing process group is used, and
    is not destroyed. One that is made here ends with its threads: a thread that drops a tensor while the interpreter
    shuts down aborts the process.
    """
    global _joined
    is_alone = int(os.environ.get("WORLD_SIZE", "1")) == 1 or "MASTER_ADDR" not in os.environ
    if is_alone or distributed.is_initialized():
        _joined += 1
        try:
            yield process_group()
        finally:
            _joined -= 1
        return
    # Its functions have the group that exists at import as a default argument, and would keep it, with its threads.
    importlib.import_module("torch.distributed.nn.functional")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        distributed.init_process_group("cpu:gloo,cuda:nccl")
    else:
        distributed.init_process_group("gloo")
    _joined += 1
    try:
        yield process_group()
    finally:
        _joined -= 1
        distributed.destroy_process_group()
