"""Images of unequal sizes in one pass of a model, each as if it were alone."""
