"""Networks to look at: those of the paper as published, those of timm and torchvision, and weights from a file."""

from borderless.models.catalogue import names
from borderless.models.loading import load

__all__ = ["load", "names"]
