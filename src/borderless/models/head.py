"""A new last layer, for other classes than those a network was trained for."""

import copy

from torch import Tensor, nn

from borderless.errors import ConversionError
from borderless.runtime.evaluation import evaluating, seeded


def with_classes(model: nn.Module, classes: int, image: Tensor, seed: int) -> nn.Module:
    """Return a copy of `model` whose last linear layer is a new one with `classes` outputs; `model` itself if it has as
    many.

    Classes are told by their number alone.

    image: (1, C, H, W), which the model takes. seed: of the new weights. The layer stays under its name, so a file of
    the weights fits the architecture built with as many classes. Raises ConversionError if the model's answer does not
    come from a linear layer.
    """
    found = _answer(model, image)
    if found == (1, classes):
        return model
    linear = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    fitting = [(name, layer) for name, layer in linear if found == (1, layer.out_features)]
    if not fitting:
        raise ConversionError(
            f"got {type(model).__name__}, which answers with {found} and has no linear layer that gives it; needed: a "
            f"classifier with a last linear layer, or one with {classes} classes already"
        )
    name, last = fitting[-1]
    with seeded(seed):
        new = nn.Linear(last.in_features, classes, last.bias is not None, dtype=last.weight.dtype)
    new = new.to(last.weight.device)
    made = copy.deepcopy(model)
    parent, _, attribute = name.rpartition(".")
    setattr(made.get_submodule(parent), attribute, new)
    if _answer(made, image) != (1, classes):
        raise ConversionError(
            f"got {type(model).__name__}, whose answer comes from more than its last linear layer {name}; needed: a "
            f"network with {classes} classes already"
        )
    return made


def _answer(model: nn.Module, image: Tensor) -> tuple[int, ...] | str:
    """Return the shape of what `model` says of `image`, or why there is none, in words."""
    try:
        with evaluating(model):
            answer = model(image)
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
