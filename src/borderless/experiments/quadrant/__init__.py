"""Read the quadrant of a picture from features, inside a growing border."""
