"""What leaves a converted model is ordinary tensors: whatever the output is, and whatever the model keeps on itself."""

import copy
import pickle
import time
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
from borderless.engine.outputs import materialized, release

Pair = namedtuple("Pair", "first second")


@dataclass
class Plain:
    maps: Tensor
    name: str = "plain"


@dataclass(frozen=True, slots=True)
class Frozen:
    maps: Tensor


class ModelOutput(OrderedDict):
    """As in transformers: a dict whose items are attributes too."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__(maps=maps)
        self.maps = maps


class Thing:
    def __init__(self, maps: Tensor) -> None:
        self.maps, self.parts = maps, [maps, {"deep": Plain(maps)}]


def generated(maps: Tensor) -> Iterator[Tensor]:
    yield maps
    yield maps + 1


def from_thing(thing: Thing) -> list[Tensor]:
    assert thing.maps is thing.parts[0] is thing.parts[1]["deep"].maps, "one map stays one tensor"
    return [thing.maps]


KINDS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], list[Tensor]]]] = {
    "tensor": (lambda y: y, lambda out: [out]),
    "dict": (lambda y: {"a": [y, (y, 3)]}, lambda out: [out["a"][0], out["a"][1][0]]),
    "namedtuple": (lambda y: Pair(y, y + 1), lambda out: [out.first, out.second]),
    "dataclass": (Plain, lambda out: [out.maps]),
    "frozen dataclass with slots": (Frozen, lambda out: [out.maps]),
    "model output": (ModelOutput, lambda out: [out.maps, out["maps"]]),
    "object": (Thing, from_thing),
    "generator": (generated, list),
    "map": (lambda y: map(torch.relu, [y]), list),
    "dataclass of a generator": (lambda y: Plain(generated(y)), lambda out: list(out.maps)),
    "set": (lambda y: {y}, list),
}


class Returns(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.conv, self.kind = nn.Conv2d(3, 4, 3, padding=1), kind

    def forward(self, batch: Tensor) -> Any:
        return KINDS[self.kind][0](self.conv(batch))


def images(*shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 3, 9, 9)), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_an_output_of_any_kind_holds_tensors(kind: str) -> None:
    own, tensors = Returns(kind), KINDS[kind][1]
    model = bl.convert(own, "zero")
    with torch.no_grad():
        expected, output = own(images()), model(images())
        assert type(output) is type(expected) or kind == "map"
        for wanted, got in zip(tensors(expected), tensors(output), strict=True):
            assert type(got) is Tensor
            torch.testing.assert_close(got, wanted)


def test_a_generator_stays_lazy() -> None:
    seen = []

    class Lazy(nn.Conv2d):
        def forward(self, batch: Tensor) -> Iterator[Tensor]:
            for i in range(3):
                seen.append(i)
                yield super().forward(batch)

    output = bl.convert(Lazy(3, 4, 3), "full")(images())
    assert seen == [] and type(next(output)) is Tensor and seen == [0]


def test_output_signal_leaves_signals_in_every_kind() -> None:
    for kind, (_, tensors) in KINDS.items():
        output = bl.convert(Returns(kind), "infinite", output="signal")(images())
        assert all(isinstance(maps, bl.Signal) for maps in tensors(output)), kind


def test_an_output_without_maps_is_the_models_own_object() -> None:
    class Counts(nn.Conv2d):
        def forward(self, batch: Tensor) -> Any:
            self.result = Plain(super().forward(batch).mean((2, 3)), "own")
            return self.result

    model = bl.convert(Counts(3, 4, 3), "infinite")
    assert model(images()) is model.result


@pytest.mark.parametrize("border", ["zero", "infinite"])
@pytest.mark.parametrize("output", ["frame", "signal"])
def test_no_view_with_strides_of_0_leaves(border: str, output: str) -> None:
    class Spread(nn.Conv2d):
        def forward(self, batch: Tensor) -> Any:
            pooled = F.adaptive_avg_pool2d(super().forward(batch), 1)
            return [F.interpolate(pooled, size=(9, 9)), pooled.expand(-1, -1, 5, 5)]

    for tensor in bl.convert(Spread(3, 4, 3, padding=1), border, output=output)(images()):
        assert 0 not in tensor.stride()
        changed = tensor.detach().clone()
        changed[:, :, 0, 0] = 7
        tensor.detach()[:, :, 0, 0] = 7
        assert torch.equal(tensor, changed)


def test_materialized_copies_views_of_one_cell_alone() -> None:
    last = images(2, 3, 4, 4).to(memory_format=torch.channels_last)
    assert materialized(last) is last
    assert materialized(torch.ones(1, 3, 1).expand(2, 3, 4)).stride() == (12, 4, 1)


# Kept on the model


class Keeps(nn.Module):
    def __init__(self, fail: bool = False) -> None:
        super().__init__()
        self.conv, self.branch, self.fail = nn.Conv2d(3, 4, 3, padding=1), nn.Sequential(nn.ReLU()), fail
        self.register_buffer("buffered", None)
        self.many: Any = []
        self.named: Any = {}

    def forward(self, batch: Tensor) -> Tensor:
        maps = self.conv(batch)
        self.features = self.buffered = self.branch.inner = maps
        self.many, self.both = [maps, {"deep": (maps, 1)}], (maps, Pair(maps, 2))
        self.named["maps"] = maps
        if self.fail:
            raise ZeroDivisionError
        return maps.mean((2, 3))

    def kept(self) -> list[Tensor]:
        deep = self.many[1]["deep"][0]
        return [
            self.features,
            self.buffered,
            self.branch.inner,
            self.many[0],
            deep,
            self.both[0],
            self.both[1].first,
            self.named["maps"],
        ]


def use_call(model: nn.Module) -> None:
    bl.convert_(model, "zero")(images())


def use_explain(model: nn.Module) -> None:
    bl.explain(model, (9, 9), "zero")


def use_place(model: nn.Module) -> None:
    bl.place(model, images(2, 3, 5, 5), [(0, 0), (2, 3)], canvas=(9, 9))


def use_place_infinite(model: nn.Module) -> None:
    bl.place(bl.convert_(model, "infinite"), images(2, 3, 5, 5), [(0, 0), (2, 3)], canvas=(9, 9))


def use_place_whole(model: nn.Module) -> None:
    bl.place(bl.convert_(model, "circular"), images(2, 3, 5, 5), [(0, 0), (2, 3)], canvas=(9, 9))


def use_measure(model: nn.Module) -> None:
    bl.equivariance_error(bl.convert_(model, "zero"), images(), [(1, 0)])


@pytest.mark.parametrize("fail", [False, True], ids=["a good end", "an error"])
@pytest.mark.parametrize("use", [use_call, use_explain, use_place, use_place_infinite, use_place_whole, use_measure])
def test_what_a_model_keeps_becomes_tensors(use: Callable[[nn.Module], None], fail: bool) -> None:
    model = Keeps(fail).eval()
    with torch.no_grad():
        if fail:
            with pytest.raises(ZeroDivisionError):
                use(model)
        else:
            use(model)
        assert all(type(maps) is Tensor and 0 not in maps.stride() for maps in model.kept())
        copy.deepcopy(model)
        pickle.dumps(model)
        bl.convert(model, "zero")
        if use is use_call:
            assert torch.equal(model.features, bl.revert_(model).conv(images()))


def test_under_valid_the_window_is_kept() -> None:
    own = Keeps()
    model = bl.convert(own, "valid")
    with torch.no_grad():
        model(images())
        torch.testing.assert_close(model.features, F.conv2d(images(), own.conv.weight, own.conv.bias))


def test_what_a_hook_puts_on_a_layer_becomes_a_tensor() -> None:
    model = bl.convert(Keeps(), "infinite")
    model.conv.register_forward_hook(lambda module, args, output: setattr(module, "seen", output))
    model(images())
    assert type(model.conv.seen) is Tensor


def test_a_container_that_holds_itself_is_no_endless_task() -> None:
    model = Keeps()
    model.loop = [model.named]
    model.loop.append(model.loop)
    bl.convert_(model, "full")(images())
    assert type(model.loop[0]["maps"]) is Tensor


def test_looking_for_kept_maps_costs_little() -> None:
    model = torchvision.models.resnet50()
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        release(model)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1e-3, "measured: 0.14 ms on an idle core"


@pytest.mark.filterwarnings("ignore")  # of PyTorch, about TorchScript
def test_a_traced_part_is_no_obstacle() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), torch.jit.trace(nn.ReLU(), torch.zeros(1)))
    image = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(bl.convert(model, "zero")(image), model(image))
