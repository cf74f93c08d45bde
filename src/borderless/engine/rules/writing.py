"""`x[index] = value`: channels and samples that are written to, and cells that a mask picks."""

from typing import Any

import torch
from torch import Tensor

from borderless.engine.naming import describe
from borderless.engine.registry import rule
from borderless.engine.rules.indexing import picked
from borderless.engine.signal import Signal, first_signal


@rule(torch.Tensor.__setitem__, needs="nothing")  # of itself: it calls other functions
def write(function: Any, signal: Signal, index: Any, value: Any) -> None:
    """Write a value, an ordinary tensor without spatial extent or a map, to what the index takes of a map."""
    if not isinstance(signal, Signal):
        found = first_signal(index, value)
        assert found is not None
        found.scope.reads_position(
            describe(function),
            "it writes a feature map into an ordinary tensor. Write torch.cat or torch.stack of the maps, or make the "
            "tensor with torch.zeros_like(x)",
            found.frame,
        )
        signal[index.crop() if isinstance(index, Signal) else index] = (
            value.crop() if isinstance(value, Signal) else value
        )
        return
    if isinstance(index, Signal):
        _write_where(signal, index, value)
        return
    found = picked(signal, index)
    if found.slices != [(0, n, 1) for n in signal.frame]:
        raise signal.scope.unsupported(
            describe(function),
            "it writes at absolute positions of a feature map. Write to whole channels, x[:, a:b] = …, or where a mask "
            "that is computed from a map is true, x[mask] = …",
        )
    if found.is_list:
        _write_to_list(function, signal, found.plain, value)
    else:
        _write_to(signal[index], value)


def _write_to(part: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        part.copy_(value)
    else:
        part.fill_(value)


def _write_where(signal: Signal, mask: Signal, value: Any) -> None:
    """Write `value` where the mask, a map of booleans, is true."""
    if mask.dtype != torch.bool or mask.shape != signal.shape:
        raise signal.scope.unsupported(
            "an index that is a feature map",
            f"it is a map of {mask.dtype} of shape {tuple(mask.shape)}, and not one of booleans of the shape "
            f"{tuple(signal.shape)}. Write torch.where(mask, value, x)",
        )
    if isinstance(value, Tensor) and (value.ndim > 0 or isinstance(value, Signal)):
        raise signal.scope.unsupported(
            "x[mask] = values", "values that are picked by a mask have lost their positions. Write torch.where(mask, …)"
        )
    signal.masked_fill_(mask, value)


def _write_to_list(function: Any, signal: Signal, plain: list[Any], value: Any) -> None:
    """Write to channels or samples in a list, which are no view."""
    if isinstance(value, Tensor) and value.ndim > 0:
        raise signal.scope.unsupported(
            describe(function), "it writes a tensor to a list of channels. Write it to slices, or use torch.cat"
        )
    if isinstance(plain[0], Tensor) or plain[0] != slice(None):
        signal.scope.mixes_rows(function)
    sizes = [1 if axis in signal.axes else n for axis, n in enumerate(signal.window.shape)]
    mask = torch.zeros(sizes, dtype=torch.bool, device=signal.window.device)
    mask[tuple(plain)] = True
    signal.masked_fill_(mask, value)
