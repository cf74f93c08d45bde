"""Measures of a model; drawing and verdicts are elsewhere."""
