"""The endless plane by brute force: the unmodified model on a hugely padded image.

The outer part of the padding is NaN, as wide as the total stride so that no layer's last cell can skip it. What could
read the canvas' edge, and so the model's own padding, turns to NaN; every other cell is a cell of the endless plane.
Cell j of the model's own map is cell j + padding/stride of the large one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import borderless as bl


def on_a_huge_canvas(model: nn.Module, images: Tensor, padding_px: int, stride: int) -> Tensor:
    """The model's map of images [N, 3, H, W] far inside an empty canvas: [N, C, h + 2 padding/stride, w + the same]."""
    assert padding_px % stride == 0
    huge = F.pad(images, [padding_px - stride] * 4)
    huge = F.pad(huge, [stride] * 4, value=torch.nan)
    with torch.inference_mode():
        return model(huge)


def assert_as_on_a_huge_canvas(
    model: nn.Module, images: Tensor, padding_px: int, stride: int, tolerance: float = 1e-10
) -> bl.Signal:
    """The `infinite` Signal of model(images), after its window, start, frame and background were compared."""
    huge = on_a_huge_canvas(model, images, padding_px, stride)
    with torch.inference_mode():
        own = model(images)
        signal = bl.convert(model, "infinite", output="signal")(images)
    assert isinstance(signal, bl.Signal)
    assert tuple(signal.frame) == tuple(own.shape[2:])
    assert signal.shape == own.shape
    assert signal.dtype == own.dtype

    corner = [start + padding_px // stride for start in signal.start]
    rows, columns = (
        slice(first, first + length) for first, length in zip(corner, signal.window.shape[2:], strict=True)
    )
    expected = huge[..., rows, columns]
    assert expected.shape == signal.window.shape
    assert not expected.isnan().any(), "the canvas is too small for this window: the test needs more padding"
    largest = expected.abs().max()
    assert (signal.window - expected).abs().max() <= tolerance * largest

    beyond = huge.clone()  # all the rest of the plane is the background
    beyond[..., rows, columns] = torch.nan
    beyond = beyond - signal.background
    assert beyond.isfinite().any(), "nothing left to compare with the background: the test needs more padding"
    assert beyond[beyond.isfinite()].abs().max() <= tolerance * largest
    return signal
