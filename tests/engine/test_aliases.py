"""What is written to a map in place, every alias of it shows: random programs of views and in-place operations.

Oracle: the same program, unmodified, on a hugely padded image. Every program ends in wide kernels, which read what lies
around the windows.
"""

import weakref
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import borderless as bl
from support.endless_plane import on_a_huge_canvas

SAMPLES, CHANNELS, SIZE = 2, 4, (5, 6)
PADDING_PX = 36


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def images() -> Tensor:
    return noise(SAMPLES, 3, *SIZE)


def crop(t: Tensor, axes: tuple[int, int]) -> Tensor:
    return t[tuple(slice(1, None) if axis in axes else slice(None) for axis in range(t.ndim))]


def every_other(t: Tensor, first: int) -> Tensor:
    return t[:, first::2] if t.shape[1] > 2 else t


# Each takes a map (N, …, H, W) or (N, H, W, C) and a number to choose with, and gives a view, a copy or the map itself;
# None: this map has no such view.
VIEWS: dict[str, Callable[[Tensor, int], Tensor | None]] = {
    "the map": lambda t, k: t,
    "everything": lambda t, k: t[:],
    "slice": lambda t, k: t[:, k % t.shape[1] :],
    "slice to": lambda t, k: t[:, : k % t.shape[1] + 1],
    "every other": lambda t, k: every_other(t, k % 2),
    "select": lambda t, k: t[:, k % t.shape[1]] if t.ndim > 4 else None,
    "samples": lambda t, k: t[k % len(t) :],
    "chunk": lambda t, k: t.chunk(2, 1)[-(k % 2)],
    "split": lambda t, k: t.split(1 + k % 2, dim=1)[k % 2 if t.shape[1] > 2 else 0],
    "unbind": lambda t, k: t.unbind(1)[k % t.shape[1]] if t.ndim > 4 else None,
    "groups": lambda t, k: t.view(len(t), 2, -1, *t.shape[2:]) if t.ndim == 4 and t.shape[1] % 2 == 0 else None,
    "unflatten": lambda t, k: t.unflatten(1, (-1, 1)) if t.ndim == 4 else None,
    "reshape": lambda t, k: t.reshape(len(t), -1, 1, *t.shape[2:]) if t.ndim == 4 else None,
    "flatten": lambda t, k: t.flatten(1, 2) if t.ndim > 4 else None,
    "merge": lambda t, k: t.reshape(len(t), -1, *t.shape[3:]) if t.ndim > 4 else None,
    "samples and channels": lambda t, k: t.view(-1, 1, *t.shape[-2:]) if t.is_contiguous() and t.ndim == 4 else None,
    "unsqueeze": lambda t, k: t.unsqueeze(1) if t.ndim == 4 else None,
    "squeeze": lambda t, k: t.squeeze(1) if t.ndim > 4 else None,
    "transpose": lambda t, k: t.transpose(1, 2) if t.ndim > 4 else None,
    "movedim": lambda t, k: t.movedim(2, 1) if t.ndim > 4 else None,
    "detach": lambda t, k: t.detach(),
    "expand": lambda t, k: t.expand(-1, 3, *[-1] * (t.ndim - 2)) if t.shape[1] == 1 else None,
    "contiguous": lambda t, k: t.contiguous(),
    "to": lambda t, k: t.to(torch.float64),
    "to, by name": lambda t, k: t.to(dtype=t.dtype),
    "double": lambda t, k: t.double(),
    "type_as": lambda t, k: t.type_as(t),
    "clone": lambda t, k: t.clone(),
    "crop": lambda t, k: t[..., 1:, 1:],
    "crop and uncrop": lambda t, k: F.pad(t[..., 1:-1, :], (0, 0, 1, 1)) if t.ndim == 4 else None,
    "pad by nothing": lambda t, k: F.pad(t, (0, 0, 0, 0)) if t.ndim == 4 else None,
}


