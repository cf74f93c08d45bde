"""The version, defined once: packaging, citations and records read it from here."""

__version__ = "0.1.0"
