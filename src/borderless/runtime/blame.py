"""Distinguish errors of this package from those of the model, its images or the machine."""

import traceback
from pathlib import Path

import torch
from torch import nn

from borderless.errors import BorderlessError

_PACKAGE, _TORCH = Path(__file__).resolve().parents[1], Path(torch.__file__).resolve().parent


def is_bug(error: Exception) -> bool:
    """Return whether `error` is a fault of this package, which must never be taken for a property of a model.

    It is not if it is a BorderlessError, if memory ran out, or if a model raised it while it ran: its own code, or
    PyTorch for tensors that do not fit where this package runs the model's operations (RuntimeError, ValueError).
    """
    if isinstance(error, BorderlessError | MemoryError | torch.OutOfMemoryError):
        return False
    noted = vars(error).get("borderless_is_bug")
    if noted is not None:
        return noted
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    models = [i for i, frame in enumerate(frames) if isinstance(frame.f_locals.get("self"), nn.Module)]
    if not models:
        return True
    if isinstance(error, RuntimeError | ValueError):
        return False
    files = [Path(frame.f_code.co_filename).resolve() for frame in frames[models[0] :]]
    raised_in = next((file for file in reversed(files) if _TORCH not in file.parents), None)
    return raised_in is not None and _PACKAGE in raised_in.parents


def note_blame(error: Exception, sent: Exception) -> Exception:
    """Return `sent`, a copy of `error` for another process, with what the lost traceback would have told `is_bug`."""
    vars(sent)["borderless_is_bug"] = is_bug(error)
    return sent
