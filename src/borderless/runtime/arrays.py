"""Arrays as files, whole or not at all."""

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from borderless.errors import RunError
from borderless.runtime.files import write_atomically


def save_arrays(path: Path, **arrays: Any) -> None:
    """Write arrays to one .npz file, whole or not at all, so that another process may read it at the same time."""
    data = io.BytesIO()
    np.savez_compressed(data, allow_pickle=False, **arrays)
    write_atomically(path, data.getbuffer())


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays that `save_arrays` wrote.

    Raises:
        RunError: The file is missing, cut, or something else.
    """
    try:
        # Read at once: NumPy does not close a file that is none of its own.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as found:
            return dict(found)
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise RunError(
            f"Expected the arrays of a finished cell in {path} but got {error}; delete {path.parent} and run the same "
            "command again"
        ) from error
