"""Eleven torchvision networks, untouched: an object moves over an empty canvas and the logits must not notice.

Oracle: the network's own answer for the object elsewhere; under `zero`, the unmodified network. Every test also sees
the unmodified network fail, or another object make a difference, so that a constant answer does not pass.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import borderless as bl
from support.networks import NETWORKS, TOTAL_STRIDE, deterministic_training, network, patch, placed, relative_change

CANVAS_PX, OBJECT_PX = 128, 48
LARGEST_CHANGE = {torch.float32: 2e-5, torch.float64: 1e-12}
STRIDE_PLACES = [(0, TOTAL_STRIDE), (2 * TOTAL_STRIDE, TOTAL_STRIDE)]
LARGE = ("resnet50", "densenet121", "efficientnet_b0")  # to train
ANY_PLACES = [(3, 40), (60, 21)]  # neither the rows nor the columns differ by a multiple of 2

every_network = pytest.mark.parametrize("name", NETWORKS)
in_both_precisions = pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(name, dtype, marks=pytest.mark.nightly if (name, dtype) == ("densenet121", torch.float64) else ())
        for name in NETWORKS
        for dtype in LARGEST_CHANGE
    ],
    ids=lambda part: str(part).removeprefix("torch."),
)


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    """Each network is made once; tests change copies only."""
    return {}


@pytest.fixture
def own(request: pytest.FixtureRequest, networks: dict[str, nn.Module]) -> nn.Module:
    name = request.node.callspec.params["name"]
    if name not in networks:
        networks[name] = network(name)
    return networks[name]


def assert_blind_to_place(model: nn.Module, own: nn.Module, places: list[tuple[int, int]], dtype: torch.dtype) -> None:
    thing, other = patch(OBJECT_PX, 1, dtype), patch(OBJECT_PX, 2, dtype)
    images, another = placed([thing] * len(places), places, CANVAS_PX), placed([other], places[:1], CANVAS_PX)
    with torch.inference_mode():
        logits, own_logits, own_another = model(images), own(images), own(another)
    assert type(logits) is Tensor and logits.shape == own_logits.shape and logits.dtype == dtype
    assert torch.isfinite(logits).all()
    assert relative_change(own_logits[:1], own_logits[1:]) > 1e-3, "no power: it does not read the place"
    assert relative_change(own_logits[:1], own_another) > 1e-3, "no power: the network's answer depends on nothing"
    assert relative_change(logits[:1], logits[1:]) <= LARGEST_CHANGE[dtype]
    if dtype == torch.float32:  # float64 costs too much for a third image
        with torch.inference_mode():
            assert relative_change(logits[:1], model(another)) > 1e-3, "another object gives the same logits"


def in_precision(name: str, own: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of `own` in `dtype`; of ConvNeXt, which is slow, one block a stage: every kind is there."""
    own = copy.deepcopy(own).to(dtype)
    if name == "convnext_tiny":
        for stage in own.features[1::2]:  # between them the stem and the downsampling layers
            del stage[1:]
    return own


@in_both_precisions
def test_infinite_is_blind_to_moves_by_the_total_stride(name: str, dtype: torch.dtype, own: nn.Module) -> None:
    own = in_precision(name, own, dtype)
    assert_blind_to_place(bl.convert(own, "infinite"), own, STRIDE_PLACES, dtype)


@in_both_precisions
def test_adaptive_phase_is_blind_to_every_move(name: str, dtype: torch.dtype, own: nn.Module) -> None:
    """The samples of one batch stand at places that differ by odd numbers of pixels."""
    own = in_precision(name, own, dtype)
    assert_blind_to_place(bl.convert(own, "infinite", phase="adaptive"), own, ANY_PLACES, dtype)


