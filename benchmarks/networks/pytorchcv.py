"""pytorchcv: classifiers at 96 pixels, those of CIFAR at 64, segmentation and pose networks."""

import torch
from pytorchcv.model_provider import get_model
from torch import nn

from benchmarks.networks import Network

CLASSIFIERS = """bam_resnet18 bninception cbam_resnet18 channelnet condensenet74_c4_g4 darts diaresnet20_cifar10
dicenet_wd5 diracnet18v2 efficientnet_b0b espnetv2_wd2 fdmobilenet_wd4 fractalnet_cifar10 ghostnet hardnet39ds igcv3_wd4
isqrtcovresnet50 menet108_8x1_g3 mixnet_s mobilenet_wd4 mobilenetv3_small_w7d20 nin_cifar10 octresnet10_ad2 peleenet
preresnet10 preresnet20_cifar10 regnetx002 resdropresnet20_cifar10 resnesta18 rir_cifar10 ror3_56_cifar10
sepreresnet20_cifar10 shakedropresnet20_cifar10 shakeshakeresnet20_2x16d_cifar10 shufflenet_g1_wd4 sknet50 spnasnet
sqnxt23_w1 xdensenet40_2_k24_bc_cifar10""".split()
POSE = """alphapose_fastseresnet101b_coco centernet_resnet18_coco lwopenpose2d_mobilenet_cmupan_coco
simplepose_mobile_resnet18_coco simplepose_resnet18_coco""".split()
SEGMENTATION = """cgnet_cityscapes dabnet_cityscapes danet_resnetd50b_cityscapes edanet_cityscapes enet_cityscapes
erfnet_cityscapes esnet_cityscapes fastscnn_cityscapes fcn8sd_resnetd50b_voc fpenet_cityscapes
icnet_resnetd50b_cityscapes linknet_cityscapes pspnet_resnetd50b_voc segnet_cityscapes sqnet_cityscapes
unet_cityscapes""".split()


def _classifier(name: str, canvas_px: int) -> nn.Module:
    """The last average pool covers the map of 224 pixels (of 32); here, that of the canvas."""
    model = get_model(name)
    for place, pool in model.named_modules():
        if place.endswith("final_pool") and isinstance(pool, nn.AvgPool2d) and isinstance(pool.kernel_size, int):
            pool.kernel_size = pool.kernel_size * canvas_px // (32 if "cifar" in name else 224)
    for place, buffer in model.named_buffers():
        if place.endswith(".index"):  # CondenseNet: the channels that training keeps; untrained, the first for all
            buffer.copy_(torch.arange(len(buffer)))
    return model


def _sized(name: str, canvas_px: int) -> nn.Module:
    return get_model(name, in_size=(canvas_px, canvas_px))


NETWORKS = {}
for name in CLASSIFIERS:
    canvas_px = 32 if "fractalnet" in name else 64 if "cifar" in name else 96
    NETWORKS[f"pytorchcv/{name}"] = Network(
        lambda name=name, canvas_px=canvas_px: _classifier(name, canvas_px), (3, canvas_px, canvas_px)
    )
for name in POSE:
    NETWORKS[f"pytorchcv-pose/{name}"] = Network(lambda name=name: _sized(name, 96))
for name in SEGMENTATION:
    NETWORKS[f"pytorchcv-seg/{name}"] = Network(lambda name=name: _sized(name, 96))
