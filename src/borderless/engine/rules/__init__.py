"""How each function that a model calls acts on a Signal: one file a family, all registered on import."""

from borderless.engine.rules import (
    indexing,
    normalization,
    padding,
    pointwise,
    queries,
    reductions,
    resampling,
    reshaping,
    scripted,
    sliding,
    splitting,
)

__all__ = [
    "indexing",
    "normalization",
    "padding",
    "pointwise",
    "queries",
    "reductions",
    "resampling",
    "reshaping",
    "scripted",
    "sliding",
    "splitting",
]
