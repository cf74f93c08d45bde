"""Training: one plain loop that every trained experiment uses."""

import lazy_loader

# Loaded when asked for: settings name networks and trainings without PyTorch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
