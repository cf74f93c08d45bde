"""diffusers: autoencoders and denoising U-Nets, in small."""

from typing import Any

import diffusers
import torch
from torch import Tensor

from benchmarks.networks import Network

SHAPE = (3, 64, 64)
LEVELS = {"block_out_channels": (16, 32), "norm_num_groups": 4}
VAE_BLOCKS = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}


def _at_step(images: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (images, 3), {}


def _with_text(images: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Five tokens of eight channels an image."""
    tokens = torch.linspace(-1, 1, 40, dtype=images.dtype).reshape(1, 5, 8).expand(len(images), 5, 8)
    return (images, 3, tokens.contiguous()), {}


NETWORKS = {
    "diffusers/AutoencoderDC": Network(
        lambda: diffusers.AutoencoderDC(
            latent_channels=8,
            encoder_block_types="ResBlock",
            decoder_block_types="ResBlock",
            encoder_block_out_channels=(16, 32),
            decoder_block_out_channels=(16, 32),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            encoder_qkv_multiscales=((), ()),
            decoder_qkv_multiscales=((), ()),
        ),
        SHAPE,
    ),
    "diffusers/AutoencoderKL": Network(lambda: diffusers.AutoencoderKL(**VAE_BLOCKS, **LEVELS), SHAPE),
    "diffusers/AutoencoderKL-noattn": Network(
        lambda: diffusers.AutoencoderKL(**VAE_BLOCKS, **LEVELS, mid_block_add_attention=False), SHAPE
    ),
    "diffusers/AutoencoderTiny": Network(
        lambda: diffusers.AutoencoderTiny(
            encoder_block_out_channels=(16, 16),
            decoder_block_out_channels=(16, 16),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        ),
        SHAPE,
    ),
    "diffusers/UNet2DConditionModel": Network(
        lambda: diffusers.UNet2DConditionModel(
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=4,
            layers_per_block=1,
            **LEVELS,
        ),
        (4, 64, 64),
        _with_text,
    ),
    "diffusers/UNet2DModel-attn": Network(
        lambda: diffusers.UNet2DModel(
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            **LEVELS,
        ),
        SHAPE,
        _at_step,
    ),
    "diffusers/UNet2DModel-noattn": Network(
        lambda: diffusers.UNet2DModel(
            down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2,
            layers_per_block=1,
            add_attention=False,
            **LEVELS,
        ),
        SHAPE,
        _at_step,
    ),
    "diffusers/VQModel": Network(
        lambda: diffusers.VQModel(**VAE_BLOCKS, **LEVELS, mid_block_add_attention=False), SHAPE
    ),
}
