"""Rows of a batch: an output for each image, which no other image of the batch changes."""

import torch
from torch import Tensor

from borderless.errors import ImageError


class RowsMixed(Exception):
    """The rows of the batch were joined, selected, or put in another order."""


def checked(output: Tensor, count: int) -> Tensor:
    """Return `output`; raise ImageError if it has another number of rows than there are images."""
    if output.shape[:1] != (count,):
        raise ImageError(
            f"Expected one output for each image of a batch but got an output of shape {tuple(output.shape)} for "
            f"{count} images; name a module before images are mixed or channels become images with output="
        )
    return output


def rows_apart(outputs: Tensor, row: int, alone: Tensor) -> Tensor:
    """Return outputs without a row; raise RowsMixed if it is not the output `alone`, (1, ...), of its image by itself.

    Only so is it seen that a model mixes images after its feature maps were pooled to ordinary tensors.
    """
    if not is_same(outputs[row], alone[0]):
        raise RowsMixed
    return without_row(outputs, row)


def without_row(outputs: Tensor, row: int) -> Tensor:
    """Return outputs without a row."""
    return torch.cat([outputs[:row], outputs[row + 1 :]])


def is_same(one: Tensor, other: Tensor) -> bool:
    """Return whether two outputs are equal up to rounding."""
    if one.shape != other.shape or not one.is_floating_point():
        return torch.equal(one, other)
    rounding = torch.finfo(one.dtype).eps ** 0.5
    if one.is_cuda and one.dtype == torch.float32:  # convolutions may run in TF32, and differ with the batch
        rounding = 0.01
    known = other.isfinite()
    scale = float(other[known].abs().max()) if known.any() else 0.0
    return torch.allclose(one, other, rtol=0.0, atol=rounding * scale, equal_nan=True)
