"""A network that can be run but not looked into: TorchScript, an exported program, ONNX.

It has no modules whose borders could be changed, so measures run it whole.

Shapes: images (N, C, H, W).
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from borderless.errors import ImageError

NEEDS_LAYERS = (
    "Needs the network's layers, which a compiled or exported program does not show; audit the Python model that it "
    "was made from (borderless audit package.module:build --weights FILE)"
)


class Program(nn.Module):
    """A network from a file that holds a program.

    Args:
        run: Takes images on the CPU.
        kind: What it is, in words.
        shape: Of its input (N, C, H, W), with None where it takes any number.
    """

    def __init__(
        self, run: Callable[[Tensor], Any], kind: str, shape: Sequence[int | None] = (None, None, None, None)
    ) -> None:
        super().__init__()
        # Not a submodule: an exported program refuses eval().
        self._run_whole = (run,)
        self.kind, self.shape = kind, tuple(shape)

    def forward(self, images: Tensor) -> Any:
        """Return what the program returns, run in batches of the size that it takes.

        Raises:
            ImageError: The program takes images of another shape.
        """
        given = tuple(images.shape[1:])
        if any(wanted not in (None, got) for wanted, got in zip(self.shape[1:], given, strict=True)):
            wanted = " × ".join("any" if n is None else str(n) for n in self.shape[1:])
            raise ImageError(
                f"Expected images of {wanted}, the shape that this {self.kind} was made for, but got "
                f"{' × '.join(map(str, given))}; give images of that size (--size)."
            )
        (run,), at_once = self._run_whole, self.shape[0]
        if at_once is None or len(images) == at_once:
            return run(images)
        found: list[Any] = []
        for start in range(0, len(images), at_once):
            some = images[start : start + at_once]
            filled = torch.cat([some, some[-1:].repeat(at_once - len(some), 1, 1, 1)])
            found.append(_first(run(filled), len(some)))
        return _joined(found)


def is_program(model: nn.Module) -> bool:
    """Return whether a network, or the one inside it, is a program."""
    return any(isinstance(module, Program) for module in model.modules())


def as_module(model: nn.Module) -> nn.Module:
    """Return a model, in a `Program` if it is TorchScript."""
    if isinstance(model, torch.jit.ScriptModule):
        return Program(model, "TorchScript")
    return model


def _first(output: Any, count: int) -> Any:
    if isinstance(output, dict):
        return {key: _first(entry, count) for key, entry in cast(dict[Any, Any], output).items()}
    if isinstance(output, tuple):
        return tuple(_first(entry, count) for entry in cast(tuple[Any, ...], output))
    return output[:count]


def _joined(parts: list[Any]) -> Any:
    one = parts[0]
    if isinstance(one, dict):
        return {key: _joined([part[key] for part in parts]) for key in cast(dict[Any, Any], one)}
    if isinstance(one, tuple):
        return tuple(_joined([part[i] for part in parts]) for i in range(len(cast(tuple[Any, ...], one))))
    return torch.cat(parts) if isinstance(one, Tensor) else [entry for part in parts for entry in part]
