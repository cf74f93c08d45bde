"""How each function that a model calls acts on a Signal: one file a family, all registered on import."""

from borderless.engine.rules import (
    gradients,
    indexing,
    normalization,
    padding,
    pointwise,
    pools,
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
    "gradients",
    "indexing",
    "normalization",
    "padding",
    "pointwise",
    "pools",
    "queries",
    "reductions",
    "resampling",
    "reshaping",
    "scripted",
    "sliding",
    "splitting",
    "unknown",
]
