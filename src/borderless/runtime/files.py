"""Atomic writes: a file is written beside its destination, then renamed to it, so it is there whole or not at all."""

import contextlib
import csv
import glob
import io
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

_HALF_WRITTEN = ".tmp"


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Write `content` (text as UTF-8) to `path`. Whoever reads it, even after a crash, sees the old file or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode("utf-8") if isinstance(content, str) else content
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
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*{_HALF_WRITTEN}"):
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write one table, atomically; numbers keep all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
