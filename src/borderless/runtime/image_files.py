"""Open image files of unknown origin."""

import stat
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from borderless.errors import DataError

# Pillow's readers of what cameras, scanners and programs write. Others start programs (PostScript), or are rare.
FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP", "GIF")


def open_safely(path: Path, formats: Sequence[str] = FORMATS) -> Image.Image:
    """Open an image file as Pillow does, whatever its name ends with; its pixels are read when they are needed.

    Args:
        path: The file. A pipe or a device, whose reading could wait for ever, is not opened.
        formats: Names of Pillow's readers that may be tried.

    Raises:
        DataError: It is no ordinary file.
        Exception: What Pillow raises for damaged files, which is of all sorts.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise DataError("no ordinary file")
    return Image.open(path, formats=list(formats))
