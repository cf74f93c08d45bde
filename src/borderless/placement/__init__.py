"""Placement: a model's outputs for objects at many positions of a canvas, at the cost of what the objects influence."""
