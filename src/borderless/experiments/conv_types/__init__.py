"""Compare valid, same and full convolution on one white pixel."""
