"""borderless: measure how much a PyTorch CNN depends on absolute position, and remove that dependence.

Sizes are (height, width), positions (row, column), images (batch, channels, height, width) in floating point; a shift
(dy, dx) moves content down and right.
"""

import lazy_loader

from borderless.version import __version__ as __version__

# What `__init__.pyi` names is imported when it is asked for: `borderless --help` does not wait for PyTorch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
