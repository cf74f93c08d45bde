"""Objects placed on a canvas. Oracle: the same model on every canvas whole, one by one."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
from borderless.conversion import conversion_of
from borderless.models import load
from borderless.placement import schedule
from borderless.placement.replay import ReplayedSignal
from borderless.placement.switch import Arrangement, Arrangements
from support.networks import BATCH_NORMS, assert_same_state, network, patch, randomised, residual, state

CANVAS, OBJECT_PX = (120, 101), 30


def whole_canvases(
    model: nn.Module, patches: Tensor, positions: list[tuple[int, int]], canvas: Tensor, answer: Callable = lambda x: x
) -> Tensor:
    found = []
    for row, column in positions:
        images = canvas.repeat(len(patches), 1, 1, 1)
        height, width = patches.shape[2:]
        top, left = max(row, 0), max(column, 0)
        seen = patches[:, :, top - row : canvas.shape[1] - row, left - column : canvas.shape[2] - column]
        images[:, :, top : top + seen.shape[2], left : left + seen.shape[3]] = seen
        assert seen.shape[2] <= height and seen.shape[3] <= width and seen.numel() > 0
        with torch.no_grad():
            found.append(answer(model(images)))
    return torch.stack(found)


def color(value: float, dtype: torch.dtype, size: tuple[int, int] = CANVAS) -> Tensor:
    return torch.full((3, *size), value, dtype=dtype)


def photograph(seed: int, dtype: torch.dtype, size: tuple[int, int] = CANVAS) -> Tensor:
    return patch(max(size), seed, dtype)[:, : size[0], : size[1]]


def bagnet33() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return randomised(load("bagnet33"), 0)


ACCEPTED = ["resnet18", "resnet50", "densenet121", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "bagnet33"]
# At a corner, at an edge, half outside, inside.
places = st.sampled_from(
    [(0, 0), (90, 71), (0, 33), (61, 71), (-17, 9), (40, 88), (-11, -25), (107, 3), (44, 31), (51, 40)]
)


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    return {}


@pytest.mark.parametrize(
    ("dtype", "largest"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["float32", "float64"]
)
@pytest.mark.parametrize("name", ACCEPTED)
@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(positions=st.lists(places, min_size=2, max_size=2, unique=True), seed=st.none() | st.integers(0, 99))
def test_equal_to_every_canvas_whole(
    networks: dict, name: str, dtype: torch.dtype, largest: float, positions: list[tuple[int, int]], seed: int | None
) -> None:
    if name not in networks:
        networks[name] = bagnet33() if name == "bagnet33" else network(name)
    model = copy.deepcopy(networks[name]).to(dtype)
    canvas = color(0.3, dtype) if seed is None else photograph(seed, dtype)
    objects = patch(OBJECT_PX, 7, dtype)[None]
    expected = whole_canvases(model, objects, positions, canvas)
    got = bl.place(model, objects, positions, background=canvas)
    assert got.shape == expected.shape
    assert (expected[0] - expected[1]).abs().max() > 1e-3 * expected.abs().max(), "no power: places do not matter"
    assert (got - expected).abs().max() <= largest * expected.abs().max()


class Gate(nn.Module):
    def __init__(self, channels: int, *, in_place: bool) -> None:
        super().__init__()
        self.squeeze, self.in_place = nn.Conv2d(channels, channels, 1), in_place

    def forward(self, maps: Tensor) -> Tensor:
        gate = self.squeeze(F.adaptive_avg_pool2d(maps, 1)).sigmoid()
        return maps.mul_(gate) if self.in_place else maps * gate


class Crop(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps[:, :, 1:-1, 2:][..., ::2, 1::3]


class Join(nn.Module):
    """Branches whose windows differ; the larger one is changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 5, padding=2)

    def forward(self, maps: Tensor) -> Tensor:
        wide = self.wide(maps)
        wide += self.narrow(maps)
        return torch.cat([wide.relu_(), torch.maximum(maps, wide), maps - 1], 1)[:, 2:6]


class Dilated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)

    def forward(self, maps: Tensor) -> Tensor:
        return F.interpolate(self.up(F.pad(maps, [1, 2, 0, 3], value=0.7)), scale_factor=2, mode="nearest")


