"""Learn the order of two colors, or the half of the image."""
