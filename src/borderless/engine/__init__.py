"""Borders, Signals, and the rules by which PyTorch's functions act on them."""
