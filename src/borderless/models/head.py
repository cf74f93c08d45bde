"""A new last layer, for other classes than those a network was trained for."""

import copy

import torch
from torch import Tensor, nn

from borderless.errors import ConversionError
from borderless.modes import measured


def with_classes(model: nn.Module, classes: int, image: Tensor, seed: int) -> nn.Module:
    """A copy of `model` whose last linear layer is a new one with `classes` outputs; `model` itself if it has as many.

    image: (1, C, H, W), which the model takes. seed: of the new weights. The layer stays under its name, so a file of
    the weights fits the architecture built with as many classes. Raises ConversionError if the model's answer does not
    come from a linear layer.
    """
    linear = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    with measured(model):
        answer = model(image)
    found = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
    fitting = [(name, layer) for name, layer in linear if found == (1, layer.out_features)]
    if not fitting:
        raise ConversionError(
            f"got {type(model).__name__}, which answers with {found} and has no linear layer that gives it; needed: a "
            f"classifier with a last linear layer, or one with {classes} classes already"
        )
    name, last = fitting[-1]
    if last.out_features == classes:
        return model
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        new = nn.Linear(last.in_features, classes, last.bias is not None, last.weight.device, last.weight.dtype)
    made = copy.deepcopy(model)
    parent, _, attribute = name.rpartition(".")
    setattr(made.get_submodule(parent), attribute, new)
    return made
