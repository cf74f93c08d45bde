"""Medical images: monai, cellpose, unet, pytorch3dunet, in two and three dimensions."""

import importlib
from typing import Any

from torch import Tensor, nn

from benchmarks.networks import Network

FLAT, SOLID = (1, 64, 64), (1, 32, 32, 32)
LEVELS = {"channels": (8, 16, 32), "strides": (2, 2)}
KERNELS = {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [8, 16, 32]}


def _monai(name: str, *args: Any, **options: Any) -> nn.Module:
    return getattr(importlib.import_module("monai.networks.nets"), name)(*args, **options)


def _of(package: str, name: str, *args: Any, **options: Any) -> nn.Module:
    return getattr(importlib.import_module(package), name)(*args, **options)


def _unet3d(name: str) -> nn.Module:
    return _of("pytorch3dunet.unet3d.model", name, 1, 2, f_maps=[8, 16, 32], is_segmentation=False, num_groups=4)


class _Bag(nn.Module):
    """A bag of one image for monai's MILModel, (N, bag, C, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.model = _monai("MILModel", num_classes=3, pretrained=False, mil_mode="att")

    def forward(self, images: Any) -> Any:
        return self.model(images)


class Reconstruction(nn.Module):
    """monai's AutoencoderKL without the noise of its own forward, which is another one in every sample."""

    def __init__(self) -> None:
        super().__init__()
        self.model = _monai(
            "AutoencoderKL",
            2,
            num_res_blocks=1,
            channels=(8, 16),
            attention_levels=(False, False),
            norm_num_groups=4,
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.model.reconstruct(images)


_PLAIN = {"in_channels": 1, "out_channels": 2}
NETWORKS = {
    "monai/AttentionUnet": Network(lambda: _monai("AttentionUnet", 2, **_PLAIN, **LEVELS), FLAT),
    "monai/AutoEncoder": Network(
        lambda: _monai("AutoEncoder", 2, **_PLAIN, channels=(8, 16, 32), strides=(2, 2, 2)), FLAT
    ),
    "monai/AutoencoderKL": Network(Reconstruction, FLAT),
    "monai/BasicUNet": Network(lambda: _monai("BasicUNet", 2, features=(8, 8, 16, 16, 32, 8)), FLAT),
    "monai/BasicUNetPlusPlus": Network(lambda: _monai("BasicUNetPlusPlus", 2, features=(8, 8, 16, 16, 32, 8)), FLAT),
    "monai/Classifier": Network(lambda: _monai("Classifier", FLAT, 3, **LEVELS), FLAT),
    "monai/DenseNet121": Network(lambda: _monai("DenseNet121", 2, **_PLAIN), (1, 96, 96)),
    "monai/DynUNet": Network(lambda: _monai("DynUNet", 2, **_PLAIN, **KERNELS), FLAT),
    "monai/DynUNet-deepsup": Network(
        lambda: _monai("DynUNet", 2, **_PLAIN, **KERNELS, deep_supervision=True, deep_supr_num=1), FLAT
    ),
    "monai/EfficientNetBN": Network(
        lambda: _monai("EfficientNetBN", "efficientnet-b0", pretrained=False, in_channels=1, num_classes=3), (1, 96, 96)
    ),
    "monai/FlexibleUNet": Network(lambda: _monai("FlexibleUNet", 1, 2, "efficientnet-b0"), FLAT),
    "monai/FlexibleUNet-resnet": Network(lambda: _monai("FlexibleUNet", 1, 2, "resnet18"), FLAT),
    "monai/HighResNet": Network(
        lambda: _monai(
            "HighResNet",
            2,
            layer_params=(
                {"name": "conv_0", "n_features": 8, "kernel_size": 3},
                {"name": "res_1", "n_features": 8, "kernels": (3, 3), "repeat": 2},
                {"name": "res_2", "n_features": 16, "kernels": (3, 3), "repeat": 2},
                {"name": "conv_1", "n_features": 16, "kernel_size": 1},
                {"name": "conv_2", "kernel_size": 1},
            ),
        ),
        FLAT,
    ),
    "monai/MILModel": Network(_Bag, (3, 96, 96), lambda images: ((images[:, None],), {}), {"images": "NBCHW"}),
    "monai/PatchDiscriminator": Network(lambda: _monai("PatchDiscriminator", 2, 8, 1), FLAT),
    "monai/Quicknat": Network(lambda: _monai("Quicknat", num_classes=2, num_channels=1, num_filters=8), FLAT),
    "monai/RegUNet": Network(lambda: _monai("RegUNet", 2, 1, 8, 2, out_channels=2), FLAT),
    "monai/Regressor": Network(lambda: _monai("Regressor", FLAT, (2,), **LEVELS), FLAT),
    "monai/ResNet10-3D": Network(
        lambda: _monai("resnet10", spatial_dims=3, n_input_channels=1, num_classes=3, widen_factor=0.25), SOLID
    ),
    "monai/ResNet18": Network(
        lambda: _monai("resnet18", spatial_dims=2, n_input_channels=1, num_classes=3), (1, 96, 96)
    ),
    "monai/SEResNet50": Network(
        lambda: _monai("SEResNet50", spatial_dims=2, in_channels=1, num_classes=3), (1, 96, 96)
    ),
    "monai/SegResNet": Network(lambda: _monai("SegResNet", 2), FLAT),
    "monai/SegResNet-3D": Network(lambda: _monai("SegResNet", 3, blocks_down=(1, 1), blocks_up=(1,)), SOLID),
    "monai/SegResNetDS": Network(lambda: _monai("SegResNetDS", 2, init_filters=8, blocks_down=(1, 1, 1)), FLAT),
    "monai/SegResNetVAE": Network(lambda: _monai("SegResNetVAE", FLAT[1:], spatial_dims=2, vae_nz=16), FLAT),
    "monai/SwinUNETR": Network(
        lambda: _monai("SwinUNETR", 1, 2, spatial_dims=2, feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4)),
        FLAT,
    ),
    "monai/UNETR": Network(
        lambda: _monai(
            "UNETR", 1, 2, img_size=64, spatial_dims=2, hidden_size=48, mlp_dim=96, num_heads=4, feature_size=8
        ),
        FLAT,
    ),
    "monai/UNet": Network(lambda: _monai("UNet", 2, **_PLAIN, **LEVELS, num_res_units=1), FLAT),
    "monai/UNet-3D": Network(lambda: _monai("UNet", 3, **_PLAIN, channels=(4, 8, 16), strides=(2, 2)), SOLID),
    "monai/UNet-norm-batch": Network(lambda: _monai("UNet", 2, **_PLAIN, **LEVELS, norm="batch"), FLAT),
    "monai/VNet": Network(lambda: _monai("VNet", 2, 1, 2), FLAT),
    "monai/VQVAE": Network(
        lambda: _monai(
            "VQVAE",
            2,
            1,
            1,
            channels=(8, 16),
            num_res_layers=1,
            num_res_channels=(8, 16),
            embedding_dim=8,
            downsample_parameters=((2, 4, 1, 1),) * 2,
            upsample_parameters=((2, 4, 1, 1, 0),) * 2,
        ),
        FLAT,
    ),
    "monai/VarAutoEncoder": Network(
        lambda: _monai(
            "VarAutoEncoder", 2, FLAT, 1, latent_size=4, channels=(8, 16), strides=(2, 2), use_mean_at_inference=True
        ),
        FLAT,
    ),
    "cellpose/CPnet": Network(lambda: _of("cellpose.resnet_torch", "CPnet", [2, 8, 16, 32], 3, 3), (2, 64, 64)),
    "unet/UNet2D-pad": Network(
        lambda: _of("unet", "UNet2D", padding=1, num_encoding_blocks=3, out_channels_first_layer=8), FLAT
    ),
    "unet/UNet2D-valid": Network(
        lambda: _of("unet", "UNet2D", padding=0, num_encoding_blocks=3, out_channels_first_layer=8), (1, 92, 92)
    ),
    "pytorch3dunet/ResidualUNet3D": Network(lambda: _unet3d("ResidualUNet3D"), (1, 16, 32, 32)),
    "pytorch3dunet/ResidualUNetSE3D": Network(lambda: _unet3d("ResidualUNetSE3D"), (1, 16, 32, 32)),
    "pytorch3dunet/UNet2D": Network(lambda: _unet3d("UNet2D"), FLAT),
    "pytorch3dunet/UNet3D": Network(lambda: _unet3d("UNet3D"), SOLID),
}