MIDDLES: dict[str, Callable[[], nn.Module]] = {
    "max pool of what is below zero": lambda: nn.Sequential(nn.Softplus(), Negative(), nn.MaxPool2d(3, 2, 1)),
    "max pool with ceil_mode": lambda: nn.MaxPool2d(3, 2, ceil_mode=True),
    "average that counts padding": lambda: nn.AvgPool2d(3, 2, 1),
    "average that does not count padding": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "gate": lambda: Gate(4, in_place=False),
    "gate in place": lambda: Gate(4, in_place=True),
    "crops and strides": Crop,
    "joins": Join,
    "pad, transposed convolution, interpolation": Dilated,
    "reflected": lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    "group norm": lambda: nn.GroupNorm(2, 4),
    "norm over channels": lambda: torchvision.ops.Permute([0, 2, 3, 1]),
}


class Negative(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return -maps - 0.1


class Net(nn.Module):
    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Conv2d(3, 4, 3, 2, padding=1), middle, nn.Conv2d(4, 6, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.middle(self.first(images.sub_(0.1)))
        if isinstance(self.middle, torchvision.ops.Permute):
            maps = F.layer_norm(maps, (4,)).permute(0, 3, 1, 2)
        return self.last(maps)


def small(middle: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Net(middle()).double().eval()


GRID = [(r, c) for r in (-3, 0, 8, 17, 18, 26, 41) for c in (0, 9, 20, 21, 40)]


@pytest.mark.parametrize("border", [None, "full", "infinite"])
@pytest.mark.parametrize("pool", ["average", "max", None])
@pytest.mark.parametrize("middle", MIDDLES.values(), ids=MIDDLES)
def test_every_operation_at_every_place(middle: Callable[[], nn.Module], pool: str | None, border: str | None) -> None:
    canvas = 0.3 * photograph(3, torch.float64, (48, 50))
    objects = torch.stack([patch(8, seed, torch.float64) for seed in (1, 2)])
    unchanged = objects.clone()
    model = small(middle)
    model = model if border is None else bl.convert(model, border, background=0.2 if border == "infinite" else 0.0)
    got = bl.place(model, objects, GRID, background=canvas, pool=pool)
    assert torch.equal(objects, unchanged)
    answers = _answers(model, pool)
    expected = whole_canvases(answers, objects, GRID, canvas)
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= 1e-12 * expected.abs().max()
    assert (expected - expected[:1]).abs().max() > 1e-3 * expected.abs().max(), "no power: places do not matter"


def _answers(model: nn.Module, pool: str | None) -> nn.Module:
    """The model with the pool behind it, under the model's own border."""
    if pool is None:
        return model
    before = conversion_of(model)
    head = nn.AdaptiveAvgPool2d(1) if pool == "average" else nn.AdaptiveMaxPool2d(1)
    plain = copy.deepcopy(model)
    if before is not None:
        bl.revert_(plain)
    whole = nn.Sequential(plain, head, nn.Flatten()).eval()
    return whole if before is None else bl.convert(whole, before.border)


@pytest.mark.parametrize("border", ["valid", "zero", "reflect", "circular", "full", "infinite"])
@pytest.mark.parametrize("phase", ["fixed", "adaptive"])
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.filterwarnings("ignore::borderless.ApproximatePhaseWarning")
def test_every_border(border: str, phase: str, constant: bool) -> None:
    canvas = color(0.4, torch.float64, (60, 60)) if constant else photograph(3, torch.float64, (60, 60))
    objects = torch.stack([patch(11, seed, torch.float64) for seed in (1, 2)])
    model = residual().double()
    converted = bl.convert(model, border, phase=phase, background=0.4 if border == "infinite" else 0.0)
    positions = [(r, c) for r in (-4, 0, 21, 23, 28, 50) for c in (0, 24, 29, 48)]
    expected = whole_canvases(converted, objects, positions, canvas)
    got = bl.place(converted, objects, positions, background=canvas)
    assert (got - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_positions_that_must_be_equal_run_once() -> None:
    """On a canvas of one color, far from its edge, only the place on the stride's sublattice counts."""
    samples = []
    model = residual().double()
    model.head.register_forward_pre_hook(lambda module, args: samples.append(len(args[0])))
    inside = [(r, c) for r in range(150, 158) for c in range(150, 158)]
    objects = patch(11, 1, torch.float64)
    got = bl.place(model, objects, inside, (320, 320))
    assert sum(samples) == 1 + 16 + 1, "the empty canvas, one place on each of 4 × 4 sublattices, the canvas among them"
    samples.clear()
    expected = whole_canvases(model, objects[None], inside, color(0.0, torch.float64, (320, 320)))[:, 0]
    assert (got - expected).abs().max() <= 1e-12 * expected.abs().max()
    assert (got[0] - got[1]).abs().max() > 1e-3 * expected.abs().max()
    samples.clear()
    plane = bl.convert(model, "infinite", phase="adaptive")
    assert (bl.place(plane, objects, inside, (320, 320)) == bl.place(plane, objects, [(0, 0)], (320, 320))).all()
    assert sum(samples) <= 4


@pytest.mark.parametrize("pool", ["average", "max"])
def test_equal_answers_end_where_a_cell_sees_both_object_and_edge(pool: str) -> None:
    """Places along a line from the edge to the middle, whole strides apart: run once from some place on, and right."""
    model = residual().double()
    object_, side = patch(9, 2, torch.float64), 160
    line = [(p, p) for p in range(0, 76, 4)]
    canvas = color(0.3, torch.float64, (side, side))
    samples = []
    hook = model.stem.register_forward_pre_hook(lambda module, args: samples.append(len(args[0])))
    got = bl.place(model, object_, line, background=canvas, output="down", pool=pool)
    hook.remove()
    maps = {}
    model.down.register_forward_hook(lambda module, args, output: maps.update(out=output))
    expected = whole_canvases(
        model,
        object_[None],
        line,
        canvas,
        lambda _: maps["out"].mean((2, 3)) if pool == "average" else maps["out"].amax((2, 3)),
    )[:, 0]
    assert (got - expected).abs().max() <= 1e-12 * expected.abs().max()
    assert 3 < sum(samples) - 1 < len(line) - 3, "some places see the edge, and run by themselves; the others run once"


def windows_all_the_way(*args: Any) -> Arrangement:
    choices = Arrangements(*args)
    return choices.at(choices.switches[-1], None)


def test_a_global_pool_needs_no_whole_map(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: ReplayedSignal) -> None:
        raise AssertionError("a whole map was made")

    monkeypatch.setattr(ReplayedSignal, "on_whole_canvas", refuse)
    monkeypatch.setattr(schedule, "choose", windows_all_the_way)
    model, objects, positions = network("resnet18"), patch(OBJECT_PX, 3, torch.float32), [(0, 0), (40, 30)]
    got = bl.place(model, objects, positions, CANVAS)
    expected = whole_canvases(model, objects[None], positions, torch.zeros(3, *CANVAS))[:, 0]
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_module_within_and_what_it_costs() -> None:
    later = []
    model = residual().double()
    model.head.register_forward_pre_hook(lambda module, args: later.append(1))
    objects = torch.stack([patch(11, seed, torch.float64) for seed in (1, 2)])
    got = bl.place(model, objects, GRID, (60, 60), output="down", pool="max")
    maps = {}
    hook = model.down.register_forward_hook(lambda module, args, output: maps.update(out=output))
    expected = whole_canvases(
        model, objects, GRID, color(0.0, torch.float64, (60, 60)), lambda _: maps["out"].amax((2, 3))
    )
    hook.remove()
    assert len(later) == len(GRID), "only the whole canvases went on to the head"
    assert (got - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_a_model_that_reads_position_is_placed_as_it_is() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 24 * 24, 5))
    model = model.double().eval()
    objects, positions = patch(9, 1, torch.float64)[None], [(16, 16), (18, 18), (20, 16)]
    expected = whole_canvases(model, objects, positions, color(0.0, torch.float64, (48, 48)))
    with pytest.warns(bl.PositionDependentWarning):
        got = bl.place(model, objects, positions, (48, 48))
    assert (got - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_the_budget_changes_nothing_but_the_passes_and_progress_counts() -> None:
    model, seen = residual(), []
    objects = torch.stack([patch(11, seed, torch.float32) for seed in range(5)])
    wide = bl.place(model, objects, GRID, (60, 60), progress=lambda done, total: seen.append((done, total)))
    narrow = bl.place(model, objects, GRID, (60, 60), budget_mib=0)
    assert (wide - narrow).abs().max() <= 1e-5 * wide.abs().max()
    assert seen == sorted(seen) and seen[-1] == (5 * len(GRID), 5 * len(GRID))


def test_the_model_is_left_as_it_was() -> None:
    for model in (residual(), bl.convert(residual(), "full")):
        before = state(model)
        bl.place(model, patch(11, 1, torch.float32), [(0, 0)], (40, 40))
        with pytest.raises(bl.ImageError):
            bl.place(model, patch(11, 1, torch.float32)[:2], [(0, 0)], (40, 40), background=torch.zeros(3, 40, 40))
        assert_same_state(before, state(model))


def in_training(model: nn.Module) -> nn.Module:
    model.norm.train()
    assert isinstance(model.norm, BATCH_NORMS)
    return model


def several(model: nn.Module) -> nn.Module:
    class Several(nn.Module):
        def forward(self, images: Tensor) -> dict[str, Tensor]:
            return {"out": model(images)}

    return Several().eval()


OBJECT = torch.zeros(2, 3, 8, 8)
WRONG: dict[str, tuple[Callable[[], Tensor], str]] = {
    "training": (
        lambda: bl.place(in_training(residual()), OBJECT, [(0, 0)], (32, 32)),
        r"Expected a model in eval mode but got a Residual in training mode \(norm\).*model.eval\(\)",
    ),
    "canvas too small": (
        lambda: bl.place(residual(), OBJECT, [(0, 0)], (32, 7)),
        r"Expected a canvas at least as large as the patches but got patches of 8 × 8 pixels for 32 × 7",
    ),
    "no canvas": (
        lambda: bl.place(residual(), OBJECT, [(0, 0)]),
        r"Expected canvas to be \(height, width\) in pixels but got None",
    ),
    "wholly outside": (
        lambda: bl.place(residual(), OBJECT, [(0, 0), (3, 32)], (32, 32)),
        r"got position 1, \(3, 32\), where a patch of 8 × 8 pixels lies wholly outside the canvas",
    ),
    "wholly outside before": (lambda: bl.place(residual(), OBJECT, [(-8, 0)], (32, 32)), r"got position 0, \(-8, 0\)"),
    "colors": (
        lambda: bl.place(residual(), OBJECT, [(0, 0)], (32, 32), [0.1, 0.2]),
        r"one number, one per channel, or an image but got 2 numbers for patches with 3 channels",
    ),
    "background image of whole numbers": (
        lambda: bl.place(residual(), OBJECT, [(0, 0)], background=torch.zeros(3, 32, 32, dtype=torch.uint8)),
        r"floating-point image \(3, height, width\).* but got torch.uint8 of shape \(3, 32, 32\)",
    ),
    "background image with other channels": (
        lambda: bl.place(residual(), OBJECT, [(0, 0)], background=torch.zeros(1, 32, 32)),
        r"shape \(1, 32, 32\) for patches with 3 channels",
    ),
    "background image of another size": (
        lambda: bl.place(residual(), OBJECT, [(0, 0)], (40, 32), torch.zeros(3, 32, 32)),
        r"background image's size \(32, 32\) but got canvas=\(40, 32\)",
    ),
    "positions": (
        lambda: bl.place(residual(), OBJECT, [(0.5, 1.0)], (32, 32)),
        r"whole numbers, a \(row, column\) .*but got torch.float32 of shape \(1, 2\)",
    ),
    "no positions": (lambda: bl.place(residual(), OBJECT, [], (32, 32)), r"Expected positions .* shape \(0,\)"),
    "patches": (
        lambda: bl.place(residual(), OBJECT.byte(), [(0, 0)], (32, 32)),
        r"floating-point tensor .*but got torch.uint8, \(2, 3, 8, 8\)",
    ),
    "no such module": (
        lambda: bl.place(residual(), OBJECT, [(0, 0)], (32, 32), output="stam"),
        r"name of a module of Residual.* such as stem, norm, pool, but got 'stam'",
    ),
    "pool": (
        lambda: bl.place(residual(), OBJECT, [(0, 0)], (32, 32), pool="mean"),
        r"Expected pool to be one of 'average', 'max', or None, but got 'mean'",
    ),
    "nothing to pool": (
        lambda: bl.place(residual(), OBJECT, [(0, 0)], (32, 32), pool="max"),
        r"Expected a feature map .* for pool='max' but got an output of shape \(1, 5\)",
    ),
    "several outputs": (
        lambda: bl.place(several(residual()), OBJECT, [(0, 0)], (32, 32)),
        r"Expected a module that returns one tensor but got dict from Several",
    ),
}


@pytest.mark.parametrize(("call", "text"), WRONG.values(), ids=WRONG)
def test_errors_say_what_to_do(call: Callable[[], Tensor], text: str) -> None:
    with pytest.raises((bl.ImageError, bl.ConversionError), match=text):
        call()


def test_a_model_without_sliding_operations_is_placed() -> None:
    class Weighted(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return (images * torch.linspace(0.5, 1.5, images.shape[3])).mean((1, 2, 3))

    things, positions = torch.rand(2, 3, 4, 4), [(0, 0), (3, 7)]
    model = Weighted().eval()
    wanted = whole_canvases(model, things, positions, torch.zeros(3, 12, 12))
    with pytest.warns(bl.PositionDependentWarning, match="an ordinary tensor with a value for each position"):
        found = bl.place(model, things, positions, (12, 12))
    torch.testing.assert_close(found, wanted)
