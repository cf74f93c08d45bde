"""Networks of other packages, as their packages build them: exact at any position, and under `zero` what they are.

A dozen of those of `python -m benchmarks.networks`; each is skipped where its package is missing.
"""

import importlib

import pytest
import torch

import borderless as bl

pytestmark = pytest.mark.slow

EXACT = {
    "segmentation": ("segmentation_models_pytorch", ["smp/Linknet-resnet18", "smp/Unet-resnet18"]),
    "medical": ("monai", ["monai/UNet-norm-batch", "monai/SegResNetDS", "monai/HighResNet", "monai/ResNet10-3D"]),
    "diffusers": ("diffusers", ["diffusers/AutoencoderKL-noattn"]),
    "transformers": (
        "transformers",
        [
            "transformers/ConvNextV2ForImageClassification",
            "transformers/MobileNetV2ForSemanticSegmentation",
            "transformers/RegNetForImageClassification",
            "transformers/ResNet-bottleneck-tuple",
            "transformers/ResNetBackbone",
        ],
    ),
}


@pytest.mark.filterwarnings("default")  # those packages warn of their own
@pytest.mark.parametrize(
    ("family", "package", "name"),
    [(family, package, name) for family, (package, names) in EXACT.items() for name in names],
    ids=lambda value: value if "/" in value else "",
)
def test_a_network_runs_exactly(family: str, package: str, name: str) -> None:
    pytest.importorskip(package)
    from benchmarks.networks.check import check

    row = check(name, importlib.import_module(f"benchmarks.networks.{family}").NETWORKS[name])
    assert row["category"] == "exact", row
    assert row["float32"]["zero"]["bitwise"] and not row["float32"]["zero"]["reads"], row["float32"]["zero"]


TILED = {
    "segmentation": ("segmentation_models_pytorch", ["Unet", "UnetPlusPlus", "FPN", "Segformer"], "smp/{}-resnet18"),
    "medical": (
        "monai",
        ["UNet", "UNet-3D", "DynUNet", "SegResNet", "SegResNet-3D", "FlexibleUNet-resnet"],
        "monai/{}",
    ),
}


@pytest.mark.nightly
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("family", "package", "name"),
    [(family, package, text.format(name)) for family, (package, names, text) in TILED.items() for name in names],
    ids=lambda value: value if "/" in value else "",
)
def test_tiles_are_the_whole(family: str, package: str, name: str) -> None:
    pytest.importorskip(package)
    network = importlib.import_module(f"benchmarks.networks.{family}").NETWORKS[name]
    torch.manual_seed(0)
    model = network.build().eval().double()
    image = torch.randn(1, *network.shape, dtype=torch.float64)
    bl.testing.assert_tiled_equals_whole(model, image, tile=network.shape[-1] // 3, tolerance=1e-12)


def test_attention_is_refused_with_what_to_do() -> None:
    pytest.importorskip("diffusers")
    from benchmarks.networks.check import check
    from benchmarks.networks.diffusers import NETWORKS

    row = check("diffusers/AutoencoderKL", NETWORKS["diffusers/AutoencoderKL"])
    assert row["category"] == "refused", row
    assert "attention" in row["float32"]["infinite"]["refused"]
    assert "convert only the part of the model before it" in row["float32"]["infinite"]["refused"]
