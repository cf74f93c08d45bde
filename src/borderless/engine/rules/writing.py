"""`x[index] = value`: channels and samples that are written to, and cells that a mask picks."""

from typing import Any

import torch
from torch import Tensor

from borderless.engine.naming import describe
from borderless.engine.registry import rule
from borderless.engine.relabelled import Relabelled
from borderless.engine.rules.indexing import getitem, picked
from borderless.engine.rules.pointwise import elementwise, own_window
from borderless.engine.signal import Signal, first_signal


def _write_seen(function: Any, source: Relabelled, signal: Any, index: Any, value: Any) -> None:
    """To tokens and stacks: to the view of the map that the index takes."""
    if isinstance(index, Relabelled):
        signal.masked_fill_(index, value)
    else:
        part = signal[index]
        if isinstance(value, Tensor):
            part.copy_(value)
        else:
            part.fill_(value)


@rule(torch.Tensor.__setitem__, needs="everything", dims=_write_seen)
def write(function: Any, signal: Any, index: Any, value: Any) -> None:
    """Write a value, an ordinary tensor without spatial extent or a map, to what the index takes of a map."""
    if not isinstance(signal, Signal):
        found = first_signal(index, value)
        assert found is not None
        raise found.scope.unsupported(
            describe(function),
            "it writes a feature map into an ordinary tensor. Write torch.cat or torch.stack of the maps, or make the "
            "tensor with torch.zeros_like(x)",
        )
    if isinstance(index, Signal):
        _write_where(signal, index, value)
        return
    found = picked(signal, index)
    if found.slices != [(0, n, 1) for n in signal.frame]:
        _write_along_space(function, signal, index, value)
        return
    if found.is_list:
        _write_to_list(function, signal, found.plain, value)
        return
    part = getitem(torch.Tensor.__getitem__, signal, index)
    if isinstance(value, Tensor):
        elementwise(torch.Tensor.copy_, part, value)
    else:
        elementwise(torch.Tensor.fill_, part, value)


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
    elementwise(torch.Tensor.masked_fill_, signal, mask, value)


def _write_along_space(function: Any, signal: Signal, index: Any, value: Any) -> None:
    """Write at absolute positions, which the unmodified model's frame alone has."""
    border = signal.border
    if not border.is_own or border.is_adaptive or isinstance(value, Signal):
        raise signal.scope.unsupported(
            describe(function),
            "it writes at absolute positions of a feature map. Write to whole channels, x[:, a:b] = …, or where a mask "
            "that is computed from a map is true, x[mask] = …",
        )
    signal.scope.reads_position(describe(function), "it writes at absolute positions of a feature map")
    window = own_window(signal)
    window[index] = value
    signal.become(function, window, None)


def _write_to_list(function: Any, signal: Signal, plain: list[Any], value: Any) -> None:
    """Write to channels or samples in a list, which are no view."""
    if isinstance(value, Tensor) and value.ndim > 0:
        raise signal.scope.unsupported(
            describe(function), "it writes a tensor to a list of channels. Write it to slices, or use torch.cat"
        )
    window, background = own_window(signal), signal.background
    window[tuple(plain)] = value
    if background is not None:
        background = background.expand(len(signal.window), *background.shape[1:]).clone()
        background[tuple(plain)] = value
    signal.become(function, window, background)