def wider(t: Tensor) -> Tensor:
    """A map of the same shape that reaches a cell further."""
    cells = t.reshape(-1, 1, *t.shape[-2:]) if t.ndim == 4 else t
    if cells.ndim > 4:
        return t * 0.5
    return F.conv2d(cells, noise(1, 1, 3, 3, seed=3), padding=1).reshape(t.shape)


def gates(t: Tensor) -> Tensor:
    return noise(len(t), *[1] * (t.ndim - 1), seed=4)


CHANGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relu_": lambda t, other: F.relu_(t),
    "relu inplace": lambda t, other: F.relu(t, inplace=True),
    "add a number": lambda t, other: t.add_(0.7),
    "+= a number": lambda t, other: t.__iadd__(-0.3),
    "a gate for each sample": lambda t, other: t.mul_(gates(t)),
    "+= another": lambda t, other: t.add_(other * 0.5) if other.shape == t.shape else t.sub_(t * 0.25),
    "-= another": lambda t, other: t.sub_(other * 2.0) if other.shape == t.shape else t.neg_(),
    "+= a wider map": lambda t, other: t.add_(wider(t)),
    "*= a wider map": lambda t, other: t.mul_(wider(t)),
}
Step = tuple[str, int, int]  # what, on which map, and a number to choose with
Program = tuple[list[Step], list[int]]  # and the maps that are read at the end


class Runs(nn.Module):
    """Two maps of different width, then a program on them; the maps that it reads, after a wide kernel."""

    def __init__(self, program: Program, bias: bool = True) -> None:
        super().__init__()
        self.steps, self.reads = program
        self.first = nn.Conv2d(3, CHANNELS, 3, padding=1, bias=bias, dtype=torch.float64)
        self.second = nn.Conv2d(3, CHANNELS, 5, padding=2, bias=bias, dtype=torch.float64)
        for i, parameter in enumerate(self.parameters()):
            parameter.data = noise(*parameter.shape, seed=i)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [self.first(x), self.second(x)]
        for what, which, k in self.steps:
            chosen = maps[which % len(maps)]
            if what in CHANGES:
                CHANGES[what](chosen, maps[k % len(maps)])
            elif (view := VIEWS[what](chosen, k)) is not None:
                maps.append(view)
        return [wide(maps[i % len(maps)]) for i in self.reads]


def wide(t: Tensor) -> Tensor:
    t = t.flatten(1, -3)
    return F.conv2d(t, noise(2, t.shape[1], 9, 9, seed=5), padding=4)


def compare(got: bl.Signal, huge: Tensor) -> None:
    """The window, and what lies around it, with the hugely padded model."""
    rows, columns = (slice(a + PADDING_PX, b + PADDING_PX) for a, b in got.box)
    expected = huge[..., rows, columns]
    assert not expected.isnan().any(), "the canvas is too small"
    largest = max(1.0, float(expected.abs().max()))
    assert expected.shape == got.window.shape
    assert (got.window - expected).abs().max() <= 1e-10 * largest
    if got.background is not None:
        beyond = huge.clone()
        beyond[..., rows, columns] = torch.nan
        beyond = (beyond - got.background).nan_to_num(0.0)
        assert beyond.abs().max() <= 1e-10 * largest


steps = st.tuples(
    st.one_of(st.sampled_from(list(VIEWS)), st.sampled_from(list(CHANGES))), st.integers(0, 9), st.integers(0, 9)
)
programs = st.tuples(
    st.lists(steps, min_size=4, max_size=10), st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True)
)


def count(check: Callable[[Program], str | None], max_examples: int) -> Counter[str]:
    """How many random programs came out right ("exact"), how many were refused by name, and what else `check` says."""
    seen: Counter[str] = Counter()

    @settings(max_examples=max(max_examples, settings.default.max_examples * (max_examples > 100)))
    @given(programs)
    def run(program: Program) -> None:
        try:
            result = check(program) or "exact"
        except bl.errors.UnsupportedOperation as error:
            if "its values are unknown since then" not in str(error):
                raise
            result = "refused by name"
        seen[result] += 1

    run()
    print(dict(seen))
    return seen


