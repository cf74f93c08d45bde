"""Assertions for the tests of people who use borderless."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from borderless.batching.independence import first_dependence
from borderless.engine.torch_internals import tree_leaves
from borderless.errors import NotCausal, StreamError
from borderless.measures.equivariance import equivariance_error
from borderless.partition.differences import first_difference
from borderless.partition.runner import Grid
from borderless.partition.sources import tiled_image
from borderless.partition.stream import Stream
from borderless.partition.tile import tile as run_on_tiles
from borderless.partition.tile import tile_size


def assert_equivariant(
    model: nn.Module, images: Tensor, shifts: Sequence[tuple[int, int]], *, tolerance: float = 1e-5, **options: Any
) -> None:
    """Raise AssertionError, naming the worst shift, if an output changes by more than `tolerance` (relative).

    Takes the arguments of `borderless.equivariance_error`.

    Example:
        >>> import torch, borderless as bl
        >>> model = bl.convert(torch.nn.Conv2d(1, 4, 3, padding=1).eval(), "infinite")
        >>> bl.testing.assert_equivariant(model, torch.rand(1, 1, 12, 12), [(1, 2)])
    """
    errors = equivariance_error(model, images, shifts, **options)
    # A comparison that NaN fails as well.
    if not bool((errors <= tolerance).all()):
        worst = int(errors.nan_to_num(float("inf")).argmax())
        raise AssertionError(
            f"Expected the output of {type(model).__name__} to change by at most {tolerance:g} of its largest value "
            f"but got {errors[worst]:.3g} when the image moves by {tuple(shifts[worst])} pixels (down, right)"
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
        image: ``(N, C, *space)``.
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


def assert_batch_independent(
    model: nn.Module,
    images: Sequence[Tensor] | Tensor,
    *,
    tolerance: float = 1e-5,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> None:
    """Raise AssertionError, naming the first module that mixes images, if an output depends on the rest of its batch.

    Args:
        model: Any model; images of unequal sizes run as `borderless.batched` runs them.
        images: A batch ``(N, C, *space)``, or a list of images ``(C, *space)``; at least two.
        tolerance: The largest difference, relative to the largest value of an output.
        args: What the model takes after the image.
        kwargs: What it takes by name.

    Example:
        >>> import torch, borderless as bl
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.BatchNorm2d(4))
        >>> bl.testing.assert_batch_independent(model.eval(), [torch.rand(1, 9, 12), torch.rand(1, 14, 7)])
        >>> bl.testing.assert_batch_independent(model.train(), torch.rand(2, 1, 8, 8))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        AssertionError: Expected outputs that do not depend on the other images of a batch but got a difference of ...
    """
    if len(images) < 2:
        raise ValueError(f"Expected at least two images but got {len(images)}")
    found = first_dependence(model, list(images), args, kwargs or {}, tolerance)
    if found is not None:
        kind = type(model.get_submodule(found.module)).__name__
        where = f"module {found.module!r} ({kind})" if found.module else f"the model itself ({kind})"
        raise AssertionError(
            f"Expected outputs that do not depend on the other images of a batch but got a difference of "
            f"{found.error:.3g} of the largest value for image {found.image}, first in {where}"
        )


def assert_streams_like_whole(
    model: nn.Module,
    example: Tensor,
    *,
    axis: int = -1,
    chunks: Sequence[int] | None = None,
    is_open: bool = False,
    seed: int = 0,
    tolerance: float = 1e-5,
    **options: Any,
) -> None:
    """Raise AssertionError if `model` on the chunks of `example`, one after the other, does not equal it on the whole.

    Args:
        model: What `borderless.Stream` takes.
        example: ``(N, C, *space)``.
        axis: Along which chunks come.
        chunks: Their sizes, which add up to that of `example`. None: drawn from 1 to a quarter of it.
        is_open: Whether the stream learns its length only with the last chunk.
        seed: Of the sizes, where they are drawn.
        tolerance: The largest difference, relative to the largest value of an output.
        options: Of `borderless.Stream`.

    Example:
        >>> import torch, borderless as bl
        >>> model = torch.nn.Conv1d(1, 4, 9, stride=4, padding=4)
        >>> bl.testing.assert_streams_like_whole(model, torch.randn(1, 1, 100), is_open=True)
    """
    size = example.shape[axis]
    sizes = _drawn(size, seed) if chunks is None else list(chunks)
    if sum(sizes) != size:
        raise ValueError(f"Expected chunks that add up to the {size} samples of the example but got {sum(sizes)}")
    stream = Stream(model, axis=axis, length=None if is_open else size, **options)
    given = [tree_leaves(stream.push(part, at == len(sizes) - 1)) for at, part in enumerate(example.split(sizes, axis))]
    with torch.no_grad():
        whole = tree_leaves(model(example, *options.get("args", ()), **options.get("kwargs", {})))
    name = type(model).__name__
    for number, (expected, *parts) in enumerate(zip(whole, *given, strict=True)):
        if not isinstance(expected, Tensor):
            continue
        joined = _joined(parts, expected)
        if joined is None:
            shapes = [tuple(part.shape) for part in parts]
            raise AssertionError(
                f"Expected chunks of output {number} of {name} that add up to {tuple(expected.shape)} but got {shapes}"
            )
        difference = (joined - expected).abs()
        error = float(difference.max() / expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny))
        if not error <= tolerance:
            where = tuple(int(i) for i in torch.unravel_index(difference.nan_to_num(torch.inf).argmax(), joined.shape))
            raise AssertionError(
                f"Expected output {number} of {name} in chunks of {sizes} to equal the whole within {tolerance:g} of "
                f"its largest value but got a difference of {error:.3g} at {where}"
            )


def assert_causal(model: nn.Module, example: Tensor, axis: int = -1, *, lookahead: int = 0, **options: Any) -> None:
    """Raise AssertionError, naming the first call that looks ahead, if `model` waits for samples after an output's own.

    It follows from what each call of the model's reads, not by trial. A network that works by blocks of n samples and
    gives an output for each of them looks n - 1 ahead.

    Args:
        model: What `borderless.Stream` takes.
        example: ``(N, C, *space)``, longer along `axis` than the network looks ahead.
        axis: Of the input.
        lookahead: How many samples after an output's own the model may read.
        options: Of `borderless.Stream`.

    Example:
        >>> import torch, borderless as bl
        >>> bl.testing.assert_causal(torch.nn.Conv1d(1, 4, 9, stride=8), torch.randn(1, 1, 100), lookahead=1)
        >>> bl.testing.assert_causal(torch.nn.Conv1d(1, 4, 3, padding=1), torch.randn(1, 1, 100))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        AssertionError: Expected Conv1d to look at most 0 samples ahead but got 1 in torch.conv1d in the model itself...
    """
    name, size = type(model).__name__, example.shape[axis]
    if size <= lookahead + 1:
        raise StreamError(f"Expected an example of more than {lookahead + 1} samples but got one of {size}")
    stream = Stream(model, axis=axis, length=size, **options).prepare(example)
    try:
        ahead = stream.calls_ahead(lookahead)
    except NotCausal as error:
        raise AssertionError(f"Expected {name} to look at most {lookahead} samples ahead. {error}") from error
    if ahead:
        call, samples = ahead[0]
        raise AssertionError(f"Expected {name} to look at most {lookahead} samples ahead but got {samples} in {call}")


def _drawn(size: int, seed: int) -> list[int]:
    draw, sizes = random.Random(seed), []
    while sum(sizes) < size:
        sizes.append(min(size - sum(sizes), draw.randint(1, max(1, size // 4))))
    return sizes


def _joined(parts: Sequence[Tensor], whole: Tensor) -> Tensor | None:
    """Return the parts joined along the axis where they add up to `whole`; None if there is none."""
    if len(parts) == 1:
        return parts[0] if parts[0].shape == whole.shape else None
    for axis in range(whole.ndim):
        others = {(*part.shape[:axis], *part.shape[axis + 1 :]) for part in parts}
        is_rest = others == {(*whole.shape[:axis], *whole.shape[axis + 1 :])}
        if is_rest and sum(part.shape[axis] for part in parts) == whole.shape[axis]:
            return torch.cat(list(parts), axis)
    return None
