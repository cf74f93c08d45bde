"""Checkpoints of a training: the last one, and the one before it, in case the last cannot be read."""

import io
import os
import warnings
from pathlib import Path
from typing import Any

import torch

from borderless.errors import TrainingError
from borderless.runtime.files import clear_half_written, write_atomically

LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"


class CheckpointWarning(UserWarning):
    """A checkpoint cannot be used; the one before it is used instead."""


class Checkpoints:
    """The checkpoints of one training, which its `identity`, of plain types, distinguishes from others."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder, self.identity = folder, identity
        self._last_is_good = False
        self._new = folder / f"{LAST}.new"

    def load(self) -> dict[str, Any] | None:
        """Return the newest good one, or None if there is none; delete half-written files.

        Raises:
            TrainingError: There are only checkpoints of other trainings, or none that can be read.
        """
        for path in (self._new, self.folder / BEST):
            clear_half_written(path)
        refused: list[TrainingError] = []
        for name in (LAST, PREVIOUS):
            path = self.folder / name
            if not path.exists():
                continue
            try:
                state = self._read(path)
                self._last_is_good = name == LAST
            except TrainingError as error:
                refused.append(error)
                continue
            for error in refused:
                warnings.warn(f"{error}; until then {path.name} is used", CheckpointWarning, stacklevel=3)
            return state
        if refused:
            raise refused[0]
        return None

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(saved["identity"], dict) or not isinstance(saved["state"], dict):
                raise TypeError("it holds something else")
            found: dict[str, Any] = saved["identity"]
            state: dict[str, Any] = saved["state"]
        except Exception as error:  # a damaged pickle raises whatever its bytes happen to ask for
            raise TrainingError(
                f"Expected the checkpoint that this training wrote but got {path}, which cannot be read "
                f"({type(error).__name__}); delete it to start anew"
            ) from error
        if found != self.identity:
            different = sorted(key for key in {*found, *self.identity} if found.get(key) != self.identity.get(key))
            raise TrainingError(
                f"Expected a checkpoint of this training but got {path} of another "
                f"({'; '.join(f'{key} {found.get(key)}, here {self.identity.get(key)}' for key in different)}); choose "
                "another folder, or delete it"
            )
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Write `state`; the last checkpoint becomes the previous one."""
        data = io.BytesIO()
        torch.save({"identity": self.identity, "state": state}, data)
        self._write(self._new, data.getbuffer())
        if self._last_is_good:  # what was refused does not take the place of a good one
            os.replace(self.folder / LAST, self.folder / PREVIOUS)
        os.replace(self._new, self.folder / LAST)
        self._last_is_good = True

    def save_best(self, weights: dict[str, Any]) -> None:
        """Write the weights alone, as a state dict."""
        data = io.BytesIO()
        torch.save(weights, data)
        self._write(self.folder / BEST, data.getbuffer())

    def _write(self, path: Path, data: memoryview) -> None:
        try:
            write_atomically(path, data)
        except OSError as error:
            raise TrainingError(
                f"Expected room for {len(data) / 2**20:.1f} MiB but got {path}, which cannot be written "
                f"({error.strerror or error}); earlier files are untouched, and the same command continues from them"
            ) from error
