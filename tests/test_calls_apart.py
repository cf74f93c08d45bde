"""What models call, each in a small network: in tiles, as a stream, and in a batch of unequal images as on the whole.

Each way gives the whole's output under each border, or refuses by name: never another number, an error from deep
inside, or a tensor as long as an open stream.
"""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import borderless as bl
from support.calls import CALLS, calls_under, noise


def in_tiles(model: nn.Module, image: Tensor) -> Tensor:
    return bl.tile(model, image, tile=(5, 4))


def in_a_region(model: nn.Module, image: Tensor) -> Tensor:
    """Two halves, side by side."""
    height, width = image.shape[2:]
    halves = [bl.region(model, image, [(0, height), along]) for along in ((0, 7), (7, width))]
    return torch.cat(halves, 3)


def as_a_stream(axis: int, is_open: bool) -> Callable[[nn.Module, Tensor], Tensor]:
    def run(model: nn.Module, image: Tensor) -> Tensor:
        length = image.shape[axis]
        stream = bl.Stream(model, axis=axis, length=None if is_open else length)
        chunks = image.split([3, 1, length - 4], axis)
        found = [stream.push(chunk, last=i == 2) for i, chunk in enumerate(chunks)]
        return torch.cat(found, axis) if found[0].ndim == 4 else found[-1]

    return run


def in_a_batch(model: nn.Module, image: Tensor) -> Tensor:
    return bl.batched(model, [noise(1, 9, 14, seed=3), image[0], noise(1, 15, 8, seed=4)])[1][None]


WAYS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "tiles": in_tiles,
    "regions": in_a_region,
    "rows": as_a_stream(2, is_open=False),
    "columns": as_a_stream(3, is_open=False),
    "open rows": as_a_stream(2, is_open=True),
    "open columns": as_a_stream(3, is_open=True),
    "batch": in_a_batch,
}


EVERYWHERE = frozenset(WAYS)
OPEN = frozenset(["open rows", "open columns"])
ONE_BY_ONE = frozenset(["regions", "rows", "columns", *OPEN])  # no part knows of the others
# The ways that refuse a call under all borders: it reads the whole map, a length that is open, or absolute positions.
REFUSED: dict[str, frozenset[str]] = {
    **dict.fromkeys(["GeM", "the mean of a pool as large as the map", "a maximum as large as the map"], ONE_BY_ONE),
    **dict.fromkeys(["mean", "sum", "less the mean", "over the spread", "less the largest"], ONE_BY_ONE),
    **dict.fromkeys(["squeeze and excite", "coordinate attention", "plus its mirror", "each cell twice"], ONE_BY_ONE),
    "rows' means": frozenset(["regions", "columns", "open columns"]),
    "columns' maxima": frozenset(["regions", "rows", "open rows"]),
    **dict.fromkeys(["a pool as large as the map", "area, half", "down and up", "another channel"], OPEN),
    **dict.fromkeys(["over the width", "by the width's parity", "over the root of the width"], OPEN - {"open rows"}),
    "over the root of the width, as a number": frozenset(["open columns", "batch"]),
    "a small map pooled": frozenset(["batch"]),
    "a view": ONE_BY_ONE | {"tiles"},
    **dict.fromkeys(
        ["a row set", "a transposed slice times", "rows plus", "first rows plus", "the first column before"], EVERYWHERE
    ),
    **dict.fromkeys(["along the width", "gather", "take"], EVERYWHERE),
}


def outcome(model: nn.Module, image: Tensor, run: Callable[[nn.Module, Tensor], Tensor]) -> str:
    """What comes of running `model` another way: equal, refused (by name), or impossible on the whole."""
    with torch.no_grad():
        try:
            whole = model(image)
        except (bl.errors.BorderlessError, RuntimeError):
            return "impossible"
        try:
            found = run(model, image)
        except bl.errors.BorderlessError:
            return "refused"
    assert found.shape == whole.shape
    assert whole.isfinite().all()
    assert (found - whole).abs().max() <= 1e-10 * whole.abs().max()
    return "equal"


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.filterwarnings("ignore")
def test_a_call_gives_what_it_gives_on_the_whole(name: str) -> None:
    seen: Counter[str] = Counter()
    for model, image in calls_under(name):
        seen.update(f"{way} {outcome(model, image, run)}" for way, run in WAYS.items())
    equal = {way for way in WAYS if seen[f"{way} equal"]}
    assert equal == EVERYWHERE - REFUSED.get(name, frozenset()), seen


@pytest.mark.parametrize("name", ["channels times", "where a mask", "a pool as large as the map", "cut and padded"])
@pytest.mark.filterwarnings("ignore")
def test_gradients_of_parts_add_up_to_those_of_the_whole(name: str) -> None:
    for model, image in calls_under(name):
        parameters = list(model.parameters())
        try:
            whole = model(image)
        except bl.errors.ImageError:  # `valid` leaves no frame
            continue
        weights = noise(*whole.shape, seed=9)
        expected = torch.autograd.grad((whole * weights).sum(), parameters)
        for part in bl.parts(model, image, tile=6):
            cells = weights[(..., *(slice(a, b) for a, b in part.box))]
            (part.output * cells).sum().backward()
        for parameter, gradient in zip(parameters, expected, strict=True):
            assert parameter.grad is not None
            assert (parameter.grad - gradient).abs().max() <= 1e-10 * gradient.abs().max()
