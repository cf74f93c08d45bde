"""A network evaluated on parts of its input, each exactly equal to the whole: tiles of an image, chunks of a stream."""
