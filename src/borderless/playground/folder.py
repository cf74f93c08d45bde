"""A folder of the playground's own, for uploads: removed at the end, or by the next start after a kill."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "borderless-playground-"
_LOCK = "in-use"


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """Make a folder that lasts as long as the block, after deleting those of processes that were killed."""
    clear_left_behind()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with open(folder / _LOCK, "wb") as lock:
            _is_locked_now(lock.fileno())  # until the process ends, however it does
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clear_left_behind() -> None:
    """Delete the folders of playgrounds that do not run any more; those of others are left as they are."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError), open(folder / _LOCK, "r+b") as lock:
            if _is_locked_now(lock.fileno()):
                shutil.rmtree(folder, ignore_errors=True)


def _is_locked_now(file: int) -> bool:
    """Lock an open file for this process; return False if another one holds the lock."""
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
