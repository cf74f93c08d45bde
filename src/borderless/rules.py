"""Rules for functions that borderless does not know: their effect on a feature map and on what surrounds it.

Most functions need one line:

>>> import torch, borderless as bl
>>> _ = bl.rules.cellwise(torch.special.i0e)  # acts on every cell alike

Operators of your own (`torch.library.custom_op`, a C++ extension) that slide over a feature map declare which cells an
output reads, and how to compute on cells without padding:

>>> @torch.library.custom_op("docs::smooth", mutates_args=())
... def smooth(images: torch.Tensor, size: int) -> torch.Tensor:
...     return torch.nn.functional.avg_pool2d(images, size, 1, size // 2)
>>> @bl.rules.sliding(torch.ops.docs.smooth, slides=lambda size: bl.rules.Slide(size, 1, size // 2, size // 2))
... def without_padding(cells, size):
...     return torch.nn.functional.avg_pool2d(cells, size, 1)

For anything else write the rule itself: it is called instead of the function, as ``rule(function, *args, **kwargs)``,
with at least one Signal among the arguments. It computes on `signal.window` and `signal.background`, which are ordinary
tensors, and builds its result with `signal.derive`. The `needs` that it declares let `bl.place` compute windows instead
of whole feature maps:

>>> @bl.rules.rule(torch.special.i0e, needs="cell")
... def scaled_bessel(function, signal):
...     background = None if signal.background is None else function(signal.background)
...     return signal.derive(function(signal.window), background)
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from borderless.engine.geometry import Slide
from borderless.engine.registry import Need, assign, rule
from borderless.engine.rules.plan import check_axes, plan
from borderless.engine.rules.pointwise import elementwise
from borderless.engine.signal import Signal

__all__ = ["Need", "Slide", "cellwise", "rule", "sliding"]


def cellwise(*functions: Any) -> None:
    """Register `functions` as acting on every cell of a feature map alike, such as activations.

    Args:
        functions: Each takes one or several feature maps, ordinary tensors without spatial extent, and numbers, and
            returns one feature map of the same sizes.
    """
    assign(elementwise, *functions)


def sliding(
    *functions: Any, slides: Callable[..., Slide | Sequence[Slide]]
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Register the decorated function as the computation of `functions` on cells without padding.

    Args:
        functions: Operators that slide over the spatial axes of their first argument, a feature map ``(N, C, *space)``.
        slides: Called with the further arguments of a call; returns kernel, stride, and the original padding before
            and after of every axis: one `Slide` for all, or one for each.

    Returns:
        A decorator for a function of cells ``(N, C, *space)`` and the same further arguments, which returns the
        outputs of all windows that lie wholly inside.
    """

    def declared(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> tuple[Slide, ...]:
        given = slides(*args, **kwargs)
        return (given,) * len(signal.axes) if isinstance(given, Slide) else tuple(given)

    def register(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @rule(*functions, needs=declared)
        def slide(function: Any, signal: Signal, *args: Any, **kwargs: Any) -> Signal:
            check_axes(signal, None, function)
            planned = plan(signal, declared(function, signal, *args, **kwargs), function)
            if signal.border.is_own:
                window = function(planned.window(), *args, **kwargs)
            else:
                window = run(planned.cells(), *args, **kwargs)
            background = planned.background
            if background is not None:
                background = planned.response(lambda cells: run(cells, *args, **kwargs))
            result = planned.result(window, background)
            signal.scope.observe(function, result, 0, planned.slides, signal.frame)
            return result

        return run

    return register
