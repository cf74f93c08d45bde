"""Sizes that differ from image to image: what a model reads from the shape of a map of a batch, and reckons with.

A `SizePerImage` is the integer of the largest map, so that PyTorch takes it, and knows those of all images. Arithmetic
acts on each of them; a comparison has a result only where it comes out alike for all.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch

from borderless.engine.torch_internals import tree_map

Refuse = Callable[[str], Exception]
_WRITE_FLOOR = "int() keeps one number of many. Write //, round(…), math.floor(…) or math.ceil(…)"
_WRITE_POWER = "float() keeps one number of many. Write /, and size ** 0.5 for a square root"


class _PerImage:
    """One number an image. is_read_by_model: whether the model reads it, and not a rule, which takes the largest."""

    of: tuple[Any, ...]
    refuse: Refuse
    is_read_by_model: Callable[[], bool]

    def _each(self, function: Callable[..., Any], *others: Any) -> Any:
        columns = [other.of if isinstance(other, _PerImage) else (other,) * len(self.of) for other in others]
        of = [function(*row) for row in zip(self.of, *columns, strict=True)]
        largest = function(*(_largest(value) for value in (self, *others)))
        return per_image(largest, of, self.refuse, self.is_read_by_model)

    def _agree(self, function: Callable[[Any, Any], Any], other: Any) -> Any:
        if not self.is_read_by_model() or not isinstance(other, int | float):
            return function(_largest(self), _largest(other))
        others = other.of if isinstance(other, _PerImage) else (other,) * len(self.of)
        found = {function(a, b) for a, b in zip(self.of, others, strict=True)}
        if len(found) > 1:
            raise self.refuse(f"the model's path depends on the size: {sorted(self.of)} beside {other!r}")
        return found.pop()

    def __bool__(self) -> bool:
        return self._agree(operator.ne, 0)

    def __hash__(self) -> int:
        return hash(_largest(self))

    def __round__(self, digits: int | None = None) -> Any:
        return self._each(lambda value: round(value, digits))

    def __floor__(self) -> Any:
        return self._each(math.floor)

    def __ceil__(self) -> Any:
        return self._each(math.ceil)

    def __trunc__(self) -> Any:
        return self._each(math.trunc)

    def __int__(self) -> int:
        if self.is_read_by_model():
            raise self.refuse(_WRITE_FLOOR)
        return int(_largest(self))

    def __float__(self) -> float:
        if self.is_read_by_model():
            raise self.refuse(_WRITE_POWER)
        return float(_largest(self))

    def __repr__(self) -> str:
        return f"{_largest(self)!r} of {list(self.of)}"


def _arithmetic(function: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def forward(self: _PerImage, *others: Any) -> Any:
        known = all(isinstance(other, int | float) for other in others)
        return self._each(function, *others) if known else NotImplemented

    def backward(self: _PerImage, other: Any) -> Any:
        known = isinstance(other, int | float)
        return self._each(lambda a, b: function(b, a), other) if known else NotImplemented

    return forward, backward


def _comparison(function: Callable[[Any, Any], Any]) -> Callable[[_PerImage, Any], Any]:
    return lambda self, other: self._agree(function, other)


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    _forward, _backward = _arithmetic(getattr(operator, _name))
    setattr(_PerImage, f"__{_name}__", _forward)
    setattr(_PerImage, f"__r{_name}__", _backward)
for _name in ("neg", "pos", "abs"):
    setattr(_PerImage, f"__{_name}__", _arithmetic(getattr(operator, _name))[0])
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(_PerImage, f"__{_name}__", _comparison(getattr(operator, _name)))


class SizePerImage(_PerImage, int):
    """Integers."""


class RatioPerImage(_PerImage, float):
    """Fractions, on their way to integers."""


def per_image(largest: Any, of: Sequence[Any], refuse: Refuse, is_read_by_model: Callable[[], bool]) -> Any:
    """Return a number for each image; an ordinary number where all are the same."""
    if len(set(of)) == 1:
        return of[0]
    kind: Any = SizePerImage if isinstance(largest, int) else RatioPerImage
    made = kind(largest)
    made.of, made.refuse, made.is_read_by_model = tuple(of), refuse, is_read_by_model
    return made


def _largest(value: Any) -> Any:
    """Return the number of the largest map, as an ordinary one."""
    if isinstance(value, SizePerImage):
        return int.__add__(value, 0)
    return float.__add__(value, 0.0) if isinstance(value, RatioPerImage) else value


def of_image(value: Any, image: int | None) -> Any:
    """Return `value`, with slices and tuples in it, with the numbers of one image, or (None) of the largest."""
    if isinstance(value, _PerImage):
        return _largest(value) if image is None else value.of[image]
    if isinstance(value, slice):
        return slice(*(of_image(part, image) for part in (value.start, value.stop, value.step)))
    if type(value) in (tuple, list, torch.Size):
        return type(value)(of_image(part, image) for part in value)
    return value


def has_sizes(value: Any) -> bool:
    """Return whether `value` is or holds a number for each image."""
    if isinstance(value, slice):
        return has_sizes((value.start, value.stop, value.step))
    if isinstance(value, tuple | list):
        return any(map(has_sizes, value))
    return isinstance(value, _PerImage)


def numbers_of_images(value: Any) -> Any:
    """Return `value`, an output, with a list of ordinary numbers for each number that differs between images."""

    def listed(leaf: Any) -> Any:
        if isinstance(leaf, torch.Size):
            return tuple(listed(size) for size in leaf)
        return list(leaf.of) if isinstance(leaf, _PerImage) else leaf

    return tree_map(listed, value, is_leaf=lambda leaf: isinstance(leaf, torch.Size))
