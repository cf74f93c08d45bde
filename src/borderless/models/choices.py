"""Networks that settings choose from and default to; no import of PyTorch."""

from typing import Literal

# The network of `small`, by the name that settings give it.
SMALL = "small"

# The network of `packaged`, as timm calls it, and the height and width of its images in pixels.
ARCHITECTURE = "tf_efficientnet_lite0"
SIZE_PX = (224, 224)

# Of `features`: which weights a network has, and how it pools over space.
Init = Literal["scratch", "random", "pretrained"]
FeaturePool = Literal["paper", "own", "max"]
