"""Sizes with a number for each image."""

import math
from typing import Any

import pytest

from borderless.batching.sizes import SizePerImage, has_sizes, of_image, per_image


def size(*of: int, is_read_by_model: bool = True) -> Any:
    return per_image(max(of), of, lambda reason: LookupError(reason), lambda: is_read_by_model)


def test_arithmetic_acts_on_each() -> None:
    n = size(9, 12)
    for found, expected in (
        (n // 2, (4, 6)),
        (2 * n - n % 5, (14, 22)),
        (100 - n, (91, 88)),
        (math.ceil(n / 2), (5, 6)),
        (math.floor(n * 0.25), (2, 3)),
        (round(n / 4), (2, 3)),
        (math.prod([2, n, n]), (162, 288)),
        (-n, (-9, -12)),
        (n * size(1, 2), (9, 24)),
    ):
        assert isinstance(found, SizePerImage) and found.of == expected


def test_what_is_the_same_for_all_is_an_ordinary_number() -> None:
    assert type(size(9, 12) - size(8, 11)) is int
    assert type(size(9, 9)) is int


def test_comparisons_are_answered_where_they_agree() -> None:
    n = size(9, 12)
    assert n > 8 and n < 13 and n != 10.5 and n == size(9, 12) and max(n, 3) is n and bool(n)
    for compare in (lambda: n > 10, lambda: n == 12, lambda: n <= size(9, 11), lambda: int(n)):
        with pytest.raises(LookupError):
            compare()
    rule_reads = size(9, 12, is_read_by_model=False)
    assert rule_reads == 12 and rule_reads > 10 and int(rule_reads) == 12


def test_the_numbers_of_one_image() -> None:
    index = (slice(None), slice(1, size(9, 12)), [size(3, 4), "x"])
    assert has_sizes(index) and not has_sizes((slice(None), 3))
    assert of_image(index, 0) == (slice(None), slice(1, 9), [3, "x"])
    assert of_image(index, None) == (slice(None), slice(1, 12), [4, "x"])