def without(program: Program, *words: str) -> Program:
    return [step for step in program[0] if not any(word in step[0] for word in words)], program[1]


def is_exact(program: Program, border: str = "infinite") -> str | None:
    if border == "full":  # which pads with 0: it is `infinite` where a background stays 0
        program = without(program, "number")
    elif border == "circular":
        program = without(program, "crop", "pad")
    model = Runs(program, bias=border != "full")
    try:
        with torch.no_grad():
            if border == "zero":
                expected = model(images())
            elif border == "circular":
                expected = model(images().repeat(1, 1, 13, 13))
            else:
                expected = on_a_huge_canvas(model, images(), PADDING_PX, 1)
    except RuntimeError:  # an expanded tensor is written to, say
        return "refused by PyTorch"
    with torch.no_grad():
        signals = bl.convert(model, border, output="signal")(images())
    for got, huge in zip(signals, expected, strict=True):
        if border == "circular":
            huge = huge[..., 6 * SIZE[0] : 7 * SIZE[0], 6 * SIZE[1] : 7 * SIZE[1]]
        if border in ("zero", "circular"):
            assert (got.crop() - huge).abs().max() <= 1e-10 * max(1.0, float(huge.abs().max()))
        else:
            compare(got, huge)
    return None


def test_random_programs_are_exact_under_infinite() -> None:
    seen = count(is_exact, 200)
    assert seen["exact"] > 4 * seen["refused by name"]


@pytest.mark.parametrize("border", ["zero", "full", "circular"])
def test_random_programs_are_exact_under_other_borders(border: str) -> None:
    seen = count(partial(is_exact, border=border), 40)
    assert seen["exact"] > 4 * seen["refused by name"]
    assert border != "zero" or not seen["refused by name"]


def apart(model: nn.Module, image: Tensor, other: Tensor, way: str) -> list[Tensor]:
    """The output for `image`, in parts or in one batch with another image."""
    if way == "batch":
        return [maps[0][None] for maps in bl.batched(model, [image[0], other])]
    if way == "tiles":
        return bl.tile(model, image, tile=3)
    stream = bl.Stream(model, axis=3)
    pieces = [stream.push(image[..., :2]), stream.push(image[..., 2:], last=True)]
    return [torch.cat(pair, 3) for pair in zip(*pieces, strict=True)]


def is_exact_apart(program: Program, way: str) -> str | None:
    """In parts or in one batch with an image of another size: as whole and alone."""
    program = without(program, "samples")  # which no batch of unequal images may mix
    for border in (None, "infinite"):
        model = Runs(program).eval() if border is None else bl.convert(Runs(program).eval(), border)
        image, other = images()[:1], noise(3, 4, 8, seed=7)
        with torch.no_grad():
            try:
                wholes = model(image)
            except (RuntimeError, bl.errors.ImageError):  # as above, or nothing is left of a map
                return "refused by PyTorch"
            try:
                found = apart(model, image, other, way)
            except bl.errors.UnsupportedOperation:
                return "refused by name"
        for got, whole in zip(found, wholes, strict=True):
            assert (got - whole).abs().max() <= 1e-10 * max(1.0, float(whole.abs().max())), border
    return None


@pytest.mark.parametrize("way", ["tiles", "stream", "batch"])
def test_random_programs_are_exact_in_parts_and_in_batches(way: str) -> None:
    seen = count(partial(is_exact_apart, way=way), 60)
    assert seen["exact"] > seen["refused by name"]


