"""Integers against brute force, PyTorch's own output sizes, and numpy.pad."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.nn import functional as F

from borderless.engine import geometry
from borderless.engine.geometry import Slide

slides = st.builds(
    Slide, st.integers(1, 5), st.integers(1, 4), st.integers(0, 3), st.integers(0, 3), st.integers(1, 3), st.booleans()
)
windows = st.tuples(st.integers(-9, 9), st.integers(1, 12)).map(lambda w: (w[0], w[0] + w[1]))


def inputs_read(slide: Slide, j: int) -> range:
    first = slide.stride * j - slide.padding
    return range(first, first + slide.extent + 1)


@given(slides, windows)
def test_touching_keeps_every_output_whose_span_meets_the_window(slide: Slide, window: tuple[int, int]) -> None:
    meets = [j for j in range(-60, 60) if set(inputs_read(slide, j)) & set(range(*window))]
    first, stop = slide.kept(window, n=10, keep="touching")
    if meets:
        assert (first, stop) == (meets[0], meets[-1] + 1)
    else:
        assert stop == first + 1  # a stride stepped over the window: one output of background stands for it


@given(slides, windows)
def test_inside_keeps_every_output_whose_span_lies_in_the_window(slide: Slide, window: tuple[int, int]) -> None:
    inside = [j for j in range(-60, 60) if set(inputs_read(slide, j)) <= set(range(*window))]
    first, stop = slide.kept(window, n=10, keep="inside")
    assert list(range(first, stop)) == inside


@given(slides, windows)
def test_needed_is_what_the_kept_outputs_read(slide: Slide, window: tuple[int, int]) -> None:
    outputs = slide.kept(window, n=10, keep="touching")
    reads = [i for j in range(*outputs) for i in inputs_read(slide, j)]
    assert slide.needed(outputs) == (min(reads), max(reads) + 1)


@given(st.integers(1, 20), slides)
def test_the_frame_is_what_pytorch_computes(n: int, slide: Slide) -> None:
    assume(slide.padding == slide.padding_after <= slide.kernel // 2)
    assume(n + 2 * slide.padding > slide.extent)
    cells = torch.zeros(1, 1, n)
    pooled = F.max_pool1d(cells, slide.kernel, slide.stride, slide.padding, slide.dilation, slide.ceil_mode)
    assert slide.frame(n) == pooled.shape[-1]


@given(windows, st.integers(1, 12), st.integers(0, 5))
def test_reach_bounds_a_window_and_never_empties_it(window: tuple[int, int], n: int, reach: int) -> None:
    a, b = geometry.clip(window, n, reach)
    assert -reach <= a < b <= n + reach
    common = set(range(*window)) & set(range(-reach, n + reach))
    assert not common or set(range(a, b)) == common


@given(windows, windows)
def test_cover_accounts_for_every_needed_cell(stored: tuple[int, int], needed: tuple[int, int]) -> None:
    (a, b), before, after = geometry.cover(stored, needed)
    assert before + (b - a) + after == needed[1] - needed[0]
    assert set(range(a, b)) == set(range(*stored)) & set(range(*needed))
    if a < b:
        assert (a - before, b + after) == needed


@pytest.mark.parametrize(("mode", "name"), [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")])
@given(st.integers(1, 7), st.integers(0, 20), st.integers(0, 20))
def test_what_lies_outside_is_what_numpy_pads_with(mode: str, name: str, n: int, before: int, after: int) -> None:
    expected = np.pad(np.arange(n), (before, after), mode=name)
    assert geometry.outside_indices((-before, n + after), n, mode) == expected.tolist()


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ((2, 6, 5, 7), (2, 3, 2, 5, 7), (3, 4)),
        ((2, 6, 5, 7), (12, 5, 7), (1, 2)),
        ((2, 6, 5, 7), (2, 6, 5, 7, 1), (2, 3)),
        ((2, 5, 7, 6), (2, 5, 7, 2, 3), (1, 2)),
        ((2, 6, 1, 1), (2, 3, 2, 1, 1), (3, 4)),
        ((2, 6, 5, 7), (2, 210), None),
        ((2, 6, 5, 7), (2, 6, 35), None),
        ((2, 6, 5, 7), (2, 6, 7, 5), None),
        ((2, 6, 1, 1), (2, 6), None),
    ],
)
def test_which_axes_survive_a_reshape(source: tuple, target: tuple, expected: tuple | None) -> None:
    assert geometry.preserved_axes(
        source, target, (len(source) - 3, len(source) - 2) if source[-1] == 6 else (2, 3)
    ) == (expected)
