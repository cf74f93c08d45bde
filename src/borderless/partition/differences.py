"""Search for the first call whose parts differ from the whole: each call on parts, against the call on one part."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from borderless.engine.geometry import Box
from borderless.engine.naming import describe
from borderless.engine.reading import cut
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import tree_leaves
from borderless.partition.carry import CarryPass
from borderless.partition.part import PartSignal
from borderless.partition.runner import Grid, Runner
from borderless.partition.sources import TiledImage

Seen = Callable[[int, str, list[Tensor]], Any]


class Difference(NamedTuple):
    """The first call whose parts differ, and by how much of its largest value; call: its function and its module."""

    call: str
    error: float


@dataclass
class WatchedPass(CarryPass):
    """A pass that tells of each call's results, by the call's number."""

    seen: Seen = field(kw_only=True)
    _number: int = 0

    def call(self, source: PartSignal, func: Any, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call of the model's, and tell what it gave."""
        number, self._number = self._number, self._number + 1
        name = f"{describe(func)} in {self.describe_module()}"
        result = super().call(source, func, rule, args, kwargs)
        self.seen(number, name, [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)])
        return result


def first_difference(
    model: nn.Module, image: TiledImage, grid: Grid, args: tuple[Any, ...], kwargs: dict[str, Any], tolerance: float
) -> Difference | None:
    """Return the first call whose parts differ by more than `tolerance` of its largest value; None if none does."""
    whole: dict[int, list[tuple[Box, Tensor]]] = {}
    found: dict[int, Difference] = {}

    def keep(number: int, _: str, results: list[Tensor]) -> None:
        whole[number] = [_cells(result) for result in results]

    def compare(number: int, name: str, results: list[Tensor]) -> None:
        for result, (box, cells) in zip(results, whole.get(number, ()), strict=True):
            part, window = _cells(result)
            if isinstance(result, PartSignal) and all(a < b for a, b in part):
                cells = cut(cells, result.axes, box, part)
            if cells.shape != window.shape or not window.numel():
                continue
            scale = max((float(one.abs().max()) for _, one in whole[number] if one.numel()), default=0.0)
            error = float((window.double() - cells.double()).abs().max()) / (scale or 1.0)
            if not error <= tolerance and (number not in found or error > found[number].error):
                found[number] = Difference(name, error)

    with torch.no_grad():
        for cuts, seen in ((Grid.regular(image.size, image.size), keep), (grid, compare)):
            Runner(model, args, kwargs, kind=partial(WatchedPass, seen=seen)).run(cuts, image.read, lambda *_: None)
    return found[min(found)] if found else None


def _cells(result: Tensor) -> tuple[Box, Tensor]:
    if isinstance(result, Signal):
        return result.box, result.window.detach().clone()
    return (), result.detach().clone()
