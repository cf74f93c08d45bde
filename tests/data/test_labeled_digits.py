"""Digits with labels: what the seed decides, and where they are."""

import torch

from borderless.data.labeled_digits import digits_anywhere, digits_in_clutter


def test_the_seed_draws_the_clutter_and_goes_to_random_transforms() -> None:
    clutter, again = digits_in_clutter(48, 5), digits_in_clutter(48, 5)
    assert clutter.train.seed == clutter.test.seed == 5
    assert (len(clutter.train), len(clutter.validation), len(clutter.test)) == (1077, 360, 360)
    assert torch.equal(clutter.test.images, again.test.images)
    assert clutter.train[0][0].shape == (1, 48, 48)


def test_anywhere_is_anywhere() -> None:
    anywhere = digits_anywhere(32, 0)
    assert anywhere.train[0][0].shape == (1, 32, 32)
    columns = [int(image[0].sum(0).nonzero()[0]) for image in anywhere.train.images[:100]]
    assert min(columns) < 5 and max(columns) > 14
