"""Averages at the edge of a canvas: the model may divide by the number of cells that are on it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from borderless.engine.border import Border
from borderless.engine.edge import Edge
from borderless.engine.forward_pass import ForwardPass
from borderless.engine.geometry import Box
from borderless.engine.reading import cut
from borderless.engine.rules import pools
from borderless.engine.signal import Signal
from borderless.placement.tape import Step, like


def as_the_model_divides(
    func: Any, step: Step, result: Signal, boxes: Sequence[Box], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Return `result`, an average under the original padding, corrected: it may count fewer cells at the edge.

    boxes: of its window for each row of the batch.
    """
    if not step.source.border.is_own:
        return result
    if step.divisors is None:
        step.divisors = _divisors(func, step.source, result.window.new_ones(()), args, kwargs)
    if bool((step.divisors == 1).all()):
        return result
    whole = step.maps[0].frame_box
    scales = {box: cut(step.divisors, result.axes, whole, box) for box in dict.fromkeys(boxes)}
    return result.derive(result.window * torch.cat([scales[box] for box in boxes]), None)


def _divisors(func: Any, canvas: Signal, one: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Return the model's own average of ones, relative to one over whole kernels with zeros outside."""
    ones = one.expand([n if axis in canvas.axes or axis > 1 else 1 for axis, n in enumerate(canvas.shape)])

    def average(border: Edge) -> Tensor:
        maps = like(canvas, ones)
        maps.scope, maps.may_pool_frame = ForwardPass(border, canvas.scope.root), False
        return pools.average_pool(func, maps, *args[1:], **kwargs).window

    return average(canvas.border) / average(Border("full", reach=0))
