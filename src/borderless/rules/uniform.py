"""Ordinary tensors that a model spreads over a map: a global pool, upsampled to join a map again, has no place in it.

What comes out of a global pool is an ordinary tensor, and no Signal is there to notice when it is interpolated from one
cell to many. From the first pool to the end of the pass this mode does, and answers with a view whose strides of 0 say
so.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode


class UniformMaps(TorchFunctionMode):
    """Interpolation from one cell gives the same value everywhere: a view of it instead of copies."""

    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self.root = root

    @classmethod
    def start(cls, root: nn.Module) -> None:
        """Watch the rest of the pass of `root`, unless it is watched already."""
        if not any(cls._is_of(mode, root) for mode in _get_current_function_mode_stack()):
            _push_mode(cls(root))

    @classmethod
    def stop(cls, root: nn.Module) -> None:
        """The pass of `root` is over. Modes of others that came later stay."""
        later: list[Any] = []
        for mode in reversed(_get_current_function_mode_stack()):
            if cls._is_of(mode, root):
                for _ in range(len(later) + 1):
                    _pop_mode()
                for other in reversed(later):
                    _push_mode(other)
                return
            later.append(mode)

    @classmethod
    def _is_of(cls, mode: Any, root: nn.Module) -> bool:
        return isinstance(mode, cls) and mode.root is root

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is F.interpolate and args and type(args[0]) is Tensor and set(args[0].shape[2:]) == {1}:
            return args[0].expand(result.shape)
        return result
