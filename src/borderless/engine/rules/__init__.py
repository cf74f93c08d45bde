"""How each function that a model calls acts on a Signal: one file a family, all registered on import."""

from borderless.engine.rules import (
    after_leaving,
    gradients,
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
    unknown,
)

__all__ = [
    "after_leaving",
    "gradients",
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
    "unknown",
]
