"""Atomic writes: a file is written beside its destination, then renamed to it, so it is there whole or not at all."""

import contextlib
import csv
import glob
import io
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from borderless.errors import StorageError

_HALF_WRITTEN = ".tmp"
# A file is written within seconds; what is half written for longer is of a process that was killed.
_ABANDONED_S = 3600.0


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Write `content` to `path`: readers see the old file or the new one, even after a crash.

    Text is written as UTF-8, with escapes for what UTF-8 cannot encode, such as parts of a file's name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_HALF_WRITTEN)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp's files are for their owner alone; a result is for everybody whom the umask allows.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:  # a full disk does not say which
            error.filename = str(path)
        raise


def clear_half_written(path: Path) -> None:
    """Delete what `write_atomically` left beside `path` in processes that were killed; what cannot be deleted stays."""
    _delete(path.parent, glob.escape(path.name), 0.0)


def check_writable(folder: Path) -> None:
    """Create `folder` and a file in it, and delete the file: before hours of work, not after them.

    Raises:
        StorageError: Files cannot be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        raise StorageError(
            f"Expected a folder to write to but got {printable(folder)} ({error.strerror}); choose another."
        ) from error


def printable(name: Path | str) -> str:
    r"""Return a file's name as text that every terminal and page can show, with escapes for what is no UTF-8.

    Example:
        >>> print(printable("a\udcff.png"))
        a\xff.png
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def clear_abandoned(folder: Path) -> None:
    """Delete what `write_atomically` left in `folder` in processes that were killed: half-written files of an hour ago.

    Younger ones stay: another process may be writing them.
    """
    _delete(folder, "*", _ABANDONED_S)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write one table, atomically; numbers keep all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def _delete(folder: Path, name: str, older_than_s: float) -> None:
    for temporary in folder.glob(f".{name}.*{_HALF_WRITTEN}"):
        with contextlib.suppress(OSError):
            if time.time() - temporary.stat().st_mtime >= older_than_s:
                temporary.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
