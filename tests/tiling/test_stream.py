"""Chunk after chunk equals the whole: networks of audio, video and rows, in any chunks, and what is decided when."""

import random
from collections.abc import Callable
from math import ceil
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
from borderless.engine.torch_internals import tree_leaves
from tiling.stream_networks import Demucs, Seanet, UNet, Video, Wavenet, made

EXACT = 1e-12


class Case(NamedTuple):
    """A network, the sizes of its input, the axis of the stream, the most samples a chunk has, and its latency.

    is_open: whether it streams without knowing the length.
    """

    model: Callable[[], nn.Module]
    sizes: tuple[int, ...]
    axis: int
    most: int
    latency: int
    is_open: bool = True


# The receptive fields are larger than the chunks, and the inputs larger than the receptive fields.
CASES = {
    "demucs": Case(Demucs, (2, 1, 341), -1, 40, 55),
    "seanet, causal": Case(Seanet, (1, 1, 328), -1, 40, 9),
    "seanet": Case(lambda: Seanet(is_causal=False), (2, 1, 331), -1, 40, 23),
    "wavenet": Case(lambda: Wavenet(2), (1, 1, 400), -1, 150, 0),
    "video, causal": Case(lambda: Video(True), (1, 2, 14, 8, 10), 2, 4, 0),
    "video": Case(lambda: Video(False), (2, 2, 14, 8, 10), -3, 4, 2),
    "rows, transposed": Case(UNet, (1, 3, 51, 21), -2, 9, 13),
    "rows, reflect": Case(lambda: UNet(mode="reflect"), (1, 3, 51, 21), 2, 9, 13),
    "rows, replicate": Case(lambda: UNet(mode="replicate"), (1, 3, 50, 21), 2, 9, 13),
    "rows, bilinear": Case(lambda: UNet("bilinear"), (1, 3, 51, 21), 2, 9, 16, is_open=False),
    "rows, nearest": Case(lambda: UNet("nearest"), (1, 3, 49, 21), 2, 9, 12, is_open=False),
    "columns": Case(UNet, (1, 3, 22, 43), -1, 9, 13),
    "full": Case(lambda: bl.convert(UNet(), "full"), (1, 3, 43, 21), -2, 9, 13),
    "infinite": Case(lambda: bl.convert(UNet(), bl.Border("infinite", background=0.5)), (1, 3, 43, 21), -2, 9, 13),
    "converted to reflect": Case(lambda: bl.convert(UNet(), "reflect"), (1, 3, 43, 21), -2, 9, 13),
}
OPEN = [name for name, case in CASES.items() if case.is_open]


def drawn(sizes: tuple[int, ...], seed: int = 1) -> Tensor:
    return torch.randn(sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def plan(n: int, most: int, draw: random.Random) -> list[int]:
    sizes = []
    while n:
        sizes.append(draw.randint(1, min(most, n)))
        n -= sizes[-1]
    return sizes


def joined(given: list[Any], whole: Any) -> list[Tensor]:
    """The outputs of all chunks, each joined along the axis on which they differ from the whole."""
    found = []
    for parts, expected in zip(zip(*map(tree_leaves, given), strict=True), tree_leaves(whole), strict=True):
        total = {axis: sum(part.shape[axis] for part in parts) for axis in range(expected.ndim)}
        axis = next((a for a, n in total.items() if n == expected.shape[a] and a > 1), None)
        assert axis is not None, (total, expected.shape)
        found.append(torch.cat(parts, axis))
    return found


def check(model: nn.Module, x: Tensor, axis: int, sizes: list[int], *, is_open: bool) -> bl.Stream:
    stream = bl.Stream(model, axis=axis, length=None if is_open else x.shape[axis])
    given = [stream.push(part, i == len(sizes) - 1) for i, part in enumerate(x.split(sizes, axis))]
    with torch.no_grad():
        whole = model(x)
    for got, expected in zip(joined(given, whole), tree_leaves(whole), strict=True):
        assert got.shape == expected.shape and got.dtype == expected.dtype
        assert (got - expected).abs().max() <= EXACT * expected.abs().max()
    return stream


@pytest.mark.parametrize("name", CASES)
def test_any_chunks_equal_the_whole(name: str) -> None:
    case, draw = CASES[name], random.Random(name)
    model, x = made(case.model()), drawn(case.sizes)
    for is_open in (False, True)[: 1 + case.is_open]:
        stream = check(model, x, case.axis, plan(x.shape[case.axis], case.most, draw), is_open=is_open)
        assert stream.latency == case.latency


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(2, 14))])
@pytest.mark.parametrize("name", CASES)
def test_many_plans_equal_the_whole(name: str, seed: int) -> None:
    case, draw = CASES[name], random.Random(f"{name} {seed}")
    model, sizes = made(case.model(), seed), list(case.sizes)
    sizes[case.axis] -= draw.randint(0, 9)
    x = drawn(tuple(sizes), seed)
    n = x.shape[case.axis]
    if n % 8 and name == "seanet, causal":  # shorter than its input by what the strides leave
        x, n = x[..., : n // 8 * 8], n // 8 * 8
    most = draw.choice([1, 2, 5, case.most, n])
    check(model, x, case.axis, plan(n, most, draw), is_open=case.is_open and bool(seed % 2))


class Chain(nn.Module):
    """Operations of all kinds, one after the other."""

    def __init__(self, kinds: list[tuple[str, int, int]]) -> None:
        super().__init__()
        self.kinds = kinds
        self.convs = nn.ModuleDict()
        for i, (kind, size, stride) in enumerate(kinds):
            options = {"padding": size // 2, "padding_mode": kind} if kind in ("zeros", "reflect", "replicate") else {}
            if kind == "transposed":
                self.convs[str(i)] = nn.ConvTranspose1d(2, 2, size + stride, stride, padding=size // 2)
            elif kind != "pool" and kind != "linear":
                self.convs[str(i)] = nn.Conv1d(2, 2, size, stride, **options)

    def forward(self, x: Tensor) -> Tensor:
        for i, (kind, size, stride) in enumerate(self.kinds):
            if kind == "causal":
                x = F.pad(x, (size - 1, 0))
            if kind == "pool":
                x = F.max_pool1d(x, size, stride, ceil_mode=True)
            elif kind == "linear":
                x = F.interpolate(x, scale_factor=(1.0, 1.5, 2.0)[stride % 3], mode="linear")
            else:
                x = x + torch.tanh(x) if stride == 1 else x
                x = self.convs[str(i)](x)
        return x


@settings(max_examples=8)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["zeros", "reflect", "replicate", "causal", "transposed", "pool", "linear"]),
            st.integers(1, 5),
            st.integers(1, 3),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 1000),
    st.booleans(),
)
def test_any_chain(kinds: list[tuple[str, int, int]], seed: int, is_open: bool) -> None:
    model, x, draw = made(Chain(kinds), seed), drawn((1, 2, 61)), random.Random(seed)
    try:
        model(x)
    except RuntimeError:  # too short for what is left of it
        return
    check(model, x, -1, plan(61, draw.choice([8, 20, 40]), draw), is_open=is_open)


