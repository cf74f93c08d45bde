"""One sliding operation under each border, against PyTorch's own on an input that was padded beforehand.

Legend: size n, kernel k, stride s, padding p, dilation d, extent e = d (k - 1), one number an axis. Output j reads the
inputs s j - p + d t for t in 0..k-1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from torch import Tensor, nn

import borderless as bl

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVG_POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
COLORS = [0.0, 0.7, (0.3, -1.2, 0.5, 2.0)]
CHANNELS = 4

quick = settings(max_examples=40, deadline=None, derandomize=True, database=None)
every_dimension = pytest.mark.parametrize("dimensions", [1, 2, 3], ids=["1d", "2d", "3d"])


@dataclass(frozen=True)
class Sliding:
    """A sliding operation, the input it gets, and its numbers along each axis."""

    operation: nn.Module
    images: Tensor
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        return tuple(d * (k - 1) for k, d in zip(self.kernel, self.dilation, strict=True))


def numbers(dimensions: int, low: int, high: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(low, high)] * dimensions)


def draw_numbers(draw: st.DrawFn, dimensions: int, pool: bool, dilated: bool = True) -> tuple[tuple[int, ...], ...]:
    """Sizes, kernel, stride, padding, dilation that PyTorch accepts: the padded input holds at least one window."""
    size, kernel = draw(numbers(dimensions, 1, 7)), draw(numbers(dimensions, 1, 4))
    stride = draw(numbers(dimensions, 1, 3))
    dilation = draw(numbers(dimensions, 1, 2)) if dilated else (1,) * dimensions
    padding = tuple(draw(st.integers(0, k // 2 if pool else k)) for k in kernel)
    assume(all(n + 2 * p > d * (k - 1) for n, k, p, d in zip(size, kernel, padding, dilation, strict=True)))
    return size, kernel, stride, padding, dilation


def noise(draw: st.DrawFn, size: Sequence[int]) -> Tensor:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    return torch.randn(2, CHANNELS, *size, generator=generator, dtype=torch.float64)


@st.composite
def convolutions(draw: st.DrawFn, dimensions: int) -> Sliding:
    size, kernel, stride, padding, dilation = draw_numbers(draw, dimensions, pool=False)
    images = noise(draw, size)
    groups = draw(st.sampled_from([1, 2, 4]))
    with torch.random.fork_rng():
        torch.manual_seed(draw(st.integers(0, 2**16)))
        operation = CONV[dimensions](
            CHANNELS, CHANNELS, kernel, stride, padding, dilation, groups, bias=draw(st.booleans()), dtype=torch.float64
        )
    return Sliding(operation, images, kernel, stride, padding, dilation)


@st.composite
def max_pools(draw: st.DrawFn, dimensions: int, ceil_mode: bool | None = None) -> Sliding:
    size, kernel, stride, padding, dilation = draw_numbers(draw, dimensions, pool=True)
    ceil_mode = draw(st.booleans()) if ceil_mode is None else ceil_mode
    operation = MAX_POOL[dimensions](kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    return Sliding(operation, noise(draw, size), kernel, stride, padding, dilation)


@st.composite
def avg_pools(
    draw: st.DrawFn, dimensions: int, count_include_pad: bool | None = None, ceil_mode: bool | None = None
) -> Sliding:
    size, kernel, stride, padding, dilation = draw_numbers(draw, dimensions, pool=True, dilated=False)
    assume(all(n >= k for n, k in zip(size, kernel, strict=True)))  # AvgPool3d leaves its padding out of account
    assume(kernel != size or any(padding))  # that is a global average: test_an_average_over_the_whole_frame_is_global
    operation = AVG_POOL[dimensions](
        kernel,
        stride,
        padding,
        ceil_mode=draw(st.booleans()) if ceil_mode is None else ceil_mode,
        count_include_pad=draw(st.booleans()) if count_include_pad is None else count_include_pad,
    )
    return Sliding(operation, noise(draw, size), kernel, stride, padding, dilation)


def any_operation(dimensions: int) -> st.SearchStrategy[Sliding]:
    return convolutions(dimensions) | max_pools(dimensions) | avg_pools(dimensions)


def padded(
    images: Tensor, amounts: Sequence[int], color: float | Sequence[float] | None = 0.0, mode: str = "constant"
) -> Tensor:
    """Images with `amounts` more cells at both ends of each axis; `color` is a number or one number a channel."""
    widths = [amount for amount in reversed(amounts) for _ in range(2)]
    if mode != "constant":
        return F.pad(images, widths, mode=mode)
    colors = torch.as_tensor(color, dtype=images.dtype).view(-1, *[1] * len(amounts))
    return F.pad(images - colors, widths) + colors


def without_padding(operation: nn.Module, stride: Sequence[int] | None = None) -> nn.Module:
    """The same operation with padding 0, and at another stride if given."""
    settings_ = {
        "padding": (0,) * len(operation.kernel_size),
        "stride": tuple(operation.stride if stride is None else stride),
    }
    if isinstance(operation, tuple(CONV.values())):
        bare = type(operation)(
            operation.in_channels,
            operation.out_channels,
            operation.kernel_size,
            dilation=operation.dilation,
            groups=operation.groups,
            bias=operation.bias is not None,
            dtype=operation.weight.dtype,
            **settings_,
        )
        bare.load_state_dict(operation.state_dict())
        return bare
    if isinstance(operation, tuple(MAX_POOL.values())):
        return type(operation)(operation.kernel_size, dilation=operation.dilation, **settings_)
    return type(operation)(operation.kernel_size, **settings_)


def assert_close(got: Tensor, expected: Tensor) -> None:
    assert got.shape == expected.shape
    assert type(got) is Tensor
    if expected.numel():
        assert (got - expected).abs().max() <= 1e-12 * max(1.0, expected.abs().max().item())


def everywhere_on_the_stride(run: nn.Module, images: Tensor, case: Sliding) -> tuple[Tensor, tuple[int, ...]]:
    """`run` (stride 1, padding 0) at all offsets of `images`, thinned to the model's lattice; the first kept index.

    `images` has e more cells than the input on every side: offset i there is the input's offset i - e, and the lattice
    holds those that are s j - p.
    """
    maps = run(images)
    first = []
    for axis, (e, s, p) in enumerate(zip(case.extent, case.stride, case.padding, strict=True), start=2):
        kept = [i for i in range(maps.shape[axis]) if (i - e + p) % s == 0]
        first.append((kept[0] - e + p) // s if kept else None)
        maps = maps.index_select(axis, torch.tensor(kept, dtype=torch.long))
    return maps, tuple(first)


@every_dimension
@given(data=st.data())
@quick
def test_infinite_equals_the_operation_on_a_huge_canvas(dimensions: int, data: st.DataObject) -> None:
    case = data.draw(any_operation(dimensions))
    color = data.draw(st.sampled_from(COLORS))
    cells = [e + p + 3 for e, p in zip(case.extent, case.padding, strict=True)]  # lattice cells added on each side
    amounts = [c * s for c, s in zip(cells, case.stride, strict=True)]
    huge_input = padded(case.images, amounts, color)
    with torch.inference_mode():
        huge, own = case.operation(huge_input), case.operation(case.images)
        signal = bl.convert(case.operation, "infinite", background=color, output="signal")(case.images)
    assert tuple(signal.frame) == tuple(own.shape[2:])
    assert signal.shape == own.shape

    within = torch.ones(huge.shape[2:], dtype=torch.bool)  # cells of `huge` that do not read over its edge
    inside = torch.zeros_like(within)  # cells of the window
    slices = []
    for axis in range(dimensions):
        n, s, p, e = huge_input.shape[axis + 2], case.stride[axis], case.padding[axis], case.extent[axis]
        reads = s * torch.arange(huge.shape[axis + 2]) - p
        shape = [-1 if other == axis else 1 for other in range(dimensions)]
        within &= ((reads >= 0) & (reads + e < n)).view(shape)
        first = signal.start[axis] + cells[axis]
        assert first >= 0 and first + signal.window.shape[axis + 2] <= huge.shape[axis + 2]
        slices.append(slice(first, first + signal.window.shape[axis + 2]))
    inside[tuple(slices)] = True
    assert within[inside].all(), "the window is larger than what the input can reach"
    assert_close(signal.window, huge[(..., *slices)])

    outside = within & ~inside
    assert outside.any()
    assert all(length == 1 for length in signal.background.shape[2:])
    assert_close(huge[..., outside], signal.background.flatten(2).expand(*huge.shape[:2], int(outside.sum())))


@every_dimension
@given(data=st.data())
@quick
def test_zero_equals_the_operation_itself(dimensions: int, data: st.DataObject) -> None:
    case = data.draw(any_operation(dimensions))
    with torch.inference_mode():
        got = bl.convert(case.operation, "zero")(case.images)
        assert_close(got, case.operation(case.images))


@every_dimension
@given(data=st.data())
@quick
def test_full_keeps_every_window_that_touches_the_input(dimensions: int, data: st.DataObject) -> None:
    """Also for pools: a max pool reads 0 outside."""
    case = data.draw(convolutions(dimensions) | max_pools(dimensions) | avg_pools(dimensions, count_include_pad=True))
    with torch.inference_mode():
        run = without_padding(case.operation, stride=(1,) * dimensions)
        expected, first = everywhere_on_the_stride(run, padded(case.images, case.extent), case)
        signal = bl.convert(case.operation, "full", output="signal")(case.images)
        own = case.operation(case.images)
    assume(expected.numel() > 0)  # a stride beyond the kernel can step over a small input
    assert tuple(signal.start) == first
    assert tuple(signal.frame) == tuple(own.shape[2:])
    assert_close(signal.window, expected)


@given(data=st.data())
@quick
def test_full_reads_zero_beyond_the_first_window(data: st.DataObject) -> None:
    """Two convolutions: what the second meets outside the first one's window is 0, not the first one's bias."""
    dimensions = data.draw(st.sampled_from([1, 2]))
    one, two = data.draw(convolutions(dimensions)), data.draw(convolutions(dimensions))
    model = nn.Sequential(one.operation, two.operation)
    with torch.inference_mode():
        between, first = everywhere_on_the_stride(
            without_padding(one.operation, (1,) * dimensions), padded(one.images, one.extent), one
        )
        frame = one.operation(one.images).shape[2:]
        assume(between.numel() > 0)
        assume(all(n + 2 * p > e for n, p, e in zip(frame, two.padding, two.extent, strict=True)))
        # The second lattice counts from the frame's first cell, which is cell -first of the window.
        run = without_padding(two.operation, (1,) * dimensions)
        maps = run(padded(between, two.extent))
        start = []
        for axis in range(dimensions):
            s, p, e = two.stride[axis], two.padding[axis], two.extent[axis]
            kept = [i for i in range(maps.shape[axis + 2]) if (i - e + first[axis] + p) % s == 0]
            assume(kept)
            start.append((kept[0] - e + first[axis] + p) // s)
            maps = maps.index_select(axis + 2, torch.tensor(kept))
        signal = bl.convert(model, "full", output="signal")(one.images)
    assert tuple(signal.start) == tuple(start)
    assert_close(signal.window, maps)


@pytest.mark.parametrize("border", ["reflect", "replicate", "circular"])
@every_dimension
@given(data=st.data())
@settings(quick, max_examples=25)
def test_same_size_borders_equal_pytorchs_padding_modes(dimensions: int, border: str, data: st.DataObject) -> None:
    case = data.draw(convolutions(dimensions))
    size = case.images.shape[2:]
    # PyTorch mirrors at most n - 1 cells and wraps at most n.
    room = {"reflect": -1, "replicate": 10, "circular": 0}[border]
    assume(all(p <= n + room for n, p in zip(size, case.padding, strict=True)))
    operation = case.operation
    with torch.inference_mode():
        expected = without_padding(operation)(padded(case.images, case.padding, mode=border))
        signal = bl.convert(operation, border, output="signal")(case.images)
        framed = bl.convert(operation, border)(case.images)
    assert tuple(signal.start) == (0,) * dimensions
    assert_close(signal.window, expected)
    assert_close(framed, expected)


@pytest.mark.parametrize("border", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("dimensions", [1, 2], ids=["1d", "2d"])
@given(data=st.data())
@settings(quick, max_examples=25)
def test_pools_under_same_size_borders(dimensions: int, border: str, data: st.DataObject) -> None:
    """A max pool keeps its -inf, unless the map is wrapped; an average reads what the border says."""
    is_wrapped = border == "circular"
    max_pool = max_pools(dimensions, ceil_mode=False if is_wrapped else None)
    case = data.draw(max_pool | avg_pools(dimensions, count_include_pad=True, ceil_mode=False))
    assume(all(p <= n - 1 for n, p in zip(case.images.shape[2:], case.padding, strict=True)))
    with torch.inference_mode():
        if isinstance(case.operation, tuple(MAX_POOL.values())) and not is_wrapped:
            expected = case.operation(case.images)
        else:
            expected = without_padding(case.operation)(padded(case.images, case.padding, mode=border))
        assert_close(bl.convert(case.operation, border)(case.images), expected)


@every_dimension
@given(data=st.data())
@quick
def test_valid_keeps_the_windows_inside_on_the_models_own_lattice(dimensions: int, data: st.DataObject) -> None:
    case = data.draw(convolutions(dimensions) | max_pools(dimensions) | avg_pools(dimensions, count_include_pad=True))
    kept = [  # straight from the definition: output j is kept when all that it reads lies inside
        [j for j in range(12) if s * j - p >= 0 and s * j - p + e < n]
        for n, s, p, e in zip(case.images.shape[2:], case.stride, case.padding, case.extent, strict=True)
    ]
    assume(all(kept))
    with torch.inference_mode():
        maps = without_padding(case.operation, stride=(1,) * dimensions)(case.images)
        for axis, indices in enumerate(kept):
            offsets = [case.stride[axis] * j - case.padding[axis] for j in indices]
            maps = maps.index_select(axis + 2, torch.tensor(offsets))
        signal = bl.convert(case.operation, "valid", output="signal")(case.images)
        own = case.operation(case.images)
    assert tuple(signal.start) == tuple(indices[0] for indices in kept)
    assert tuple(signal.frame) == tuple(own.shape[2:])
    assert_close(signal.window, maps)


@pytest.mark.parametrize("border", ["valid", "full", "infinite"])
def test_an_average_over_the_whole_frame_is_global(border: str) -> None:
    """How older models end: an average pool as large as the last map. It means the global average and is not slid."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv = nn.Conv2d(3, 4, 3, padding=1, dtype=torch.float64)
    images = torch.randn(2, 3, 7, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.inference_mode():
        one, other = (
            bl.convert(nn.Sequential(conv, pool, nn.Flatten()), border)(images)
            for pool in (nn.AvgPool2d((7, 8)), nn.AdaptiveAvgPool2d(1))
        )
    assert_close(one, other)


@pytest.mark.parametrize("border", ["valid", "zero", "reflect", "circular", "full", "infinite"])
def test_padding_given_as_a_word_means_the_same_numbers(border: str) -> None:
    """`padding="same"` with an even kernel pads one cell more at the end; with an odd one it is an ordinary padding."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        word = nn.Conv2d(3, 4, (3, 5), padding="same", dilation=(2, 1), dtype=torch.float64)
    number = nn.Conv2d(3, 4, (3, 5), padding=(2, 2), dilation=(2, 1), dtype=torch.float64)
    number.load_state_dict(word.state_dict())
    images = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.inference_mode():
        one, other = (bl.convert(model, border, output="signal")(images) for model in (word, number))
    assert tuple(one.start) == tuple(other.start) and tuple(one.frame) == tuple(other.frame)
    assert_close(one.window, other.window)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # PyTorch's own
def test_an_even_kernel_with_same_padding_pads_one_more_at_the_end() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        operation = nn.Conv1d(3, 4, 4, padding=1, dtype=torch.float64)
        word = nn.Conv1d(3, 4, 4, padding="same", dtype=torch.float64)
    word.load_state_dict(operation.state_dict())
    images = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.inference_mode():
        expected = operation(F.pad(images, [0, 1]))
        assert_close(bl.convert(word, "zero")(images), expected)
        signal = bl.convert(word, "infinite", output="signal")(images)
    assert tuple(signal.frame) == (9,)
    assert tuple(signal.start) == (-2,)
    assert signal.window.shape == (2, 4, 12)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_a_layers_own_padding_mode_adds_nothing_to_an_endless_plane(mode: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        zeros = nn.Conv2d(3, 4, 3, stride=2, padding=1, dtype=torch.float64)
    other = nn.Conv2d(3, 4, 3, stride=2, padding=1, padding_mode=mode, dtype=torch.float64)
    other.load_state_dict(zeros.state_dict())
    images = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.inference_mode():
        one, two = (bl.convert(model, "infinite", output="signal")(images) for model in (zeros, other))
    assert tuple(one.start) == tuple(two.start) and tuple(one.frame) == tuple(two.frame)
    assert_close(two.window, one.window)