def has_exact_gradients(program: Program) -> str | None:
    """Of the parameters, for the cells of the windows, each with a weight of its own."""
    program = without(
        program, "chunk", "split", "unbind"
    )  # which PyTorch lets nobody change where gradients are wanted
    model = Runs(program)
    converted = bl.convert(model, "infinite", output="signal")
    try:
        expected = model(F.pad(images(), [PADDING_PX] * 4))
    except RuntimeError:
        return "refused by PyTorch"
    got = converted(images())
    loss = expected_loss = torch.zeros((), dtype=torch.float64)
    for signal, huge in zip(got, expected, strict=True):
        rows, columns = (slice(a + PADDING_PX, b + PADDING_PX) for a, b in signal.box)
        weights = noise(*signal.window.shape)
        loss = loss + (signal.window * weights).sum()
        expected_loss = expected_loss + (huge[..., rows, columns] * weights).sum()
    try:
        expected_gradients = torch.autograd.grad(expected_loss, list(model.parameters()), allow_unused=True)
    except RuntimeError:
        return "refused by PyTorch"
    gradients = torch.autograd.grad(loss, list(converted.parameters()), allow_unused=True)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        wanted = torch.zeros(()) if wanted is None else wanted
        gradient = torch.zeros(()) if gradient is None else gradient
        assert (gradient - wanted).abs().max() <= 1e-10 * max(1.0, float(wanted.abs().max()))
    return None


def test_random_programs_have_exact_gradients() -> None:
    seen = count(has_exact_gradients, 60)
    assert seen["exact"] > 2 * seen["refused by name"]
    assert seen["exact"] >= 20, "no power: PyTorch itself refuses about half, whose saved tensors were changed"


Body = Callable[[Tensor, Tensor], Tensor]


