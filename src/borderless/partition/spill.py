"""Maps of parts that wait for other parts, put away in files while there is no room for them in memory."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from borderless.errors import StorageError
from borderless.partition.part import PartPass, PartSignal

_HELD = ("window", "_deviation")  # where a map keeps its cells


class _View(NamedTuple):
    """The former location of the cells of one map: their storage and their layout in it."""

    signal: PartSignal
    name: str
    storage: int
    dtype: torch.dtype
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int


@dataclass
class Spill:
    """Puts away the maps of parts that wait once those that wait in memory take more than `limit_bytes`.

    Parts go on in the order in which they began to wait. So those that came last are put away: they wait longest.
    passes: of the parts, by their numbers. written_bytes: all that was put away.
    """

    limit_bytes: int
    passes: dict[int, PartPass] = field(default_factory=dict)
    written_bytes: int = 0
    _in_memory: dict[int, int] = field(default_factory=dict)
    _views: dict[int, list[_View]] = field(default_factory=dict)
    _storages: dict[int, list[tuple[int, torch.device]]] = field(default_factory=dict)
    _folder: Any = None

    def __enter__(self) -> "Spill":
        self._folder = tempfile.TemporaryDirectory(prefix="borderless-")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for held in (self._in_memory, self._views, self._storages, self.passes):
            held.clear()
        self._folder.cleanup()

    def rests(self, number: int) -> None:
        """Move the maps of a part that begins to wait to disk, if there is no room for them.

        Raises:
            StorageError: There is none on the disk either.
        """
        views, storages = _held_by(self.passes[number])
        size = sum(storage.nbytes() for storage in storages)
        if sum(self._in_memory.values()) + size <= self.limit_bytes:
            self._in_memory[number] = size
            return
        path = self._path(number)
        try:
            with open(path, "wb", buffering=0) as file:
                for storage in storages:
                    _write(file, storage)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise StorageError(
                f"Expected room for {size / 1e6:.0f} MB of maps that wait in {path.parent} but got: {error}. Make room "
                "there, name another folder with TMPDIR, or give more memory=."
            ) from error
        for view in views:
            held = vars(view.signal)
            held.pop("window", None)
            held["_deviation"] = None
        self._views[number] = views
        self._storages[number] = [(storage.nbytes(), storage.device) for storage in storages]
        self.written_bytes += size

    def resumes(self, number: int) -> None:
        """Load the maps of a part that goes on.

        Raises:
            StorageError: Their file cannot be read.
        """
        self._in_memory.pop(number, None)
        if number not in self._views:
            return
        path, found = self._path(number), []
        try:
            with open(path, "rb", buffering=0) as file:
                for size, device in self._storages.pop(number):
                    found.append(_read(file, size).to(device).untyped_storage())
        except OSError as error:
            raise StorageError(f"Expected the maps that waited in {path} but got: {error}.") from error
        path.unlink()
        for view in self._views.pop(number):
            cells = torch.empty(0, dtype=view.dtype, device=found[view.storage].device)
            cells.set_(found[view.storage], view.offset, view.shape, view.stride)
            vars(view.signal)[view.name] = cells

    def _path(self, number: int) -> Path:
        return Path(self._folder.name) / f"part-{number}"


def _held_by(scope: PartPass) -> tuple[list[_View], list[torch.UntypedStorage]]:
    """Return the maps of a pass that are alive, and their storages, each once; what is the same in every part stays."""
    views: list[_View] = []
    storages: dict[int, torch.UntypedStorage] = {}
    for signal in list(scope.alive.values()):
        for name in _HELD:
            cells = vars(signal).get(name)
            if signal.is_settled or not isinstance(cells, Tensor) or not cells.numel():
                continue
            storage = cells.untyped_storage()
            at = list(storages).index(storage.data_ptr()) if storage.data_ptr() in storages else len(storages)
            storages.setdefault(storage.data_ptr(), storage)
            views.append(_View(signal, name, at, cells.dtype, cells.shape, cells.stride(), int(cells.storage_offset())))
    return views, list(storages.values())


def _write(file: Any, storage: torch.UntypedStorage) -> None:
    cells = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
    left = memoryview(cells.cpu().numpy())  # pyright: ignore[reportArgumentType]
    while left:
        left = left[file.write(left) :]


def _read(file: Any, size: int) -> Tensor:
    found = np.empty(size, np.uint8)
    left = memoryview(found)  # pyright: ignore[reportArgumentType]
    while left:
        count = file.readinto(left)
        if not count:
            raise OSError("the file ends too early")
        left = left[count:]
    return torch.from_numpy(found)
