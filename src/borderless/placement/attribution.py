"""Occlusion under the interface of Captum, whose users change the line that imports it.

The numbers are those of `captum.attr.Occlusion` (Kokhlikyan et al., 2020): each value of an input gets the mean, over
all windows that hide it, of how much the output drops.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from borderless.errors import ImageError
from borderless.placement.occlusion import Hidden, check_windows, firsts, patch_of
from borderless.placement.place import color_or_image
from borderless.placement.scene import Position, space_of
from borderless.placement.single_pass import SinglePass
from borderless.runtime.progress import telling

_BUDGET = 512 * 2**20  # bytes


class Occlusion:
    """Captum's `Occlusion` for a model on images, through `bl.occlude`.

    Args:
        forward_func: A model in eval mode, converted or not, that returns (N, classes), or one number per image.

    Example:
        >>> import torch, borderless as bl
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        >>> occlusion = bl.Occlusion(model.eval())
        >>> occlusion.attribute(torch.rand(2, 1, 20, 20), (1, 8, 8), (1, 4, 4), target=3).shape
        torch.Size([2, 1, 20, 20])
    """

    def __init__(self, forward_func: nn.Module) -> None:
        if not isinstance(forward_func, nn.Module):
            raise ImageError(
                f"Expected a model as a torch.nn.Module but got {type(forward_func).__name__}; put what the function "
                "does into the forward of a module."
            )
        self.forward_func = forward_func

    def attribute(
        self,
        inputs: Any,
        sliding_window_shapes: Any,
        strides: Any = None,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        perturbations_per_eval: int = 1,
        show_progress: bool = False,
    ) -> Any:
        """Return attributions in the shape of `inputs`.

        Args:
            inputs: Images ``(N, C, H, W)``, or a tuple with them.
            sliding_window_shapes: (channels, height, width) of the window.
            strides: The same of the steps between windows, or one number for all axes; None: 1.
            baselines: What a window shows: a number, or an image ``(1, C, H, W)`` or one per image; None: 0.
            target: Class of all images, or one per image, a tuple for outputs with more dimensions; None where the
                model returns one number per image.
            additional_forward_args: Further arguments of the model; tensors with a batch of N are divided with it.
            perturbations_per_eval: Taken for Captum's sake, without effect: a batch holds what fits into 512 MiB.
            show_progress: Whether to tell how much is done.

        Raises:
            ImageError: Several inputs, or windows, strides and baselines that do not fit.
            ConversionError: The model is in training mode.
        """
        images, is_tuple = _only(inputs, "inputs"), isinstance(inputs, tuple)
        if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point() or 0 in images.shape:
            got = f"{images.dtype}, {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
            raise ImageError(f"Expected inputs as floating-point images (N, C, H, W), not empty, but got {got}.")
        shape = _three("sliding_window_shapes", _only(sliding_window_shapes, "sliding_window_shapes", nested=True))
        steps = _three("strides", 1 if strides is None else _only(strides, "strides", nested=True))
        if not 1 <= shape[0] <= images.shape[1]:
            raise ImageError(f"Expected a window of 1 to {images.shape[1]} channels but got {shape[0]}.")
        check_windows((shape[1], shape[2]), space_of(images))
        if any(size < step and size < n for step, size, n in zip(steps, shape, images.shape[1:], strict=True)):
            raise ImageError(
                f"Expected strides no larger than the window {shape}, so that every value is hidden, but got {steps}."
            )
        shown = _shown(0.0 if baselines is None else _only(baselines, "baselines"), images)
        further = _further(additional_forward_args)
        with telling("occlusion", show_progress) as tell:
            found = [
                self._of_image(images[i : i + 1], shown[i : i + 1], shape, steps, _of(target, i, len(images)), args)
                for i in range(len(images))
                for args in [tuple(_row(value, i, len(images)) for value in further)]
                if tell((i + 1) / len(images), "") is None
            ]
        attributions = torch.cat(found)
        return (attributions,) if is_tuple else attributions

    def _of_image(
        self,
        image: Tensor,
        shown: Tensor,
        shape: tuple[int, int, int],
        steps: tuple[int, int, int],
        target: tuple[int, ...],
        args: tuple[Any, ...],
    ) -> Tensor:
        channels, size = firsts(image.shape[1], shape[0], steps[0]), (shape[1], shape[2])

        def filling(position: Position) -> Tensor:
            cells = patch_of(image, position, size).repeat(len(channels), 1, 1, 1)
            hidden = patch_of(shown, position, size)[0]
            for one, first in zip(cells, channels, strict=True):
                one[first : first + shape[0]] = hidden[first : first + shape[0]]
            return cells

        run = SinglePass(self.forward_func, "", None, args, None)
        hidden = Hidden(self.forward_func, run, image, size, (steps[1], steps[2]), _BUDGET)
        outputs, whole = hidden.outputs(filling)
        drops = _score(whole[None, None], target) - _score(outputs, target)
        total, count = torch.zeros_like(image), torch.zeros_like(image)
        for i, row in enumerate(hidden.rows):
            for k, column in enumerate(hidden.columns):
                for number, first in enumerate(channels):
                    box = (0, *(slice(a, a + s) for a, s in zip((first, row, column), shape, strict=True)))
                    total[box] += drops[i, k, number]
                    count[box] += 1
        return total / count


def _score(outputs: Tensor, target: tuple[int, ...]) -> Tensor:
    """Return one number for each output (rows, columns, fillings, *output)."""
    shape = outputs.shape[3:]
    if len(target) != len(shape) and not (not target and shape.numel() == 1):
        raise ImageError(
            f"Expected one number per image but got an output of shape {tuple(shape)} and target={target or None}; "
            "give the index of a class, or a tuple with one index for each dimension."
        )
    if any(not -n <= index < n for index, n in zip(target, shape, strict=False)):
        raise ImageError(f"Expected a target within an output of shape {tuple(shape)} but got {target}.")
    return outputs[(..., *target)] if target else outputs.flatten(3)[..., 0]


def _of(target: Any, i: int, count: int) -> tuple[int, ...]:
    """Return the target of image `i` as Captum reads it: one for all, or a list or tensor with one per image."""
    if target is None:
        return ()
    if isinstance(target, Tensor):
        target = target.tolist() if target.numel() > 1 else int(target)
    if isinstance(target, list):
        if len(target) != count:
            raise ImageError(f"Expected one target for each of {count} images but got {len(target)}.")
        target = target[i]
    return (target,) if isinstance(target, int) else tuple(target)


def _only(value: Any, name: str, nested: bool = False) -> Any:
    """Return the one input's part of what Captum takes for several."""
    if isinstance(value, tuple) and (not nested or (value and isinstance(value[0], tuple))):
        if len(value) != 1:
            raise ImageError(
                f"Expected {name} of one input but got {len(value)}; give the others as additional_forward_args."
            )
        return value[0]
    return value


def _three(name: str, value: Any) -> tuple[int, int, int]:
    sizes = (value,) * 3 if isinstance(value, int) else tuple(value)
    if len(sizes) != 3 or not all(isinstance(n, int) and n >= 1 for n in sizes):
        raise ImageError(f"Expected {name} as (channels, height, width), at least 1 each, but got {value!r}.")
    return sizes


def _shown(baseline: Any, images: Tensor) -> Tensor:
    values = color_or_image(baseline).to(images)
    if values.ndim and values.shape not in (images.shape, (1, *images.shape[1:])):
        raise ImageError(
            f"Expected baselines as a number, or in the shape of the inputs {tuple(images.shape)}, but got "
            f"{tuple(values.shape)}."
        )
    return values.expand(images.shape)


def _further(value: Any) -> Sequence[Any]:
    return () if value is None else value if isinstance(value, tuple) else (value,)


def _row(value: Any, i: int, count: int) -> Any:
    is_batch = isinstance(value, Tensor) and value.ndim > 0 and len(value) == count
    return value[i : i + 1] if is_batch else value
