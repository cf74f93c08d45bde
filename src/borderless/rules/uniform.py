"""Ordinary tensors that a model spreads over a map: a global pool, upsampled to join a map again, has no place in it.

What comes out of a global pool is an ordinary tensor, and no Signal is there to notice when it is interpolated from one
cell to many. From the first pool to the end of the pass this mode does, and answers with a view whose strides of 0 say
so.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode

from borderless.scope import Scope


class UniformMaps(TorchFunctionMode):
    """Interpolation from one cell gives the same value everywhere: a view of it instead of copies."""

    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self.root = root

    @classmethod
    def start(cls, scope: Scope) -> None:
        """Watch the rest of the pass of `scope`, unless it is watched already."""
        if not scope.watched:
            scope.watched = True
            _push_mode(cls(scope.root))

    @classmethod
    def stop(cls, root: nn.Module) -> None:
        """The pass of `root` is over. Modes of others stay, in their order."""
        modes = _get_current_function_mode_stack()
        ours = next((i for i, mode in enumerate(modes) if isinstance(mode, cls) and mode.root is root), None)
        if ours is not None:
            for _ in modes[ours:]:
                _pop_mode()
            for mode in modes[ours + 1 :]:
                _push_mode(mode)

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is F.interpolate and args and type(args[0]) is Tensor and set(args[0].shape[2:]) == {1}:
            return args[0].expand(result.shape)
        return result
