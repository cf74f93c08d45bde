"""Audits that a visitor waits for: each in a thread of its own, a few at a time, ended when nobody waits any more."""

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

from torch import nn

from borderless.runtime.malloc import give_back_freed_memory

AT_ONCE = 2
WORKER = "playground-audit"
_SLOTS = threading.BoundedSemaphore(AT_ONCE)
# Set where a worker is to stop.
_RUNNING: dict[threading.Thread, threading.Event] = {}

Step = tuple[float, int, str, Any]


def audited(model: nn.Module, images: Any, name: str) -> Iterator[Step]:
    """Audit `model`, and yield (steps done, of all, what is being done, None); at the end the audit, not None.

    Closing the iterator ends the work: at the next part, or the next time that the model runs.
    """
    from borderless.auditing.run import audit

    told: queue.Queue[Step | Exception] = queue.Queue()
    gone = threading.Event()

    def stop_if_gone(*_: Any) -> None:
        if gone.is_set():
            raise _Stopped

    def progress(done: float, of: int, part: str) -> None:
        stop_if_gone()
        told.put((done, of, part, None))

    def work() -> None:
        with _SLOTS:
            watch = model.register_forward_pre_hook(stop_if_gone)
            try:
                stop_if_gone()
                told.put((0, 0, "", audit(model, images, name=name, progress=progress)))
            except _Stopped:
                pass
            except Exception as error:
                told.put(error)
            finally:
                watch.remove()
                give_back_freed_memory()
                _RUNNING.pop(threading.current_thread(), None)

    worker = threading.Thread(target=work, name=WORKER, daemon=True)
    _RUNNING[worker] = gone
    worker.start()
    step: Step = (0, 1, "waiting for a free place", None)
    try:
        while step[3] is None:
            # Often, so that a visitor who cancels is heard at once.
            with contextlib.suppress(queue.Empty):
                found = told.get(timeout=0.3)
                if isinstance(found, Exception):
                    raise found
                step = found
            yield step
    finally:
        gone.set()


def stop_all(patience_s: float) -> None:
    """End all audits, and wait for them, but not longer than `patience_s`."""
    until = time.monotonic() + patience_s
    for worker, gone in list(_RUNNING.items()):
        gone.set()
        worker.join(max(0.0, until - time.monotonic()))


class _Stopped(BaseException):
    """Not an Exception, which would be taken for a failed part of the audit."""
