"""Ordinary tensors that a model spreads over a map: a global pool, upsampled to join a map again, has no place in it.

What comes out of a global pool is an ordinary tensor, and no Signal is there to notice when it is interpolated from one
cell to many. This mode does, for the length of a pass, and answers with a view that says so by its strides of 0.
"""

from typing import Any

from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from borderless.scope import Scope


class UniformMaps(TorchFunctionMode):
    """Interpolation from one cell gives the same value everywhere: a view of it instead of copies."""

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = scope

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.interpolate or not args or type(args[0]) is not Tensor or set(args[0].shape[2:]) != {1}:
            return func(*args, **kwargs)
        result = func(*args, **kwargs)
        return args[0].expand(result.shape)
