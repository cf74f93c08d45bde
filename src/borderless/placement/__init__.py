"""Objects at many positions of a canvas, for the price of what they influence."""
