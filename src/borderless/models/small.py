"""Small CNNs for images and clips of a few dozen pixels, and classifiers by name.

Shapes: images n × channels × height × width; clips n × 3 × frames × height × width; logits n × classes.
"""

from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn

from borderless.models.choices import SMALL
from borderless.models.loading import load
from borderless.runtime.evaluation import one_thread, seeded

STRIDE_PX = 4


def network(seed: int, channels: int = 1, classes: int = 10) -> nn.Sequential:
    """Return four convolutions with BatchNorm, strides 2, 2, 1, 1, and a global average: about 24,000 parameters."""
    layers: list[nn.Module] = []
    inputs = channels
    with seeded(seed):
        for outputs, kernel, stride in ((16, 5, 2), (32, 3, 2), (32, 3, 1), (32, 3, 1)):
            layers += [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def classifier(arch: str, classes: int, seed: int) -> nn.Module:
    """Return `arch` with random weights, for images in color: "small", or any name that `load` knows."""
    if arch == SMALL:
        return network(seed, channels=3, classes=classes)
    with seeded(seed):
        return load(arch, num_classes=classes)


def few_threads(arch: str) -> AbstractContextManager[None]:
    """Run "small" on one thread in a with-block, where more would only wait for each other; others as they are."""
    return one_thread() if arch == SMALL else nullcontext()


class ClipNet(nn.Module):
    """Three 3D convolutions with strides, global average; space and time are padded by `padding` cells."""

    def __init__(self, classes: int, space: int, time: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs, stride in ((16, (1, 2, 2)), (32, 2), (64, 2)):
            convolution = nn.Conv3d(inputs, outputs, 3, stride, (time, space, space), bias=False)
            layers += [convolution, nn.BatchNorm3d(outputs), nn.ReLU()]
            inputs = outputs
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, clips: Tensor) -> Tensor:
        """Return logits n × classes."""
        return self.classifier(self.features(clips))
