"""borderless: find out whether a CNN uses *where* things are, and get the same CNN without that ability.

Sizes are (height, width), positions (row, column), images (batch, channels, height, width) in floating point; a shift
(dy, dx) moves content down and right.
"""

from borderless import nn, rules, testing
from borderless.antialiasing import blur
from borderless.auditing.run import Audit, audit
from borderless.conversion import border_of, bordered, convert, convert_, revert_
from borderless.engine.border import BORDERS, Border
from borderless.engine.signal import Signal
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
from borderless.explanation import Explanation, explain
from borderless.export.exported_program import freeze
from borderless.export.onnx_file import save_onnx
from borderless.measures.equivariance import equivariance_error
from borderless.measures.shift_consistency import consistency, diagonal
from borderless.placement.place import place
from borderless.runtime.version import __version__ as __version__

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
