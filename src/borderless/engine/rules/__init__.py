"""How each function that a model calls acts on a Signal: one file a family, all registered on import."""

from borderless.engine.rules import (
    casts,
    gradients,
    indexing,
    normalization,
    padding,
    pointwise,
    queries,
    reductions,
    repeating,
    resampling,
    reshaping,
    scripted,
    sliding,
    splitting,
    unknown,
    writing,
)

__all__ = [
    "casts",
    "gradients",
    "indexing",
    "normalization",
    "padding",
    "pointwise",
    "queries",
    "reductions",
    "repeating",
    "resampling",
    "reshaping",
    "scripted",
    "sliding",
    "splitting",
    "unknown",
    "writing",
]
