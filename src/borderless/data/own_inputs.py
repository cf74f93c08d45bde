"""Make a picture the input of a network by somebody's own function, and check what that returns."""

from collections.abc import Callable
from typing import Any

from PIL import Image
from torch import Tensor

from borderless.errors import DataError


def preprocessed(image: Image.Image, preprocess: Callable[[Image.Image], Any]) -> Tensor:
    """Return the input (C, H, W) that `preprocess` makes of a picture in color.

    Raises:
        DataError: It fails, or returns something else.
    """
    try:
        found = preprocess(image)
    except Exception as error:  # the caller's code may raise anything
        line = next(iter(str(error).splitlines()), "")
        raise DataError(
            f"Expected an input (C, H, W) from the preprocessing of a picture but got {type(error).__name__}: {line}; "
            "it is called with a PIL image in color."
        ) from error
    if not isinstance(found, Tensor) or found.ndim != 3 or not found.is_floating_point():
        got = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise DataError(
            f"Expected a floating-point tensor (C, H, W) from the preprocessing of a picture but got {got}; convert it "
            "there, for example with torchvision.transforms.functional.to_tensor."
        )
    return found