def known(model: nn.Module, x: Tensor, axis: int, samples: int) -> int:
    """How many outputs from the first on depend on none but the first `samples`: what comes after is NaN."""
    hidden = x.clone()
    hidden.narrow(axis, samples, x.shape[axis] - samples).fill_(torch.nan)
    with torch.no_grad():
        found = model(hidden).movedim(axis, 0).flatten(1).isnan().any(1)
    return int(found.to(torch.int).argmax()) if bool(found.any()) else len(found)


@pytest.mark.parametrize("name", ["demucs", "seanet, causal", "seanet", "wavenet", "rows, reflect", "rows, bilinear"])
def test_all_that_is_decided_comes_and_the_latency_is_exact(name: str) -> None:
    case, draw = CASES[name], random.Random(name)
    model, x = made(case.model()), drawn((1, *case.sizes[1:]))
    n = x.shape[case.axis]
    stream = bl.Stream(model, axis=case.axis, length=None if case.is_open else n)
    at = come = late = 0
    for size in [1, *plan(n - 1, n // 4, draw)]:
        if at + size == n:
            break
        at += size
        come += stream.push(x.narrow(case.axis, at - size, size)).shape[case.axis]
        assert come == known(model, x, case.axis, at)
        assert come >= at - stream.latency
    for samples in range(min(n, 128)):  # what is missing after these comes with the next one at the earliest
        late = max(late, samples + 1 - (known(model, x, case.axis, samples) + 1))
    assert late == stream.latency == case.latency


def test_the_latency_of_strided_and_of_finer_outputs() -> None:
    coarse = nn.Conv1d(1, 1, 9, 4, padding=4)  # output j reads up to 4 j + 4, and is due after 4 j + 4 samples
    assert bl.Stream(coarse).prepare(torch.zeros(1, 1, 1)).latency == 1
    blocks = nn.Conv1d(1, 1, 4, 4)
    assert bl.Stream(blocks).prepare(torch.zeros(1, 1, 1)).latency == 0
    fine = nn.ConvTranspose1d(1, 1, 4, 4)
    assert bl.Stream(fine).prepare(torch.zeros(1, 1, 1)).latency == 0
    assert bl.Stream(nn.Sequential(blocks, fine)).prepare(torch.zeros(1, 1, 1)).latency == 3
    stretched = bl.Stream(nn.Upsample(scale_factor=1.5, mode="linear")).prepare(torch.zeros(1, 1, 1))
    assert stretched.latency == max(ceil((j + 0.5) / 1.5 - 0.5) + 1 - ceil((j + 1) / 1.5) for j in range(3, 30))
    late = bl.Stream(nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular"), length=20).prepare(torch.zeros(1, 1, 1))
    assert late.latency == 19


def test_each_output_has_a_latency() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.near, self.far = nn.Conv1d(1, 2, 3, padding=1), nn.Conv1d(1, 2, 9, padding=4)

        def forward(self, x: Tensor) -> dict[str, Any]:
            return {"near": self.near(x), "both": [self.far(x), self.near(x) + self.far(x)], "name": "two"}

    stream = bl.Stream(made(Two()))
    given = stream.push(drawn((1, 1, 10)))
    assert given["name"] == "two"
    assert [given["near"].shape[-1], *(part.shape[-1] for part in given["both"])] == [9, 6, 6]
    assert stream.latencies == {"near": 1, "both": [4, 4], "name": "two"} and stream.latency == 4
    given = stream.push(drawn((1, 1, 0)), last=True)
    assert [given["near"].shape, given["both"][0].shape] == [(1, 2, 1), (1, 2, 4)]


@pytest.mark.parametrize("name", ["demucs", "seanet, causal", "wavenet", "video", "rows, transposed"])
def test_what_is_kept_does_not_grow(name: str) -> None:
    case = CASES[name]
    model, x = made(case.model()), drawn((1, *case.sizes[1:]))
    stream, n = bl.Stream(model, axis=case.axis), x.shape[case.axis]
    size = -(-n // 16) * 16
    chunk = drawn(tuple(size if axis == case.axis % x.ndim else m for axis, m in enumerate(x.shape)))
    kept, outputs = [], []
    for _ in range(4):
        outputs.append(tree_leaves(stream.push(chunk))[0].shape[case.axis])
        kept.append((stream.nbytes, sum(len(s) for call in stream._progress.kept for s in call.starts)))
    assert kept[1] == kept[-1] and outputs[1] == outputs[-1] == size
    assert 0 < kept[-1][0] < 20 * chunk.nbytes


def test_memory_is_flat_over_a_hundred_times_the_length() -> None:
    model = made(nn.Sequential(nn.Conv1d(1, 2, 9, 4, padding=4), nn.ConvTranspose1d(2, 1, 8, 4)))
    stream, chunk = bl.Stream(model), drawn((1, 1, 48))
    kept = [stream.nbytes for _ in range(100) if stream.push(chunk) is not None]
    assert set(kept) == {kept[0]} and kept[0] > 0
    assert max(len(starts) for call in stream._progress.kept for starts in call.starts) <= 2


def test_an_empty_last_chunk_ends_a_stream() -> None:
    model, x = made(UNet(mode="reflect")), drawn((1, 3, 30, 9))
    stream = bl.Stream(model, axis=-2)
    given = [stream.push(x[:, :, :20]), stream.push(x[:, :, 20:]), stream.push(x[:, :, :0], last=True)]
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(given, 2), model(x), rtol=0, atol=1e-12)


def test_float32_and_half_of_the_batch() -> None:
    model, x = made(Demucs()).float(), drawn((3, 1, 341)).float()
    stream = bl.Stream(model)
    found = torch.cat([stream.push(part, i == 9) for i, part in enumerate(x.tensor_split(10, -1))], -1)
    with torch.no_grad():
        whole = model(x)
    assert (found - whole).abs().max() <= 1e-5 * whole.abs().max()


def test_reset_begins_another_stream_of_other_sizes() -> None:
    model, stream = made(Demucs()), bl.Stream(made(Demucs()))
    stream.push(drawn((2, 1, 50)))
    stream.reset()
    x = drawn((1, 1, 85), 2)
    found = torch.cat([stream.push(x[..., :50]), stream.push(x[..., 50:], last=True)], -1)
    assert stream.nbytes == 0
    with torch.no_grad():
        torch.testing.assert_close(found, model(x), rtol=0, atol=1e-12)


def test_the_model_is_left_as_it_is() -> None:
    model = bl.convert(made(Demucs()), "full")
    before, x = bl.border_of(model), drawn((1, 1, 85))
    with torch.no_grad():
        whole = model(x)
    chunk = x[..., :40].clone()
    bl.Stream(model).push(chunk)
    assert bl.border_of(model) == before and torch.equal(chunk, x[..., :40])
    with torch.no_grad():
        assert torch.equal(model(x), whole)


class AcrossWidth(nn.Module):
    """What reads rows whole, one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv1d(4, 2, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.first(x)
        grid = F.adaptive_avg_pool2d(x, (None, 3))
        return self.last(x.mean(3)), grid, F.interpolate(x, size=(x.shape[2], 29), mode="bilinear")


@pytest.mark.parametrize("is_open", [False, True])
def test_what_runs_over_other_axes_only(is_open: bool) -> None:
    check(made(AcrossWidth()), drawn((1, 3, 40, 20)), -2, [1, 1, 10, 3, 25], is_open=is_open)
