"""Assertions for the tests of people who use borderless."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from borderless.engine.torch_internals import tree_leaves
from borderless.measures.equivariance import equivariance_error
from borderless.tiling.differences import first_difference
from borderless.tiling.runner import Grid
from borderless.tiling.sources import tiled_image
from borderless.tiling.tile import tile as run_on_tiles
from borderless.tiling.tile import tile_size


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


def assert_tiled_equals_whole(
    model: nn.Module,
    image: Tensor,
    *,
    tile: int | Sequence[int],
    tolerance: float = 1e-5,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> None:
    """Raise AssertionError, naming the first call whose parts differ, if `model` on tiles does not equal the whole.

    Args:
        model: What `borderless.tile` takes.
        image: (N, C, *space).
        tile: Pixels along each axis, one number or one an axis; smaller than the image.
        tolerance: The largest difference, relative to the largest value of an output.
        args: What the model takes after the image.
        kwargs: What it takes by name.

    Example:
        >>> import torch, borderless as bl
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.MaxPool2d(2)).eval()
        >>> bl.testing.assert_tiled_equals_whole(model, torch.rand(1, 1, 30, 20), tile=8)
    """
    source = tiled_image(model, image)
    steps = tile_size(model, source, tile, None)
    if all(step >= n for step, n in zip(steps, source.size, strict=True)):
        raise ValueError(f"Expected tiles smaller than the image but got tile={tile!r} for {source.size} pixels")
    with torch.no_grad():
        whole = tree_leaves(model(image, *args, **(kwargs or {})))
    parts = tree_leaves(run_on_tiles(model, image, tile=tile, args=args, kwargs=kwargs))
    for number, (expected, found) in enumerate(zip(whole, parts, strict=True)):
        if not isinstance(expected, Tensor):
            continue
        scale = float(expected.abs().max()) or 1.0
        error = float((found - expected).abs().max()) / scale if found.shape == expected.shape else float("inf")
        if not error <= tolerance:
            first = first_difference(model, source, Grid.regular(source.size, steps), args, kwargs or {}, tolerance)
            where = (
                "each call gives the same on parts as on one part, which is not the whole"
                if first is None
                else f"the first call whose parts differ is {first.call}, by {first.error:.3g}"
            )
            raise AssertionError(
                f"Expected output {number} of {type(model).__name__} in tiles of {steps} to equal the whole within "
                f"{tolerance:g} of its largest value but got a difference of {error:.3g}; {where}"
            )