class Net(nn.Module):
    """Two maps, the second one wider, then `body`, then a wide kernel."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(3, 4, k, padding=k // 2, dtype=torch.float64) for k in (3, 5))
        self.last = nn.Conv2d(4, 2, 9, padding=4, dtype=torch.float64)
        self.body = body
        for i, parameter in enumerate(self.parameters()):
            parameter.data = noise(*parameter.shape, seed=i)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(self.first(x), self.second(x)))


def a_part_grows(y: Tensor, w: Tensor) -> Tensor:
    y[:, :2].add_(w[:, 1:3])
    return y


def the_whole_grows(y: Tensor, w: Tensor) -> Tensor:
    part = y.view(len(y), 2, 2, *y.shape[2:])[:, 0]
    y += w
    return torch.cat([part, part.relu()], 1)


def a_gate_for_each_sample(y: Tensor, w: Tensor) -> Tensor:
    y.permute(0, 2, 3, 1).unflatten(3, (2, 2))[..., 1, :].mul_(gates(y))
    return y


def siblings_overlap(y: Tensor, w: Tensor) -> Tensor:
    left, right = y[:, :3], y[:, 1:]
    del y
    left.relu_()
    return torch.cat([left[:, :1], right], 1)


def dropped_in_place(y: Tensor, w: Tensor) -> Tensor:
    F.dropout(y[:, :2], 1.0, training=True, inplace=True)
    return y + F.dropout(w, training=False, inplace=True)


BODIES = [a_part_grows, the_whole_grows, a_gate_for_each_sample, siblings_overlap]


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("mode", ["no_grad", "grad", "inference", "frozen", "placed"])
def test_an_in_place_operation_reaches_every_alias(body: Body, mode: str) -> None:
    model = Net(body)
    expected = on_a_huge_canvas(model, images(), 16, 1)[..., 16:-16, 16:-16]
    if mode == "frozen":
        if torch.__version__ < "2.9":
            pytest.skip("its export turns slices into a function without a rule, so they are refused by name")
        got = bl.freeze(bl.convert(model, "infinite"), images()).module()(images())
    elif mode == "placed":  # on a canvas of zeros, with the original padding
        canvas = F.pad(images(), (2, 9, 3, 9))
        expected = model(canvas)
        got = bl.place(model.eval(), images()[:1], [(3, 2)], canvas=canvas.shape[2:])[0]
        expected = expected[:1]
    else:
        context = {"no_grad": torch.no_grad, "grad": torch.enable_grad, "inference": torch.inference_mode}[mode]
        with context():
            got = bl.convert(model, "infinite")(images())
    assert (got - expected).abs().max() <= 1e-10 * expected.abs().max()


def test_dropout_in_place_reaches_the_map_that_it_is_a_part_of() -> None:
    signal = bl.convert(Net(dropped_in_place), "infinite", output="signal")(images())
    assert signal.frame == SIZE


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (lambda y, w: [F.relu_(y.contiguous()), y][1], r"through torch.Tensor.contiguous, .*torch.relu_ "),
        (lambda y, w: [F.relu_(y[..., 1:, :]), y][1], r"through torch.Tensor.__getitem__, .*torch.relu_ "),
        (
            lambda y, w: [y.view(2, 2, 2, *SIZE).flatten(1, 2).neg_(), y][1],
            r"through torch.Tensor.flatten, .*Tensor.neg_ ",
        ),
    ],
)
def test_what_may_be_a_view_or_a_copy_is_refused_where_it_matters(body: Body, text: str) -> None:
    model = bl.convert(nn.Sequential(Net(body)), "infinite")
    with pytest.raises(bl.errors.UnsupportedOperation, match=text) as raised:
        model(images())
    assert "in module '0' (Net)" in str(raised.value)
    assert ".clone()" in str(raised.value)


def test_what_may_be_a_view_goes_on_where_nobody_reads_the_other() -> None:
    model = Net(lambda y, w: F.relu_(y.contiguous()[..., 1:, 1:].add_(1.0)))
    expected = on_a_huge_canvas(model, images(), 16, 1)
    got = bl.convert(model, "infinite", output="signal")(images())
    rows, columns = (slice(a + 16, b + 16) for a, b in got.box)
    assert (got.window - expected[..., rows, columns]).abs().max() <= 1e-10


def test_changing_nothing_gives_the_very_same_map() -> None:
    def body(y: Tensor, w: Tensor) -> Tensor:
        same = [y.to(y.dtype), y.to("cpu"), y.to(w), y.double(), y.type(torch.float64), y.type_as(w), y.cpu()]
        assert all(other is y for other in same)
        assert y.to(y.dtype, copy=True) is not y
        assert y.requires_grad_() is y
        assert y.type() == "torch.DoubleTensor"
        return y

    bl.convert(Net(body), "infinite")(images())


def test_views_do_not_keep_maps_alive() -> None:
    def body(y: Tensor, w: Tensor) -> Tensor:
        views = [y[:, i:] for i in range(4)]
        gone = [weakref.ref(view) for view in views]
        del views
        assert all(ref() is None for ref in gone)
        for _ in range(200):
            y[:, :1]
        assert len(y.memory.maps) <= 8, "the dead are forgotten"
        part, base = y[:, :1], weakref.ref(y)
        del y
        assert base() is None
        part.add_(1)
        assert part.memory is None, "nobody shares it any more"
        return w

    bl.convert(Net(body), "infinite")(images())


def test_a_change_without_gradients_leaves_those_of_the_rest() -> None:
    def body(y: Tensor, w: Tensor) -> Tensor:
        with torch.no_grad():
            y[:, :2].mul_(2.0)
        return y

    model = Net(body)
    converted = bl.convert(model, "infinite")
    model(F.pad(images(), [16] * 4))[..., 16:-16, 16:-16].sum().backward()
    converted(images()).sum().backward()
    for wanted, got in zip(model.parameters(), converted.parameters(), strict=True):
        assert wanted.grad is None or (got.grad - wanted.grad).abs().max() <= 1e-10 * wanted.grad.abs().max()


def test_padding_by_less_than_nothing_copies() -> None:
    """Under `valid`, where a crop is a part of the window, and not only renumbers it."""

    class Crops(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = x * 1
            return x, F.pad(x, (-1, -1, -1, -1)).mul_(0)

    whole, cropped = bl.convert(Crops(), "valid", output="signal")(images())
    assert torch.equal(whole.window, images())
    assert not cropped.window.any()
