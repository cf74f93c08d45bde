"""Read folders of masks: pictures whose pixels are labels, called like the pictures that they are about."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from borderless.data.annotations.objects import IGNORED, Annotation, Annotations, check_size
from borderless.errors import DataError
from borderless.runtime.files import printable
from borderless.runtime.image_files import open_safely

_VOID = 255
# So many masks tell whether 255 is their only foreground, or what VOC calls void.
_LOOKED_AT = 20


def read_masks(folder: Path, files: Sequence[Path], names: Sequence[str], class_names: Sequence[str]) -> Annotations:
    """Return the masks of these pictures."""
    by_stem = {file.relative_to(folder).with_suffix("").as_posix(): file for file in reversed(files)}
    by_stem |= {file.stem: file for file in reversed(files) if file.stem not in by_stem}
    pictures: list[Annotation] = []
    left_out: list[str] = []
    void = None if _has_foreground_alone(files[:_LOOKED_AT]) else _VOID
    nothing = np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool)
    for name in names:
        stem = PurePosixPath(name).with_suffix("")
        file = by_stem.get(str(stem)) or by_stem.get(stem.name)
        if file is None:
            left_out.append(f"{printable(name)}: no mask of that name")
            continue
        pictures.append(Annotation(name, *nothing, mask=_reader(file, name, void)))
    return Annotations("masks", tuple(pictures), dict(enumerate(class_names)), tuple(left_out))


def _has_foreground_alone(files: Sequence[Path]) -> bool:
    """Return whether all masks that can be read have only 0 and 255, so that 255 is a label and not void."""
    found: set[int] = set()
    for file in files:
        with contextlib.suppress(DataError):
            found |= set(np.unique(_labels(file)).tolist())
    return found <= {0, _VOID}


def _reader(file: Path, name: str, void: int | None) -> Callable[[tuple[int, int]], np.ndarray]:
    def read(size: tuple[int, int]) -> np.ndarray:
        labels = _labels(file)
        check_size(name, size, (labels.shape[1], labels.shape[0]))
        return np.where(labels == void, IGNORED, labels) if void is not None else (labels == _VOID).astype(int)

    return read


def _labels(file: Path) -> np.ndarray:
    try:
        with open_safely(file) as image:
            mode, values = image.mode, np.asarray(image)
    except Exception as error:  # Pillow raises all sorts of errors for damaged files
        raise DataError(f"{printable(file.name)}: the mask is broken ({type(error).__name__})") from error
    if values.ndim != 2 or mode == "F":
        raise DataError(f"{printable(file.name)}: a mask of mode {mode}, not one label for each pixel (L, P, I)")
    return values.astype(int)
