"""Move a photograph over an empty canvas."""
