"""Networks with more than one map, or with time: segmentation, a pyramid, clips. Their output moves with the object.

Oracle: the same network's output for the object elsewhere; the unmodified network must fail the same check.
"""

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

import borderless as bl
from support.networks import patch, randomised, relative_change

CLASSES = 5


def made(build, example: Tensor) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return randomised(build(), 1, example)


def canvas_with(thing: Tensor, place: tuple[int, ...], size: tuple[int, ...]) -> Tensor:
    image = thing.new_zeros(1, thing.shape[0], *size)
    image[(0, slice(None), *(slice(p, p + n) for p, n in zip(place, thing.shape[1:], strict=True)))] = thing
    return image


SIZE = (96, 96)
THING = patch(32, 1, torch.float32)


@pytest.fixture(scope="module")
def segmenter() -> nn.Module:
    build = lambda: torchvision.models.segmentation.lraspp_mobilenet_v3_large(  # noqa: E731
        weights=None, weights_backbone=None, num_classes=CLASSES
    )
    return made(build, canvas_with(THING, (20, 30), SIZE))


@pytest.mark.parametrize(("phase", "there"), [("fixed", (48, 16)), ("adaptive", (51, 23))])
def test_segmentation_moves_with_the_object(segmenter: nn.Module, phase: str, there: tuple[int, int]) -> None:
    here, around = (16, 32), 8
    model = bl.convert(segmenter, "infinite", phase=phase, strict=True)

    def cut(network: nn.Module, place: tuple[int, int]) -> Tensor:
        with torch.inference_mode():
            scores = network(canvas_with(THING, place, SIZE))["out"]
        assert scores.shape == (1, CLASSES, *SIZE)
        return scores[..., *(slice(p - around, p + 32 + around) for p in place)]

    assert relative_change(cut(model, here), cut(model, there)) <= 1e-4
    assert relative_change(cut(segmenter, here), cut(segmenter, there)) > 1e-2, "no power"


@pytest.mark.parametrize("phase", ["fixed", "adaptive"])
def test_every_map_of_a_pyramid_moves_with_the_object(phase: str) -> None:
    """Maps of stride 4 to 64; their cells are told where they lie by the lattice that the Signal brings."""
    build = lambda: resnet_fpn_backbone(  # noqa: E731
        backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d
    )
    size = (128, 128)
    own = made(build, canvas_with(THING, (20, 30), size))
    model = bl.convert(own, "infinite", phase=phase, output="signal", strict=True)
    there = (64, 64) if phase == "fixed" else (77, 45)
    with torch.inference_mode():
        first, second = (model(canvas_with(THING, place, size)) for place in ((0, 0), there))
        plain = own(canvas_with(THING, (0, 0), size))
    assert list(first) == list(plain)
    for name, maps in first.items():
        other = second[name]
        moved = []
        for axis, (a, b, stride) in enumerate(zip(maps.start, other.start, maps.lattice.stride, strict=True)):
            offsets = [0 if s.lattice.offset is None else int(s.lattice.offset[0, axis]) for s in (maps, other)]
            cells, left = divmod(there[axis] + offsets[0] - offsets[1], stride)
            assert left == 0, f"{name}: the phase does not follow the object"
            moved.append((a + cells, b + cells))
        box = tuple((a, a + maps.window.shape[2 + axis]) for axis, (a, _) in enumerate(moved))
        expected = other.read(box)
        deviation = (maps.window - expected).abs().max() / maps.deviation().abs().max()
        assert deviation <= 1e-4, name
        assert maps.shape == plain[name].shape


@pytest.mark.parametrize(("phase", "there"), [("fixed", (8, 16, 16)), ("adaptive", (5, 13, 23))])
def test_a_clip_network_is_blind_to_place_and_time(phase: str, there: tuple[int, int, int]) -> None:
    size, generator = (12, 40, 40), torch.Generator().manual_seed(1)
    thing = torch.randn(3, 4, 16, 16, generator=generator) + torch.randn(3, 1, 1, 1, generator=generator)
    parts = torchvision.models.video.resnet
    build = lambda: parts.VideoResNet(  # noqa: E731  r3d_18 with one block a stage
        parts.BasicBlock, [parts.Conv3DSimple] * 4, [1, 1, 1, 1], parts.BasicStem, num_classes=CLASSES
    )
    own = made(build, canvas_with(thing, (3, 12, 12), size))
    model = bl.convert(own, "infinite", phase=phase, strict=True)
    with torch.inference_mode():
        answers, own_answers = (
            [network(canvas_with(thing, place, size)) for place in ((0, 0, 0), there)] for network in (model, own)
        )
    assert relative_change(*answers) <= 1e-4
    assert relative_change(*own_answers) > 1e-3, "no power"
