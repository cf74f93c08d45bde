"""Compare shifting before a convolution with shifting after it."""
