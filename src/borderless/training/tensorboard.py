"""Curves for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from borderless.errors import MissingPackage


class Curves:
    """Curves in `folder/tensorboard`; those of the first `done` epochs are kept, later ones are written again."""

    def __init__(self, folder: Path, done: int) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise MissingPackage(
                'Expected the package tensorboard but got none; install it with: pip install "borderless[logs]", or '
                "leave tensorboard=True out"
            ) from error
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)

    def add(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add the results of an epoch, by the names of their curves."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def __enter__(self) -> "Curves":
        return self

    def __exit__(self, *_: Any) -> None:
        self._writer.close()
