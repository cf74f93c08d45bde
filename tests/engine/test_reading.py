"""Cells outside a map that is mirrored, repeated or goes round, against numpy's own padding."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from borderless.engine.reading import read_mirrored

NUMPYS: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@pytest.mark.parametrize("outside", NUMPYS)
@pytest.mark.parametrize("extra", [0, 1])
@given(data=st.data())
def test_what_lies_outside(outside: Any, extra: int, data: st.DataObject) -> None:
    """However far outside, also where only a part of the frame is wanted; extra: dimensions behind those of space."""
    size = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3), label="size")
    box = tuple((-data.draw(st.integers(-n + 1, 2 * n)), n + data.draw(st.integers(0, 2 * n))) for n in size)
    shape = (2, 3, *size, *[2] * extra)
    cells = torch.arange(float(np.prod(shape))).reshape(shape).requires_grad_()
    axes = tuple(range(2, 2 + len(size)))
    stored = tuple((0, n) for n in size)
    found = read_mirrored(cells, axes, stored, box, size, outside)
    far = [(0, 0), (0, 0), *[(3 * n, 3 * n) for n in size], *[(0, 0)] * extra]
    part = tuple(slice(a + 3 * n, b + 3 * n) for (a, b), n in zip(box, size, strict=True))
    everywhere = np.pad(cells.detach().numpy(), far, mode=NUMPYS[outside])
    np.testing.assert_array_equal(found.detach().numpy(), everywhere[:, :, *part])
    found.sum().backward()
    counted = np.pad(np.arange(cells.numel()).reshape(shape), far, mode=NUMPYS[outside])[:, :, *part]
    expected = np.bincount(counted.ravel(), minlength=cells.numel()).reshape(shape)
    assert cells.grad is not None
    np.testing.assert_array_equal(cells.grad.numpy(), expected)


@pytest.mark.parametrize("outside", NUMPYS)
@pytest.mark.parametrize("box", [((-1, 9), (-1, 9)), ((-1, 8), (-1, 8)), ((0, 9), (-2, 8)), ((0, 8), (-1, 9))])
def test_channels_last_stay(outside: Any, box: Any) -> None:
    cells = torch.rand(2, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    found = read_mirrored(cells, (2, 3), ((0, 8), (0, 8)), box, (8, 8), outside)
    assert found.is_contiguous(memory_format=torch.channels_last)
