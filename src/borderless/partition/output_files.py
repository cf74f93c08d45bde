"""Files that a network's output for an image is written to, part after part: zarr, TIFF, .npy and PNG.

They are made in full before anything is computed, so that a full disk is told at once.
"""

import io
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from borderless.errors import ImageError, StorageError
from borderless.partition.image_files import needed
from borderless.partition.outputs import shape_of
from borderless.runtime.files import write_atomically

_CHUNK_PX = 512
ENDINGS = (".zarr", ".tif", ".tiff", ".npy", ".png")


class OutputFile:
    """A file for the output that a model gives for a whole image.

    Args:
        path: Where; its ending says the kind. Several outputs need zarr: a group, with an array for each.
        output: The output, of which shapes and types are used.
        has_batch: Whether the axis of samples is kept.

    Raises:
        ImageError: The kind does not hold such an output.
    """

    def __init__(self, path: Path, output: Any, has_batch: bool = False) -> None:
        self.path = path
        self.kind = path.suffix.lower().replace(".tiff", ".tif")
        self.arrays = {name: (shape_of(leaf, has_batch), leaf.dtype) for name, leaf in named_leaves(output).items()}
        self._output = output
        self._opened: dict[str, Any] = {}
        if path.suffix.lower() not in ENDINGS:
            raise ImageError(f"Expected a path that ends in {', '.join(ENDINGS)} but got {str(path)!r}; choose one.")
        if not self.arrays or (len(self.arrays) > 1 and self.kind != ".zarr"):
            raise ImageError(
                f"Expected a network with one output for {path.name} but got {len(self.arrays)}"
                f"{': ' if self.arrays else ''}{', '.join(map(repr, self.arrays))}; write a .zarr, or choose one."
            )
        if "torch.bfloat16" in {str(dtype) for _, dtype in self.arrays.values()}:
            raise ImageError(f"Expected an output that {path.name} can hold but got bfloat16; run in float32.")
        if self.kind == ".png":
            self._check_png()

    def _check_png(self) -> None:
        ((shape, dtype),) = self.arrays.values()
        space = shape[1:] if len(shape) == 3 else shape
        if _numpy(dtype) != np.uint8 or len(space) != 2 or (len(shape) == 3 and shape[0] not in (1, 3)):
            raise ImageError(
                f"Expected 8-bit values (height, width) or (3, height, width) for {self.path.name} but got "
                f"{str(dtype).removeprefix('torch.')} of shape {shape}; write a .tif, .npy or .zarr, or let the "
                "network give labels or a picture (--values labels, --values picture)."
            )

    @property
    def work(self) -> Path:
        """The file that tiles are written to while they are computed."""
        return self.path.with_name(f".{self.path.name}.npy") if self.kind == ".png" else self.path

    def create(self) -> None:
        """Make the file, in its full size.

        Raises:
            StorageError: There is no room.
        """
        self.remove()
        try:
            self.work.parent.mkdir(parents=True, exist_ok=True)
            if self.kind == ".zarr":
                self._create_zarr()
                return
            ((shape, dtype),) = self.arrays.values()
            if self.kind == ".tif":
                how = {"photometric": "minisblack", "bigtiff": True, "metadata": {"axes": _axes(shape)}}
                if len(shape) > 2:
                    how["planarconfig"] = "separate"
                needed("tifffile").memmap(self.work, shape=shape, dtype=_numpy(dtype), **how).flush()
            else:
                np.lib.format.open_memmap(self.work, mode="w+", dtype=_numpy(dtype), shape=shape).flush()
            if hasattr(os, "posix_fallocate"):  # a write into a hole of the file would kill the process
                with open(self.work, "r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, self.work.stat().st_size)
        except OSError as error:
            self.remove()
            raise StorageError(
                f"Expected room for {self.work} but got: {error}. Make room, or choose another."
            ) from error

    def _create_zarr(self) -> None:
        zarr = needed("zarr")
        group = None if len(self.arrays) == 1 else zarr.open_group(self.work, mode="w")
        for name, (shape, dtype) in self.arrays.items():
            sizes = shape or (1,)
            how = {"shape": shape, "dtype": _numpy(dtype), "chunks": tuple(max(1, min(_CHUNK_PX, n)) for n in sizes)}
            if not shape:
                how.pop("chunks")
            if group is None:
                zarr.create_array(self.work, overwrite=True, **how)
            else:
                group.create_array(name, **how)

    def open(self) -> Any:
        """Return the arrays to write into, laid out as the model's output."""
        if self.kind == ".zarr":
            found = needed("zarr").open(self.work, mode="r+")
            self._opened = {name: found if len(self.arrays) == 1 else found[name] for name in self.arrays}
        elif self.kind == ".tif":
            ((name, (shape, _)),) = self.arrays.items()
            self._opened = {name: needed("tifffile").memmap(self.work, mode="r+").reshape(shape)}
        else:
            self._opened = {name: np.load(self.work, mmap_mode="r+") for name in self.arrays}
        return rebuilt(self._output, lambda name, _: self._opened[name])

    def flush(self) -> None:
        """Bring what was written to the disk."""
        for array in self._opened.values():
            if isinstance(array, np.memmap):
                array.flush()

    def finish(self) -> None:
        """Make of what was written the file that was asked for."""
        self.flush()
        if self.kind == ".zarr":
            for half_written in self.work.rglob("*.partial"):  # of a run that was killed
                half_written.unlink()
        if self.kind == ".png":
            from PIL import Image

            pixels = np.load(self.work, mmap_mode="r")
            pixels = pixels[0] if pixels.ndim == 3 and len(pixels) == 1 else pixels
            content = io.BytesIO()
            Image.fromarray(pixels.transpose(1, 2, 0) if pixels.ndim == 3 else pixels).save(content, "PNG")
            write_atomically(self.path, content.getbuffer())
            self.work.unlink()
        self._opened = {}

    def remove(self) -> None:
        """Delete what is there."""
        if self.work.is_dir():
            shutil.rmtree(self.work)
        else:
            self.work.unlink(missing_ok=True)


def named_leaves(output: Any) -> dict[str, Tensor]:
    """Return the tensors of a model's output by their names: keys and indices, with / between; "" for a lone one."""
    found: dict[str, Tensor] = {}
    rebuilt(output, lambda name, leaf: found.setdefault(name, leaf))
    return found


def rebuilt(output: Any, make: Callable[[str, Tensor], Any], name: str = "") -> Any:
    """Return `output` with make(name, tensor) in the place of each tensor."""
    if isinstance(output, Tensor):
        return make(name, output)
    if isinstance(output, Mapping):
        return {key: rebuilt(value, make, f"{name}/{key}".lstrip("/")) for key, value in output.items()}
    if isinstance(output, list | tuple):
        return [rebuilt(value, make, f"{name}/{i}".lstrip("/")) for i, value in enumerate(output)]
    return output


def _axes(shape: Sequence[int]) -> str:
    return "TCZYX"[-len(shape) :] if len(shape) != 3 else "CYX"


def _numpy(dtype: Any) -> np.dtype[Any]:
    return np.dtype(str(dtype).removeprefix("torch."))
