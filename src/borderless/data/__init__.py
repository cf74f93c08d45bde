"""Data sets: seeded, small ones embedded, split by source image."""
