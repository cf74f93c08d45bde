"""transformers: its convolutional networks, in small, and some that attend."""

from collections.abc import Callable
from typing import Any

import transformers
from torch import Tensor, nn

from benchmarks.networks import Network

STAGES = {"hidden_sizes": [16, 32, 64, 64], "depths": [1, 1, 1, 1], "num_labels": 4}
SEGMENTED = {**STAGES, "num_labels": 3}


def _model(name: str, config: str | None = None, **options: Any) -> Callable[[], nn.Module]:
    """The network `name` with random weights; its configuration is that of the same family unless named."""

    def build() -> nn.Module:
        family = config or f"{name.rpartition('For')[0]}Config"
        return getattr(transformers, name)(getattr(transformers, family)(**options))

    return build


def _backbone(name: str, **options: Any) -> Callable[[], nn.Module]:
    return _model(f"{name}Backbone", f"{name}Config", out_features=["stage2", "stage4"], **options)


def _dpt_hybrid() -> nn.Module:
    """The convolutional backbone of DPT-hybrid, BiT."""
    return transformers.BitBackbone(transformers.BitConfig(**BIT, out_features=["stage2", "stage4"]))


def _resnet_config(**options: Any) -> Any:
    return transformers.ResNetConfig(embedding_size=16, **STAGES, **options)


def _detr(name: str) -> nn.Module:
    config = getattr(transformers, f"{name}Config")(
        backbone=None,
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone_config=_resnet_config(out_features=["stage4"]),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=4,
    )
    return getattr(transformers, f"{name}ForObjectDetection")(config)


def _upernet() -> nn.Module:
    stages = transformers.ConvNextConfig(**STAGES, out_features=["stage1", "stage2", "stage3", "stage4"])
    return transformers.UperNetForSemanticSegmentation(
        transformers.UperNetConfig(
            backbone=None,
            backbone_config=stages,
            hidden_size=16,
            auxiliary_channels=16,
            num_labels=3,
            auxiliary_in_channels=64,
        )
    )


