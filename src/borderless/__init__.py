"""borderless: find out whether a CNN uses *where* things are, and get the same CNN without that ability.

Sizes are (height, width), positions (row, column), images (batch, channels, height, width) in floating point; a shift
(dy, dx) moves content down and right.
"""

from borderless import nn, rules, testing
from borderless.audit.measure import Audit, audit
from borderless.blur import blur
from borderless.borders import BORDERS, Border
from borderless.convert import border_of, bordered, convert, convert_, revert_
from borderless.errors import (
    ApproximatePhaseWarning,
    BorderError,
    BorderlessError,
    ConversionError,
    ImageError,
    PositionDependentError,
    PositionDependentWarning,
    RoundingWarning,
    SignalError,
    UnsupportedOperation,
)
from borderless.explain import Explanation, explain
from borderless.freeze import freeze
from borderless.measures.equivariance import equivariance_error
from borderless.measures.shifts import consistency, diagonal
from borderless.onnx import save_onnx
from borderless.place import place
from borderless.rules import gradients as _gradients  # noqa: F401  the families register their rules on import
from borderless.rules import normalisation as _normalisation  # noqa: F401
from borderless.rules import pointwise as _pointwise  # noqa: F401
from borderless.rules import reductions as _reductions  # noqa: F401
from borderless.rules import resampling as _resampling  # noqa: F401
from borderless.rules import scripted as _scripted  # noqa: F401
from borderless.rules import shapes as _shapes  # noqa: F401
from borderless.rules import sliding as _sliding  # noqa: F401
from borderless.signal import Signal

__version__ = "0.1.0"

__all__ = [
    "BORDERS",
    "ApproximatePhaseWarning",
    "Audit",
    "Border",
    "BorderError",
    "BorderlessError",
    "ConversionError",
    "Explanation",
    "ImageError",
    "PositionDependentError",
    "PositionDependentWarning",
    "RoundingWarning",
    "Signal",
    "SignalError",
    "UnsupportedOperation",
    "audit",
    "blur",
    "border_of",
    "bordered",
    "consistency",
    "convert",
    "convert_",
    "diagonal",
    "equivariance_error",
    "explain",
    "freeze",
    "nn",
    "place",
    "revert_",
    "rules",
    "save_onnx",
    "testing",
]
