"""Operations over all of space, where a map comes in parts: every part contributes, and waits for the others.

A part that waits is a greenlet: the model's own code stops in the middle of a call, the next part runs up to the same
call, and when all have contributed they go on, one after the other. So nothing is computed twice, and one part runs at
a time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from greenlet import getcurrent, greenlet

from borderless.errors import UnsupportedOperation


class NeedsOtherParts(BaseException):
    """A part met an operation over all of space while it ran alone; no Exception, which a model might catch."""


class Alone:
    """The exchange of a part that runs alone."""

    def gather(self, key: int, part: Any, merge: Callable[[list[Any]], Any]) -> Any:
        """Raise NeedsOtherParts."""
        raise NeedsOtherParts


class _Modes(NamedTuple):
    """The modes of PyTorch that hold for a thread, which a model may have set around the call in which it waits."""

    gradients: bool
    autocast: tuple[tuple[str, bool, torch.dtype], ...]

    @classmethod
    def now(cls) -> "_Modes":
        kinds = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
        autocast = ((kind, torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in kinds)
        return cls(torch.is_grad_enabled(), tuple(autocast))

    def restore(self) -> None:
        torch.set_grad_enabled(self.gradients)
        for kind, is_enabled, dtype in self.autocast:
            torch.set_autocast_enabled(kind, is_enabled)
            torch.set_autocast_dtype(kind, dtype)


@dataclass
class _Waiting:
    key: int
    part: Any
    merge: Callable[[list[Any]], Any]


@dataclass
class Rendezvous:
    """Runs parts that wait for one another.

    rests: called with the number of a part when it begins to wait. resumes: when it goes on.
    """

    rests: Callable[[int], None] = lambda number: None
    resumes: Callable[[int], None] = lambda number: None
    waits: int = field(default=0, init=False)  # how often all parts have waited

    def gather(self, key: int, part: Any, merge: Callable[[list[Any]], Any]) -> Any:
        """Return merge(parts), of all parts in their order, to every part."""
        modes = _Modes.now()
        hub = getcurrent().parent
        assert hub is not None
        result = hub.switch(_Waiting(key, part, merge))
        modes.restore()
        return result

    def run(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run all `tasks`, each up to the next operation that they gather for, until they have ended."""
        modes, parts = _Modes.now(), [greenlet(task) for task in tasks]
        results: list[Any] = [None] * len(parts)
        try:
            while True:
                waiting = []
                for number, part in enumerate(parts):
                    if self.waits:
                        self.resumes(number)
                        asked = part.switch(results[number])
                        results[number] = None
                    else:
                        asked = part.switch()
                    modes.restore()
                    if not part.dead:
                        waiting.append(asked)
                        self.rests(number)
                if not waiting:
                    return
                if len(waiting) < len(parts) or len({one.key for one in waiting}) > 1:
                    raise UnsupportedOperation(
                        "Expected all parts of the image to take the same path through the model but got parts that "
                        "call different functions over all of space: the model's path depends on values"
                    )
                merged = waiting[0].merge([one.part for one in waiting])
                results = [merged] * len(parts)
                self.waits += 1
        finally:
            for part in parts:
                if not part.dead:
                    part.throw()
            modes.restore()