@every_network
def test_zero_through_the_engine_is_the_unmodified_network(name: str, own: nn.Module) -> None:
    images = torch.randn(
        2, 3, 75, 98, generator=torch.Generator().manual_seed(3)
    )  # odd maps on the way: ceil_mode counts
    with torch.inference_mode():
        expected, got = own(images), bl.convert(own, "zero")(images)
    assert type(got) is Tensor and got.shape == expected.shape
    assert relative_change(expected, got) <= 1e-6


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_zero_trains_as_the_unmodified_network(name: str, own: nn.Module) -> None:
    images = torch.randn(3, 3, 70, 61, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    own = deterministic_training(copy.deepcopy(own).double())
    model = bl.convert(own, "zero")
    expected, got = training_step(own, images), training_step(model, images)
    for part in expected:
        assert_same_tensors(expected[part], got[part], 1e-10)


def training_step(model: nn.Module, images: Tensor) -> dict[str, dict[str, Tensor]]:
    """Logits and loss, the gradient of every parameter, and every buffer after one forward and backward."""
    logits = model(images)
    loss = F.cross_entropy(logits, torch.arange(len(images)))
    loss.backward()
    return {
        "answers": {"logits": logits.detach(), "loss": loss.detach()},
        "gradients": {key: parameter.grad for key, parameter in model.named_parameters()},
        "statistics": {key: buffer.clone() for key, buffer in model.named_buffers()},
    }


def assert_same_tensors(first: dict[str, Tensor], second: dict[str, Tensor], of_the_largest: float) -> None:
    assert first.keys() == second.keys()
    largest = max(tensor.abs().max().item() for tensor in first.values() if tensor.is_floating_point())
    for key, tensor in first.items():
        difference = (tensor - second[key]).abs().max().item()
        assert difference <= of_the_largest * largest, f"{key}: {difference:.1e} of {largest:.1e}"


def train_at_two_places(
    own: nn.Module, dtype: torch.dtype, phase: str, canvas_px: int, object_px: int, here: list, there: list
) -> None:
    own = deterministic_training(copy.deepcopy(own).to(dtype))
    objects = [patch(object_px, 1, dtype), patch(object_px, 2, dtype)][: len(here)]
    images, moved = placed(objects, here, canvas_px), placed(objects, there, canvas_px)
    model = bl.convert(own, "infinite", phase=phase)
    first, second = (training_step(copy.deepcopy(model), batch) for batch in (images, moved))
    own_first, own_second = (training_step(copy.deepcopy(own), batch) for batch in (images, moved))

    assert relative_change(own_first["answers"]["logits"], own_second["answers"]["logits"]) > 1e-4, "no power"
    before = dict(own.named_buffers())
    assert all(not torch.equal(before[key], first["statistics"][key]) for key in before), "BatchNorm did not learn"
    for part in ("answers", "gradients", "statistics"):
        if part == "gradients" and dtype == torch.float32:
            continue  # one rounding of the image moves the unmodified DenseNet's gradients by 1e-2: ReLUs switch
        if first[part]:  # SqueezeNet and ConvNeXt have no statistics
            assert_same_tensors(first[part], second[part], LARGEST_CHANGE[dtype])


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_training_is_blind_to_moves_by_the_total_stride(name: str, own: nn.Module) -> None:
    """The others cost more, and train below where every move counts."""
    train_at_two_places(own, torch.float64, "fixed", 64, 24, [(0, 0), (32, 0)], [(32, 32), (0, 32)])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.nightly if name in LARGE else ())
        for name in NETWORKS
        if name != "convnext_tiny"
    ],
)
def test_training_with_adaptive_phase_is_blind_to_every_move(name: str, own: nn.Module) -> None:
    """Both samples move, each by its own odd number of pixels. ConvNeXt takes a minute: run by hand, 5e-14."""
    samples = 1 if name == "densenet121" else 2  # its windows are large; one image is enough for batch statistics
    here, there = [(0, 20), (31, 0)][:samples], [(27, 5), (6, 31)][:samples]
    train_at_two_places(own, torch.float64, "adaptive", 64, 24, here, there)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in ("convnext_tiny", *LARGE)])
def test_training_in_single_precision_is_blind_to_every_move(name: str, own: nn.Module) -> None:
    train_at_two_places(own, torch.float32, "adaptive", 128, 48, [(0, 32), (31, 0)], [(77, 5), (6, 67)])
