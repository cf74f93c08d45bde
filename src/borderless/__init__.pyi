# The public names and the modules that define them; type checkers and `__init__.py` read them here.
from . import nn as nn
from . import rules as rules
from . import testing as testing
from .antialiasing import blur as blur
from .auditing.run import Audit as Audit
from .auditing.run import audit as audit
from .conversion import border_of as border_of
from .conversion import bordered as bordered
from .conversion import convert as convert
from .conversion import convert_ as convert_
from .conversion import revert_ as revert_
from .engine.border import BORDERS as BORDERS
from .engine.border import Border as Border
from .engine.signal import Signal as Signal
from .errors import ApproximatePhaseWarning as ApproximatePhaseWarning
from .errors import BorderError as BorderError
from .errors import BorderlessError as BorderlessError
from .errors import ConversionError as ConversionError
from .errors import ImageError as ImageError
from .errors import PositionDependentError as PositionDependentError
from .errors import PositionDependentWarning as PositionDependentWarning
from .errors import RoundingWarning as RoundingWarning
from .errors import SignalError as SignalError
from .errors import StorageError as StorageError
from .errors import UnsupportedOperation as UnsupportedOperation
from .explanation import Explanation as Explanation
from .explanation import explain as explain
from .export.exported_program import freeze as freeze
from .export.onnx_file import save_onnx as save_onnx
from .measures.equivariance import equivariance_error as equivariance_error
from .measures.shift_consistency import consistency as consistency
from .measures.shift_consistency import diagonal as diagonal
from .placement.place import place as place
from .tiling.tile import tile as tile

__version__: str
