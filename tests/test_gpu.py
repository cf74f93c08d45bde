"""What a GPU computes is what the CPU computes, and every promise holds there. Skipped without one."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

import borderless as bl
from borderless.cli.main import main
from borderless.testing import assert_batch_independent, assert_streams_like_whole, assert_tiled_equals_whole
from support.placements import let_windows_pay
from support.tiled_networks import Decoder

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]
# Without hard swish: in float64 PyTorch multiplies by a sixth in float32 on a GPU.
NETWORKS = (
    "resnet18 resnet50 densenet121 efficientnet_b0 convnext_tiny regnet_y_400mf shufflenet_v2_x0_5 "
    "squeezenet1_1 timm/convnextv2_atto timm/resnet10t timm/hrnet_w18_small timm/nfnet_f0 timm/repvgg_a0 "
    "timm/ghostnet_100 timm/res2net50_26w_4s timm/gcresnet33ts timm/darknet17"
).split()


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """TF32 keeps 10 bits of a factor."""
    settings = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [one.allow_tf32 for one in settings]
    for one in settings:
        one.allow_tf32 = False
    yield
    for one, allowed in zip(settings, before, strict=True):
        one.allow_tf32 = allowed


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def network(name: str) -> nn.Module:
    if name.startswith("timm/"):
        return timm.create_model(name.removeprefix("timm/")).eval()
    return torchvision.models.get_model(name, weights=None).eval()


def object_and_moved(canvas_px: int = 128) -> Tensor:
    """Return the same object at two positions (2, 3, canvas, canvas) in float64."""
    images = torch.zeros(2, 3, canvas_px, canvas_px, dtype=torch.float64)
    images[0, :, 20:60, 10:50] = torch.randn(3, 40, 40, dtype=torch.float64)
    images[1] = images[0].roll((13, 31), (1, 2))
    return images


def error(got: Tensor, expected: Tensor) -> float:
    return float((got.cpu() - expected.cpu()).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_infinite_adaptive_is_exact_and_the_cpus(name: str) -> None:
    model, images = bl.convert(network(name).double(), "infinite", phase="adaptive"), object_and_moved()
    expected = model(images)
    got = model.cuda()(images.cuda())
    assert got.is_cuda
    assert error(got, expected) <= 1e-9
    assert error(got[1], got[0]) <= 1e-9


@pytest.mark.parametrize("border", ["zero", "full", "reflect", "replicate", "circular", "causal", "infinite"])
@torch.no_grad()
def test_every_border_is_the_cpus(border: str) -> None:
    for name in ("resnet18", "efficientnet_b0"):
        model, images = bl.convert(network(name).double(), border), object_and_moved(96)
        expected = model(images)
        assert error(model.cuda()(images.cuda()), expected) <= 1e-9


@torch.no_grad()
def test_half_precision_stays_near() -> None:
    model, images = bl.convert(network("resnet18"), "infinite", phase="adaptive").cuda(), object_and_moved().cuda()
    expected = model(images.float())
    with torch.autocast("cuda", torch.bfloat16):
        got = model(images.float())
    assert got.dtype == torch.bfloat16
    assert error(got.float(), expected) <= 0.05


def test_the_gradient_under_reflect_is_deterministic_and_the_cpus(deterministic: None) -> None:
    """The padding of PyTorch has no deterministic gradient on a GPU, and would refuse."""
    model = bl.convert(nn.Sequential(nn.Conv2d(3, 4, 5, padding=2, bias=False), nn.ReLU()), "reflect").double()
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)

    def gradient(device: str) -> Tensor:
        here = images.to(device, copy=True).requires_grad_()
        return torch.autograd.grad(model.to(device)(here).square().sum(), here)[0]

    expected, got = gradient("cpu"), gradient("cuda")
    torch.testing.assert_close(got.cpu(), expected)
    assert torch.equal(got, gradient("cuda"))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-2), (torch.float64, 1e-8)])
def test_gradients_of_a_training_step_are_the_cpus(dtype: torch.dtype, tolerance: float) -> None:
    images, labels = object_and_moved(64).to(dtype), torch.tensor([1, 2])

    def gradients(device: str) -> list[Tensor]:
        torch.manual_seed(0)
        model = bl.convert(network("resnet18"), "infinite").train().to(device, dtype)
        nn.functional.cross_entropy(model(images.to(device)), labels.to(device)).backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    expected, got = gradients("cpu"), gradients("cuda")
    assert len(expected) == len(got) > 0
    for one, other in zip(got, expected, strict=True):
        assert error(one, other) <= tolerance


@pytest.mark.parametrize("border", [None, "infinite"])
@torch.no_grad()
def test_place_equals_whole_canvases(border: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    let_windows_pay(monkeypatch)
    model = network("resnet18").double().cuda()
    model = model if border is None else bl.convert(model, border)
    patch, positions = torch.randn(1, 3, 16, 16, dtype=torch.float64).cuda(), [(0, 0), (40, 71), (112, 60)]
    canvases = torch.zeros(3, 3, 128, 128, dtype=torch.float64).cuda()
    for canvas, (row, column) in zip(canvases, positions, strict=True):
        canvas[:, row : row + 16, column : column + 16] = patch[0]
    found = bl.place(model, patch, positions, (128, 128)).flatten(0, 1)
    assert error(found, model(canvases)) <= 1e-9


@torch.no_grad()
def test_occlusion_equals_the_loop() -> None:
    model, image = network("resnet18").double().cuda(), torch.randn(1, 3, 96, 96, dtype=torch.float64).cuda()
    found = bl.occlude(model, image, 32, 32).outputs
    for i, row in enumerate((0, 32, 64)):
        for j, column in enumerate((0, 32, 64)):
            hidden = image.clone()
            hidden[..., row : row + 32, column : column + 32] = 0
            assert error(found[i, j], model(hidden)[0]) <= 1e-9


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_tiles_equal_the_whole(norm: str) -> None:
    model, image = Decoder(norm).double().eval().cuda(), torch.randn(1, 2, 94, 122, dtype=torch.float64).cuda()
    assert_tiled_equals_whole(model, image, tile=32, tolerance=1e-10)


def test_chunks_equal_the_whole() -> None:
    model = nn.Sequential(nn.Conv1d(1, 4, 9, 2, 4), nn.ReLU(), nn.ConvTranspose1d(4, 1, 4, 2, 1)).double().cuda()
    assert_streams_like_whole(model, torch.randn(1, 1, 200, dtype=torch.float64).cuda(), tolerance=1e-10)


def test_a_batch_of_unequal_images_equals_each_alone() -> None:
    images = [torch.randn(3, size, size + 9, dtype=torch.float64).cuda() for size in (64, 41, 90)]
    assert_batch_independent(network("efficientnet_b0").double().cuda(), images, tolerance=1e-9)


# Of PyTorch's own compiler, in 2.11; and that TF32 would be faster.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated", "ignore:TensorFloat32 tensor cores")
@torch.no_grad()
def test_frozen_and_compiled_programs_are_the_model() -> None:
    model, images = bl.convert(network("resnet18"), "infinite").cuda(), object_and_moved(64).float().cuda()
    expected, program = model(images), bl.freeze(model, images).module()
    assert error(program(images), expected) <= 1e-5
    assert error(torch.compile(program)(images), expected) <= 1e-5


def test_an_experiment_trains_and_goes_on(tmp_path: Path) -> None:
    tiny = ["--seeds", "1", "--device", "cuda", "--arms", "own", "recipe", "--epochs", "2", "--at", "anywhere"]
    command = ["run", "moving-objects", *tiny, "--test-images", "20", "--folder", str(tmp_path)]
    assert main(command) == 0
    before = (tmp_path / "table.csv").read_text(encoding="utf-8")
    assert main(command) == 0
    assert (tmp_path / "table.csv").read_text(encoding="utf-8") == before
    found = json.loads(next(tmp_path.glob("*recipe*/result.json")).read_text(encoding="utf-8"))
    assert found["metrics"]["changed"] == 0.0


def test_an_audit_on_the_gpu_finds_what_the_cpu_finds(photographs: Path, tmp_path: Path) -> None:
    flips = {}
    for device in ("cpu", "cuda"):
        folder = tmp_path / device
        command = ["audit", "resnet18", "--weights", "random", "--images", str(photographs), "--size", "64"]
        assert main([*command, "--objects", "4", "--device", device, "--folder", str(folder)]) == 0
        flips[device] = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    assert flips["cuda"].keys() == flips["cpu"].keys()
