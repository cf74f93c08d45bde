"""The card of `bl.tiling`: margins as hand-written tilers need them, and costs as they are counted."""

import json
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import borderless as bl
from borderless.engine.torch_internals import tree_leaves
from borderless.partition.card import Tiling, tiling
from borderless.partition.cost import cost, whole_cost
from borderless.partition.parts import parts
from borderless.partition.plan import extents
from borderless.partition.record import record
from borderless.partition.runner import Grid, Runner
from borderless.partition.tile_size import HEADROOM, choose_tile, parts_cost, tile_cost
from support.part_networks import NETWORKS, random_network, settled

BY_HAND = ("transposed", "nearest", "bilinear", "shuffle", "reflect", "replicate", "pyramid", "resnet", "causal")


def image(*size: int) -> Tensor:
    return torch.randn(1, 1, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def by_hand(model: nn.Module, x: Tensor, tile: int, context: Any, known: Any) -> list[Tensor]:
    """Overlapping tiles, as one writes them by hand. `known`: how many pixels around a tile are no noise."""
    whole = [torch.full_like(leaf, torch.nan) for leaf in tree_leaves(model(x))]
    size = x.shape[2:]
    for top in range(0, size[0], tile):
        for left in range(0, size[1], tile):
            own = [(top, min(size[0], top + tile)), (left, min(size[1], left + tile))]
            cut = [(max(0, a - p), min(n, b + q)) for (a, b), (p, q), n in zip(own, context, size, strict=True)]
            seen = [(max(0, a - p), min(n, b + q)) for (a, b), (p, q), n in zip(own, known, size, strict=True)]
            pixels = 100 * torch.randn_like(x)
            where = (..., *(slice(*interval) for interval in seen))
            pixels[where] = x[where]
            made = tree_leaves(model(pixels[(..., *(slice(*interval) for interval in cut))]))
            for into, leaf in zip(whole, made, strict=True):
                steps = [n // m for n, m in zip(size, into.shape[2:], strict=True)]
                target = [slice(a // s, b // s) for (a, b), s in zip(own, steps, strict=True)]
                source = [
                    slice((a - first) // s, (b - first) // s)
                    for (a, b), (first, _), s in zip(own, cut, steps, strict=True)
                ]
                into[(..., *target)] = leaf[(..., *source)]
    return whole


def is_equal(model: nn.Module, x: Tensor, made: list[Tensor]) -> bool:
    pairs = zip(tree_leaves(model(x)), made, strict=True)
    return all(bool((a - b).abs().max() <= 1e-12 * a.abs().max()) for a, b in pairs)


@pytest.mark.parametrize("name", BY_HAND)
@torch.no_grad()
def test_margins_are_exact_to_the_pixel(name: str) -> None:
    model = settled(NETWORKS[name]())
    x = image(96, 80)
    card = tiling(model, x.shape[2:], tiles=())
    assert card.exact and card.by_hand is None and card.whole is not None
    step = card.total_stride[0]
    tile = step * max(1, 16 // step)
    assert is_equal(model, x, by_hand(model, x, tile, card.context, card.margins))
    for axis in range(2):
        for side in range(2):
            less = [list(pair) for pair in card.margins]
            assert less[axis][side] > 0
            less[axis][side] -= 1
            assert not is_equal(model, x, by_hand(model, x, tile, card.context, less)), (axis, side)
            shorter = [list(pair) for pair in card.context]
            shorter[axis][side] -= step
            assert not is_equal(model, x, by_hand(model, x, tile, shorter, card.context)), (axis, side)


@torch.no_grad()
def test_margins_of_an_asymmetric_network() -> None:
    """Rows above alone are read by the first layer, by the second one row above and two below."""
    card = tiling(settled(NETWORKS["causal"]()), (64, 64), tiles=())
    assert card.margins == ((5, 2), (2, 3)) and card.total_stride == (1, 1)


def counted(run: Callable[[], Any]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        run()
    return flops.get_total_flops() // 2


@pytest.mark.parametrize("name", NETWORKS)
def test_multiply_adds_are_those_that_are_counted(name: str) -> None:
    model, x = settled(NETWORKS[name]()), image(97, 83)
    recording = record(model, x.shape)
    assert whole_cost(recording).macs == counted(lambda: model(x))
    alone = parts(model, x, tile=(43, 31))
    assert parts_cost(recording, (43, 31)).macs == counted(lambda: list(alone))
    cuts = Grid.regular((97, 83), (33, 31)).cuts
    carried = counted(lambda: Runner(model).run(Grid(cuts), lambda box: crop(x, box), lambda *_: None))
    has_empty_parts = name in ("circular", "resnet")  # which run on a cell or two, to learn what their result is like
    assert cost(recording, cuts).macs == carried or (has_empty_parts and cost(recording, cuts).macs < carried)


def crop(x: Tensor, box: Any) -> Tensor:
    return x[(..., *(slice(a, b) for a, b in box))].clone()


@given(seed=st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_the_plan_knows_what_each_carried_part_gives(seed: int) -> None:
    rnd = random.Random(seed)
    torch.manual_seed(seed)
    model = settled(rnd.choice([random_network(rnd), *(NETWORKS[name]() for name in ("reflect", "corners"))]))
    x = image(rnd.randint(48, 64), rnd.randint(48, 64))
    ends = [sorted({0, n, *rnd.sample(range(1, n), 3)}) for n in x.shape[2:]]
    cuts = tuple(tuple(pairwise(along)) for along in ends)
    try:
        recording = record(model, x.shape)
    except RuntimeError:  # the image is too small
        return
    along = [extents(recording, axis, intervals) for axis, intervals in enumerate(cuts)]
    (output,) = recording.outputs
    places = iter(Grid(cuts).parts())

    def check(_: Any, made: Any) -> None:
        place, _ = next(places)
        expected = tuple(one.maps[output][i] for one, i in zip(along, place.index, strict=True))
        assert tuple(b - a for a, b in made.box) == tuple(b - a for a, b in expected)
        if all(a < b for a, b in expected):
            assert made.box == expected

    Runner(model).run(Grid(cuts), lambda box: crop(x, box), check)


class Live(TorchDispatchMode):
    """The most bytes of tensors that were in memory at once, among those that a run makes, without `image`."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image = StorageWeakRef(image.untyped_storage())
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.alive = {key: held for key, held in self.alive.items() if not held[0].expired()}
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                ref = StorageWeakRef(storage)
                if ref != self.image:
                    self.alive[ref.cdata] = ref, storage.nbytes()
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return made


@pytest.mark.parametrize("name", ["transposed", "bilinear", "reflect", "resnet", "pyramid"])
def test_memory_is_what_is_measured(name: str) -> None:
    """The whole, but for the indices of a maximum; tiles and strips within the headroom that `choose_tile` leaves."""
    model, x = settled(NETWORKS[name]()), image(160, 160)
    recording = record(model, x.shape)
    with torch.no_grad(), Live(x) as live:
        model(x.clone())
    expected = whole_cost(recording).memory
    assert expected <= live.peak <= (1.15 if name == "resnet" else 1) * expected
    for tile in ((32, 32), (48, 160)):
        with Live(x) as live:
            Runner(model).run(Grid.regular((160, 160), tile), lambda box: crop(x, box), lambda *_: None)
        expected = tile_cost(recording, tile).memory
        assert expected / HEADROOM <= live.peak <= HEADROOM * expected


def test_a_tile_for_a_bound_on_memory() -> None:
    model = NETWORKS["transposed"]().eval()
    shape = (1, 1, 2048, 2048)
    recording = record(model, shape)
    chosen = {}
    for memory in (10**12, 10**8, 10**7):
        tile = chosen[memory] = choose_tile(model, shape, memory)
        found = tile_cost(recording, tile)
        assert HEADROOM * (found.maps + found.rims) <= memory
    assert chosen[10**12] == (2048, 2048)
    assert chosen[10**8][0] > chosen[10**7][0]
    with pytest.raises(bl.ImageError, match=r"at least a tile of 16 × 16 pixels.*but got 1,000 bytes"):
        choose_tile(model, shape, 1000)


def test_the_card() -> None:
    card = tiling(NETWORKS["transposed"]().eval(), (8192, 8192))
    assert "equal to the whole" in card.summary
    text = str(card)
    assert "multiples of 4×4 pixels" in text and "8192×8192" in text and "512×512" in text
    told = json.loads(json.dumps(card.to_dict()))
    assert told["exact"] and told["margins"] == [list(pair) for pair in card.margins]
    assert told["tiles"][0]["tile"] == [128, 128]
    by_size = {one.tile: one for one in card.tiles}
    assert card.whole is not None
    assert by_size[512, 512].carried.macs <= 1.05 * card.whole.macs
    assert by_size[512, 512].carried.memory < card.whole.memory / 10
    alone = by_size[128, 128].macs_alone
    assert alone is not None and alone > 1.05 * card.whole.macs


def test_the_card_names_what_waits_for_all_tiles() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    card = tiling(model, (512, 512), tiles=(128,))
    assert card.exact and [one.module for one in card.gathers] == ["1"]
    assert card.by_hand is not None and "module '1' reads all of space" in card.by_hand
    assert card.margins == card.context == () and card.tiles[0].macs_alone is None
    assert card.tiles[0].carried.waiting > 0 and "wait" in str(card) and "1 times" in card.summary


def refused(model: nn.Module, size: tuple[int, ...] = (64, 64)) -> Tiling:
    card = tiling(model, size, channels=1)
    assert not card.exact and card.problem and card.problem in str(card) and card.problem in card.summary
    assert json.loads(json.dumps(card.to_dict()))["problem"] == card.problem
    return card


def test_the_card_names_what_prevents_tiles() -> None:
    class Gate(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if F.adaptive_avg_pool2d(x, 1).mean() > 0 else -x

    assert "module '0' (Gate)" in str(refused(nn.Sequential(Gate())).problem)
    assert "module '0' (BatchNorm2d) in training mode" in str(refused(nn.Sequential(nn.BatchNorm2d(1))).problem)
    adaptive = bl.convert(nn.Conv2d(1, 2, 3, 2), "infinite", phase="adaptive")
    assert "phase='adaptive'" in str(refused(adaptive).problem)
    flat = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear(62 * 62, 2)).eval()
    assert "torch.Tensor.flatten in module '1' (Flatten)" in str(refused(flat).problem)


@pytest.mark.parametrize("name", ["corners", "circular"])
def test_what_cannot_be_cut_by_hand_says_why(name: str) -> None:
    card = tiling(settled(NETWORKS[name]()), (64, 64))
    assert card.exact and card.by_hand is not None
    assert ("position in the image" if name == "corners" else "other end of the image") in card.by_hand
    assert "by hand         no: " in str(card)


def test_explain_tells_about_tiles() -> None:
    found = bl.explain(NETWORKS["transposed"]().eval(), (64, 64), "zero")
    assert found.tiling is not None and found.tiling.exact and f"tiles           {found.tiling.summary}" in str(found)
