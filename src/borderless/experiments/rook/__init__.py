"""Locate a rook with one filter."""
