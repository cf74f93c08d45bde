"""Classifiers and descriptors of small packages."""

import importlib
from typing import Any

from torch import Tensor, nn

from benchmarks.networks import Network


def _of(package: str, name: str, *args: Any, **options: Any) -> nn.Module:
    return getattr(importlib.import_module(package), name)(*args, **options)


def _pretrained(name: str) -> nn.Module:
    return importlib.import_module("pretrainedmodels").__dict__[name](num_classes=1000, pretrained=None)


def _fastai() -> nn.Module:
    models = importlib.import_module("torchvision.models")
    return _of("fastai.vision.learner", "create_vision_model", models.resnet18, 4, pretrained=False)


def _against_another(images: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Of two images that LPIPS compares, the second is an empty one."""
    return (images, images.new_zeros(images.shape)), {}


NETWORKS = {
    f"antialiased_cnns/{name}": Network(lambda name=name: _of("antialiased_cnns", name, pretrained=False), shape)
    for name, shape in {
        "alexnet": (3, 224, 224),
        "densenet121": (3, 96, 96),
        "mobilenet_v2": (3, 96, 96),
        "resnet18": (3, 96, 96),
        "vgg11_bn": (3, 64, 64),
    }.items()
}
NETWORKS |= {
    "efficientnet_pytorch/b0": Network(
        lambda: importlib.import_module("efficientnet_pytorch").EfficientNet.from_name("efficientnet-b0", image_size=96)
    ),
    "efficientnet_pytorch/b0-dynamic": Network(
        lambda: importlib.import_module("efficientnet_pytorch").EfficientNet.from_name(
            "efficientnet-b0", image_size=None
        )
    ),
    "facenet_pytorch/InceptionResnetV1": Network(
        lambda: _of("facenet_pytorch", "InceptionResnetV1", classify=True, num_classes=10), (3, 128, 128)
    ),
    "facenet_pytorch/InceptionResnetV1-embed": Network(
        lambda: _of("facenet_pytorch", "InceptionResnetV1"), (3, 128, 128)
    ),
    "facenet_pytorch/ONet": Network(lambda: _of("facenet_pytorch", "ONet", pretrained=False), (3, 48, 48)),
    "facenet_pytorch/PNet": Network(lambda: _of("facenet_pytorch", "PNet", pretrained=False), (3, 64, 64)),
    "facenet_pytorch/RNet": Network(lambda: _of("facenet_pytorch", "RNet", pretrained=False), (3, 24, 24)),
    "fastai/create_vision_model-resnet18(concat pool)": Network(_fastai),
    "fastai/xresnet18": Network(lambda: _of("fastai.vision.models.xresnet", "xresnet18", n_out=4)),
    "lpips/alex": Network(
        lambda: _of("lpips", "LPIPS", pnet_rand=True, pretrained=False, verbose=False),
        (3, 64, 64),
        _against_another,
    ),
    "lpips/squeeze-spatial": Network(
        lambda: _of("lpips", "LPIPS", net="squeeze", pnet_rand=True, pretrained=False, spatial=True, verbose=False),
        (3, 64, 64),
        _against_another,
    ),
    "pretrainedmodels/alexnet": Network(lambda: _pretrained("alexnet"), (3, 224, 224)),
    "pretrainedmodels/bninception": Network(lambda: _pretrained("bninception"), (3, 224, 224)),
    "pretrainedmodels/dpn68": Network(lambda: _pretrained("dpn68"), (3, 224, 224)),
    "pretrainedmodels/se_resnext50_32x4d": Network(lambda: _pretrained("se_resnext50_32x4d"), (3, 224, 224)),
    "pretrainedmodels/xception": Network(lambda: _pretrained("xception")),
    "resnest/resnest50": Network(lambda: _of("resnest.torch", "resnest50", pretrained=False)),
    "torchxrayvision/DenseNet": Network(lambda: _of("torchxrayvision.models", "DenseNet"), (1, 96, 96)),
}