def _waveform(images: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (images[:, 0],), {}


def _mel_last(images: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (images.transpose(1, 2),), {}


def _as_tuple(images: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (images,), {"return_dict": False}


def _two_frames(images: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Pairs of images to match, (N, 2, C, H, W)."""
    return (images[:, None].expand(-1, 2, -1, -1, -1).contiguous(),), {}


BIT = {"embedding_size": 16, "num_groups": 4, **STAGES}
NETWORKS = {
    "transformers/BitForImageClassification": Network(_model("BitForImageClassification", **BIT)),
    "transformers/BitForImageClassification-SAME": Network(
        _model("BitForImageClassification", **BIT, global_padding="SAME")
    ),
    "transformers/ConvNextForImageClassification": Network(_model("ConvNextForImageClassification", **STAGES)),
    "transformers/ConvNextV2ForImageClassification": Network(_model("ConvNextV2ForImageClassification", **STAGES)),
    "transformers/CvtForImageClassification": Network(
        _model("CvtForImageClassification", embed_dim=[16, 16, 32], num_heads=[1, 1, 2], depth=[1, 2, 3], num_labels=4)
    ),
    "transformers/DPT-hybrid/none-Timm": Network(_dpt_hybrid),
    "transformers/DFine/none EfficientLoFTR": Network(
        _model("EfficientLoFTRForKeypointMatching", "EfficientLoFTRConfig"),
        (1, 64, 64),
        _two_frames,
        {"pixel_values": "NBCHW"},
    ),
    "transformers/DacModel": Network(
        _model(
            "DacModel",
            "DacConfig",
            encoder_hidden_size=8,
            decoder_hidden_size=32,
            downsampling_ratios=[2, 2],
            upsampling_ratios=[2, 2],
            n_codebooks=2,
        ),
        (1, 512),
    ),
    "transformers/DetrForObjectDetection": Network(lambda: _detr("Detr"), (3, 128, 128)),
    "transformers/EncodecModel": Network(
        _model(
            "EncodecModel",
            "EncodecConfig",
            num_filters=4,
            hidden_size=16,
            num_lstm_layers=1,
            upsampling_ratios=[2, 2],
            codebook_dim=16,
            codebook_size=32,
            sampling_rate=800,
            norm_type="time_group_norm",
        ),
        (1, 512),
    ),
    "transformers/FocalNetForImageClassification": Network(
        _model(
            "FocalNetForImageClassification",
            image_size=96,
            embed_dim=16,
            depths=[1, 1, 1, 1],
            hidden_sizes=[16, 32, 64, 64],
            num_labels=4,
        )
    ),
    "transformers/HGNetV2": Network(_model("HGNetV2ForImageClassification", "HGNetV2Config", num_labels=4)),
    "transformers/MobileNetV1ForImageClassification": Network(
        _model("MobileNetV1ForImageClassification", depth_multiplier=0.25, num_labels=4)
    ),
    "transformers/MobileNetV2ForImageClassification": Network(
        _model("MobileNetV2ForImageClassification", depth_multiplier=0.35, num_labels=4)
    ),
    "transformers/MobileNetV2ForSemanticSegmentation": Network(
        _model("MobileNetV2ForSemanticSegmentation", depth_multiplier=0.35, num_labels=3)
    ),
    "transformers/MobileViTForImageClassification": Network(
        _model(
            "MobileViTForImageClassification",
            image_size=128,
            hidden_sizes=[16, 24, 32],
            neck_hidden_sizes=[8, 16, 16, 24, 24, 32, 64],
            num_labels=4,
        ),
        (3, 128, 128),
    ),
    "transformers/PoolFormerForImageClassification": Network(
        _model("PoolFormerForImageClassification", depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 64, 64], num_labels=4)
    ),
    "transformers/RegNetForImageClassification": Network(
        _model("RegNetForImageClassification", embedding_size=16, groups_width=8, **STAGES)
    ),
    "transformers/ResNet-bottleneck-tuple": Network(
        lambda: transformers.ResNetForImageClassification(_resnet_config()), (3, 96, 96), _as_tuple
    ),
    "transformers/ResNetBackbone": Network(
        lambda: transformers.ResNetBackbone(_resnet_config(out_features=["stage2", "stage4"], layer_type="basic"))
    ),
    "transformers/ResNetForImageClassification": Network(
        lambda: transformers.ResNetForImageClassification(_resnet_config(layer_type="basic"))
    ),
    "transformers/SegformerForSemanticSegmentation": Network(
        _model(
            "SegformerForSemanticSegmentation",
            hidden_sizes=[8, 16, 32, 32],
            depths=[1, 1, 1, 1],
            decoder_hidden_size=16,
            num_labels=3,
        )
    ),
    "transformers/SuperPoint": Network(
        _model(
            "SuperPointForKeypointDetection",
            encoder_hidden_sizes=[8, 8, 16, 16],
            decoder_hidden_size=32,
            keypoint_decoder_dim=65,
            descriptor_decoder_dim=32,
        ),
        (3, 96, 96),
    ),
    "transformers/Swin2SR": Network(
        _model("Swin2SRForImageSuperResolution", embed_dim=16, depths=[1], num_heads=[2], image_size=64), (3, 64, 64)
    ),
    "transformers/TableTransformer": Network(lambda: _detr("TableTransformer"), (3, 128, 128)),
    "transformers/TextNetForImageClassification": Network(_model("TextNetForImageClassification", num_labels=4)),
    "transformers/UnivNet/none VitsHifigan": Network(
        _model(
            "SpeechT5HifiGan",
            "SpeechT5HifiGanConfig",
            model_in_dim=20,
            upsample_initial_channel=16,
            upsample_rates=[2, 2],
            upsample_kernel_sizes=[4, 4],
        ),
        (20, 64),
        _mel_last,
    ),
    "transformers/UperNetForSemanticSegmentation-convnext": Network(_upernet),
    "transformers/Wav2Vec2ForCTC(1-D conv front end)": Network(
        _model(
            "Wav2Vec2ForCTC",
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            conv_dim=[8] * 7,
            num_conv_pos_embedding_groups=2,
        ),
        (1, 4096),
        _waveform,
        {"input_values": "NT"},
    ),
}
