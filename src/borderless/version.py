"""The version, in one place: packaging, citations and records take it from here."""

__version__ = "0.1.0"
