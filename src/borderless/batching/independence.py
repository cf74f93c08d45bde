"""Find the module of a model that mixes the images of a batch: its outputs alone and in the batch, compared."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from borderless.batching.batch_signal import BatchSignal
from borderless.batching.batched import batched
from borderless.conversion import copied
from borderless.engine.outputs import kept_map
from borderless.engine.relabeled import Relabeled
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import tree_leaves

Outputs = list[tuple[str, list[Tensor]]]  # of the calls of all modules, in the order in which they end


class Dependence(NamedTuple):
    """An output that depends on the other images of the batch: of which image, in which module, and by how much."""

    image: int
    module: str
    error: float


def first_dependence(
    model: nn.Module, images: Sequence[Tensor], args: tuple[Any, ...], kwargs: dict[str, Any], tolerance: float
) -> Dependence | None:
    """Return the first output, in the order of the calls, that differs between an image alone and in the batch."""
    model = copied(model)  # in training mode running statistics would change
    is_even = len({image.shape for image in images}) == 1
    together: list[Outputs] = [[] for _ in images]
    with torch.no_grad(), _recorded(model, together):
        given = torch.stack(list(images)) if is_even else images
        output = model(given, *args, **kwargs) if is_even else batched(model, images, args=args, kwargs=kwargs)
    for number, image in enumerate(images):
        alone: list[Outputs] = [[]]
        with torch.no_grad(), _recorded(model, alone):
            expected = model(image.unsqueeze(0), *args, **kwargs)
        pairs = [*zip(alone[0], together[number], strict=False)]
        for (name, one), (other_name, other) in pairs:
            if name != other_name:
                return Dependence(number, other_name, float("inf"))
            if (error := _error(one, other)) > tolerance:
                return Dependence(number, name, error)
        leaves = list(_paired(expected, output, number))
        if (error := _error([a for a, _ in leaves], [b for _, b in leaves])) > tolerance:
            return Dependence(number, "", error)
    return None


@contextmanager
def _recorded(model: nn.Module, found: list[Outputs]) -> Iterator[None]:
    """Note the outputs of all modules but the model itself, for each image."""

    def note(_: nn.Module, __: Any, output: Any, name: str) -> None:
        leaves = tree_leaves(output)
        for number, outputs in enumerate(found):
            outputs.append((name, [_of_image(leaf, number, len(found)) for leaf in leaves if isinstance(leaf, Tensor)]))

    modules = [(name, module) for name, module in model.named_modules() if name]
    handles = [module.register_forward_hook(partial(note, name=name)) for name, module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _of_image(value: Tensor, number: int, count: int) -> Tensor:
    """Return a copy of what belongs to one image, on its frame."""
    whole = value.map if isinstance(value, Relabeled) else value
    if isinstance(whole, BatchSignal):
        return kept_map(whole.rows([number])).clone()
    cells = kept_map(whole) if isinstance(whole, Signal) else whole
    is_of_batch = cells.ndim > 0 and len(cells) == count
    return (cells[number : number + 1] if is_of_batch else cells).detach().clone()


def _paired(expected: Any, output: Any, number: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Return the tensors that a model returns for an image alone, and those of the same image in a batch."""
    if isinstance(expected, Tensor):
        yield expected, output[number].unsqueeze(0)
    elif isinstance(expected, dict):
        for key, value in expected.items():
            yield from _paired(value, output[key], number)
    elif isinstance(expected, tuple | list):
        for value, other in zip(expected, output, strict=True):
            yield from _paired(value, other, number)


def _error(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """Return the largest difference, relative to the largest value."""
    worst = 0.0
    for one, other in zip(expected, found, strict=True):
        if one.shape != other.shape:
            return float("inf")
        if not one.is_floating_point() or not one.numel():
            continue
        error = float((one - other).abs().max() / one.abs().max().clamp_min(torch.finfo(one.dtype).tiny))
        worst = max(worst, error if error == error else float("inf"))
    return worst
