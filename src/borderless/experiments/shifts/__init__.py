"""Measure how consistent classifiers are when images move."""
