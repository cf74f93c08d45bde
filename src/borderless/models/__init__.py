"""Networks: those of the paper as published, those of timm and torchvision, and weights from a file."""

import lazy_loader

# Loaded when asked for: settings name networks and trainings without PyTorch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
