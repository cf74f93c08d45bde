"""Errors and warnings of borderless. Each text says what was expected, what it got, and what to do."""


class BorderlessError(Exception):
    """Base class of all errors of this library."""


class BorderError(BorderlessError, ValueError):
    """A border, or an option of one, that does not exist or would have no effect."""


class ImageError(BorderlessError, ValueError):
    """An image that the model cannot take under this border: its type, device, or size."""


class ConversionError(BorderlessError, TypeError):
    """A model that cannot be converted, reverted or frozen as asked, or that is called past its border."""


class SignalError(BorderlessError, TypeError):
    """A Signal was asked for values that only an ordinary tensor has."""


class UnsupportedOperation(BorderlessError, NotImplementedError):
    """The model called a function for which borderless has no rule, or which it cannot run exactly."""


class NotCausal(UnsupportedOperation):
    """The model reads all of the axis along which a stream runs, or further ahead than it may."""


class StreamError(BorderlessError, ValueError):
    """A chunk that does not go on with its stream, a stream that has ended, or a state of another one."""


class BatchError(BorderlessError, ValueError):
    """Images that cannot be evaluated in one batch: none, other channels, types or devices, or an adaptive phase."""


class PositionDependentError(BorderlessError):
    """With ``strict=True``: the model read absolute position, in the named module."""


class StorageError(BorderlessError, OSError):
    """Files that cannot be written: the disk is full, for example, or the folder belongs to somebody else."""


class UnknownName(BorderlessError, ValueError):
    """A network, a library, or weights that do not exist under that name."""


class CheckpointError(BorderlessError, ValueError):
    """A file that holds no weights which can be read without running code from it."""


class WeightMismatch(BorderlessError, ValueError):
    """Weights that do not belong to the network."""


class WeightsUnavailable(BorderlessError, OSError):
    """Weights that have to be downloaded, and could not be."""


class DataError(BorderlessError, ValueError):
    """Data that is missing, cannot be read, or is too little."""


class TrainingError(BorderlessError, ValueError):
    """A training that cannot start, go on, or be resumed."""


class MissingPackage(BorderlessError, ImportError):
    """A package of an extra that is not installed."""


class PositionDependentWarning(UserWarning):
    """The named module reads absolute position; from there on the model runs on the map cropped to its frame."""


class ApproximatePhaseWarning(UserWarning):
    """``phase="adaptive"`` was asked for under a border that makes it approximate."""


class RoundingWarning(UserWarning):
    """A mean over space is many times larger than what it averages, so that later layers lose digits."""


class RunError(BorderlessError):
    """A run of an experiment that cannot start or go on: its folder, its cells, or a result that cannot be written."""


class ConfigError(BorderlessError, ValueError):
    """A setting that an experiment or a command cannot run with."""


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C during a run. Finished cells are kept; the text says how to go on."""


class CorruptResultWarning(UserWarning):
    """A result file that cannot be read; its cell runs again."""


class OtherVersionWarning(UserWarning):
    """Results that were made with other versions than those that run now; they are kept."""


class LargeCellWarning(UserWarning):
    """No machine of the cluster has room for a cell."""
