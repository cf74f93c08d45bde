"""Replacement of the last layer, for other classes than those a network was trained for."""

import copy

from torch import Tensor, nn

from borderless.errors import ConversionError
from borderless.runtime.evaluation import evaluating, seeded


def with_classes(model: nn.Module, classes: int, image: Tensor, seed: int) -> nn.Module:
    """Return a copy of `model` whose last linear layer is a new one with `classes` outputs.

    `model` itself if it has as many; only their number counts. The layer keeps its name, so a file of the weights fits
    the architecture built with as many classes.

    Args:
        model: A classifier.
        classes: Number of classes.
        image: (1, C, H, W), an input of the model.
        seed: Seed of the new weights.

    Raises:
        ConversionError: The model's output does not come from a linear layer.
    """
    found = _output_shape(model, image)
    if found == (1, classes):
        return model
    linear = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    fitting = [(name, layer) for name, layer in linear if found == (1, layer.out_features)]
    if not fitting:
        raise ConversionError(
            f"Expected a classifier with a last linear layer, or one with {classes} classes already, but got "
            f"{type(model).__name__}, whose output is {found} and comes from no linear layer."
        )
    name, last = fitting[-1]
    with seeded(seed):
        new = nn.Linear(last.in_features, classes, last.bias is not None, dtype=last.weight.dtype)
    new = new.to(last.weight.device)
    made = copy.deepcopy(model)
    parent, _, attribute = name.rpartition(".")
    setattr(made.get_submodule(parent), attribute, new)
    if _output_shape(made, image) != (1, classes):
        raise ConversionError(
            f"Expected a network whose output comes from its last linear layer {name} alone, or one with {classes} "
            f"classes already, but got {type(model).__name__}."
        )
    return made


def _output_shape(model: nn.Module, image: Tensor) -> tuple[int, ...] | str:
    """Return the shape of the output of `model` for `image`, or the reason why there is none, in words."""
    try:
        with evaluating(model):
            output = model(image)
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
