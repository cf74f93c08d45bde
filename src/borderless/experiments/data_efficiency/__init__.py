"""Train classifiers on few images of each class."""
