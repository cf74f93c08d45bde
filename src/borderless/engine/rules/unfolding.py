"""Unfolding: every cell becomes the cells under a kernel, as channels, and the map a sequence of tokens."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from borderless.engine.geometry import Slide
from borderless.engine.naming import describe
from borderless.engine.registry import rule
from borderless.engine.relabeled import Relabeled
from borderless.engine.rules.plan import check_axes, per_axis, plan
from borderless.engine.signal import Signal, first_signal

FOLD = (
    "adds up the cells of overlapping kernels. Write it as torch.nn.functional.conv_transpose2d of the map "
    "(N, C·kernel cells, H, W), with torch.eye(C·kernel cells).view(C·kernel cells, C, *kernel) as its weight"
)


def _read_by_unfold(
    function: Any, signal: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> tuple[Slide, ...]:
    kernel, dilation, padding, stride = (per_axis(v, 2) for v in (kernel_size, dilation, padding, stride))
    options = zip(kernel, stride, padding, padding, dilation, strict=True)
    return tuple(Slide(*numbers) for numbers in options)


@rule(F.unfold, needs=_read_by_unfold)
def unfold(
    function: Any, signal: Signal, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Signal:
    """Slide a kernel that keeps all of its cells: (N, C·kernel cells, tokens)."""
    check_axes(signal, 2, function)
    slides = _read_by_unfold(function, signal, kernel_size, dilation, padding, stride)
    kernel, dilation, stride = ([getattr(s, name) for s in slides] for name in ("kernel", "dilation", "stride"))
    planned = plan(signal, slides, function)

    def run(cells: Tensor) -> Tensor:
        counts = [(n - s.extent - 1) // s.stride + 1 for s, n in zip(slides, cells.shape[2:], strict=True)]
        return function(cells, kernel, dilation, 0, stride).unflatten(2, counts)

    if signal.border.is_own:
        window = function(planned.window(), kernel, dilation, padding, stride).unflatten(2, planned.layout.frame)
    else:
        window = run(planned.cells())
    result = planned.result(window, None if planned.background is None else planned.response(run))
    signal.scope.observe(function, result, 0, planned.slides, signal.frame)
    return Relabeled.of(result, 0, 2, signal.scope.call_of(function))


def _fold_seen(function: Any, _: Relabeled, *args: Any, **kwargs: Any) -> Any:
    return fold(function, *args, **kwargs)


@rule(F.fold, dims=_fold_seen)
def fold(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Refuse to fold by name."""
    signal = first_signal(args, kwargs)
    assert signal is not None
    raise signal.scope.unsupported(describe(function), f"it {FOLD}")
