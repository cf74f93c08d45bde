"""The arguments of a model that are images, and the order of their dimensions: given by the caller, or by one rule.

Named: `images=("x",)`, names or positions of the arguments of `forward`; or with layouts, `images={"wave": "NT"}`: one
letter a dimension, N the batch, C the channels, any other letter an axis of space. Not named: the first floating-point
tensor with as many dimensions as the model's first convolution takes, and those beside it of the same size along space.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from borderless.engine.torch_internals import tree_leaves, tree_map
from borderless.errors import ConversionError, ImageError
from borderless.runtime.did_you_mean import unknown

Images = Sequence[str | int] | Mapping[str, str] | Mapping[int, str]
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class ImageArguments:
    """The arguments of a model that are images, in the caller's order, each with its layout (None: N, C, *space)."""

    layouts: tuple[tuple[str | int, str | None], ...]

    @classmethod
    def of(cls, images: Images | None, model: nn.Module) -> "ImageArguments | None":
        """Return what `images` names of `model`'s arguments; None for None.

        Raises:
            ConversionError: An argument that `forward` does not have, or a layout that is none.
        """
        if images is None:
            return None
        if isinstance(images, str) or not isinstance(images, Sequence | Mapping) or not images:
            raise ConversionError(
                f"Expected images to name arguments of forward but got {images!r}; write images=('x',), or "
                "images={'x': 'NTC'} with a layout"
            )
        layouts = images.items() if isinstance(images, Mapping) else ((name, None) for name in images)
        named = cls(tuple(layouts))
        for name, layout in named.layouts:
            _check_name(model, name)
            if layout is not None:
                _check_layout(name, layout)
        return named

    @property
    def names(self) -> tuple[str | int, ...]:
        """The arguments, as the caller named them."""
        return tuple(name for name, _ in self.layouts)


def with_image(
    model: nn.Module, images: ImageArguments | None, image: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call of `model` with `image` where its image goes: first, unless `images` says else."""
    if images is None:
        return (image, *args), kwargs
    name = _as_keyword(model, images.names[0])
    parameters = list(inspect.signature(model.forward).parameters)
    if not isinstance(name, str) or parameters[:1] == [name]:
        at = 0 if isinstance(name, str) else name
        return (*args[:at], image, *args[at:]), kwargs
    return args, {**kwargs, name: image}


def put_images(
    model: nn.Module,
    images: ImageArguments | None,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    make: Callable[[Tensor, str | None], Any],
    other: Callable[[Tensor, str], Any] | None = None,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with what `make` makes of each image and its layout.

    other: what stands for another tensor that has as many dimensions as the images, and its argument's name.
    """
    slots: list[str | int] = [*range(len(args)), *kwargs]
    held = dict(zip(slots, (*args, *kwargs.values()), strict=True))
    if images is None:
        is_image = _rule(model, (args, kwargs))
        layouts: dict[str | int, str | None] = {}
    else:
        layouts = {slot: layout for name, layout in images.layouts for slot in _slots(model, name) if slot in held}

    def put(slot: str | int, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        if slot in layouts or (images is None and is_image(leaf)):
            return make(leaf, layouts.get(slot))
        return leaf if other is None or leaf.ndim < 3 else other(leaf, str(_as_keyword(model, slot)))

    order = [*layouts, *(slot for slot in held if slot not in layouts)]  # the first that is named is made first
    made = {slot: tree_map(lambda leaf, slot=slot: put(slot, leaf), held[slot]) for slot in order}
    return tuple(made[i] for i in range(len(args))), {name: made[name] for name in kwargs}


def _rule(model: nn.Module, given: Any) -> Callable[[Tensor], bool]:
    """Return which tensors are images where nobody has named them."""
    maps = [leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    maps = [leaf for leaf in maps if leaf.ndim >= 3]
    first = next((leaf for leaf in maps if leaf.ndim == dimensions(model)), maps[0] if maps else None)
    return lambda leaf: first is not None and leaf.ndim == first.ndim and leaf.shape[2:] == first.shape[2:]


def dimensions(model: nn.Module) -> int | None:
    """Return how many dimensions the input of the first convolution of `model` has; None without a convolution."""
    first = first_convolution(model)
    return None if first is None else first.weight.ndim


def first_convolution(model: nn.Module) -> Any:
    """Return the first convolution among the modules of `model`, or None."""
    return next((module for module in model.modules() if isinstance(module, _CONVOLUTIONS)), None)


def input_channels(model: nn.Module) -> int:
    """Return how many channels the first convolution of `model` takes.

    Raises:
        ConversionError: It has no convolution.
    """
    first = first_convolution(model)
    if first is not None:
        return first.in_channels
    raise ConversionError(
        f"Expected a model with a convolution but got {type(model).__name__}, so its number of input channels is "
        "unknown; pass channels=C."
    )


def in_layout(image: Any, layout: str | None) -> Any:
    """Return `image`, (N, C, *space), as the model takes it; a single channel is dropped where `layout` has none."""
    if layout is None:
        return image
    if "C" not in layout:
        return image.squeeze(1)
    at = layout.index("C")
    return image if at == 1 else image.movedim(1, at)


def out_of_layout(image: Tensor, layout: str | None) -> Tensor:
    """Return `image` as (N, C, *space)."""
    if layout is None:
        return image
    if image.ndim != len(layout):
        raise ImageError(f"Expected an image ({', '.join(layout)}) but got shape {tuple(image.shape)}")
    return image.unsqueeze(1) if "C" not in layout else image.movedim(layout.index("C"), 1)


def _check_layout(name: str | int, layout: Any) -> None:
    is_layout = isinstance(layout, str) and layout.isalpha() and len(set(layout)) == len(layout)
    if not is_layout or not layout.startswith("N") or not set(layout) - {"N", "C"}:
        raise ConversionError(
            f"Expected the layout of {name!r} as one letter a dimension, N first, such as 'NTC', 'NT' or 'NHWC', but "
            f"got {layout!r}"
        )


def _check_name(model: nn.Module, name: Any) -> None:
    parameters = inspect.signature(model.forward).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    if isinstance(name, int) and not isinstance(name, bool):
        if not 0 <= name < len(parameters) and inspect.Parameter.VAR_POSITIONAL not in kinds:
            raise ConversionError(
                f"Expected a position among the {len(parameters)} arguments of {type(model).__name__}.forward but got "
                f"{name}"
            )
    elif name not in parameters and inspect.Parameter.VAR_KEYWORD not in kinds:
        known = f"it has {', '.join(parameters)}"
        raise ConversionError(unknown(f"argument of {type(model).__name__}.forward", str(name), [*parameters], known))


def _as_keyword(model: nn.Module, name: str | int) -> str | int:
    """Return the name of the argument at a position, if it has one."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    if isinstance(name, str) or name >= len(parameters):
        return name
    parameter = parameters[name]
    return parameter.name if parameter.kind is parameter.POSITIONAL_OR_KEYWORD else name


def _slots(model: nn.Module, name: str | int) -> list[str | int]:
    """Return the keys under which a call may hold an argument: its position, and its name."""
    parameters = list(inspect.signature(model.forward).parameters)
    if isinstance(name, int):
        return [name, _as_keyword(model, name)]
    return [name, *([parameters.index(name)] if name in parameters else [])]
