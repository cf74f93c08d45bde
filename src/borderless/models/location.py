"""The two small networks with which the paper shows that convolutions read location: Rook and Red-Green."""

from torch import Tensor, nn
from torch.nn import functional as F


class RookNet(nn.Module):
    """One filter, its largest response at any position, two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 1, 5, padding=2, bias=False)
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.classifier = nn.Linear(1, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits n × 2."""
        return self.classifier(self.pool(F.relu(self.convolution(images))).flatten(1))


class RedGreenNet(nn.Module):
    """Logits n × 2 for images of any size; the receptive field is 17 pixels, the total stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(32, 32, 3, stride=2, padding=1, bias=False)
        self.conv3 = nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False)
        self.conv4 = nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False)
        self.classifier = nn.Linear(64, 2)
        self.pool = nn.AdaptiveMaxPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits n × 2."""
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            images = F.relu(convolution(images))
        return self.classifier(self.pool(images).flatten(1))
