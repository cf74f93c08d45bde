"""Classify motions in clips with 3D networks."""
