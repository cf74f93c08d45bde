"""Learn descriptors of patches from few pairs."""
