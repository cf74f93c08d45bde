"""Assertions for the tests of people who use borderless."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from borderless.measures.equivariance import equivariance_error


def assert_equivariant(
    model: nn.Module, images: Tensor, shifts: Sequence[tuple[int, int]], *, tolerance: float = 1e-5, **options: Any
) -> None:
    """Raise AssertionError, naming the worst shift, if an output changes by more than `tolerance` (relative).

    Takes the arguments of `borderless.equivariance_error`.
    """
    errors = equivariance_error(model, images, shifts, **options)
    # A comparison that NaN fails as well.
    if not bool((errors <= tolerance).all()):
        worst = int(errors.nan_to_num(float("inf")).argmax())
        raise AssertionError(
            f"the output of {type(model).__name__} changes by {errors[worst]:.3g} of its largest value when the image "
            f"moves by {tuple(shifts[worst])} pixels (down, right); needed: at most {tolerance:g}"
        )
