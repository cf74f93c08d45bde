"""Products of cells that have left the engine: with weights, cell by cell, or with each other, as attention does."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from borderless.engine.leaving import LeftCells


class AfterCall(NamedTuple):
    """The effect of a call on cells."""

    dims: Callable[[Tensor], frozenset[int]] | None = None
    mixes: str = ""
    is_refused: bool = False


def of_product(first: Any, second: Any, is_transposed: bool = False) -> AfterCall:
    """Products of matrices: which cells are summed, and which are paired with which."""
    of_first, of_second = (
        value.cell_dims if isinstance(value, LeftCells) else frozenset() for value in (first, second)
    )
    summed = max(second.ndim - 1, 0) if is_transposed or second.ndim == 1 else second.ndim - 2
    column = -1 if second.ndim == 1 else second.ndim - 2 if is_transposed else second.ndim - 1
    row = -1 if first.ndim == 1 else first.ndim - 2
    sums = first.ndim - 1 in of_first or summed in of_second
    if of_first and of_second and (sums or (row in of_first and column in of_second)):
        return AfterCall(None, "multiplies cells with each other, as attention does", is_refused=True)

    def dims(made: Tensor) -> frozenset[int]:
        behind = {dim - first.ndim for dim in of_first if dim < row} | {dim - second.ndim for dim in of_second}
        behind = {dim for dim in behind if dim < -2}
        rows = {-2 if column >= 0 else -1} if row in of_first and row >= 0 else set()
        columns = {-1} if column in of_second and column >= 0 else set()
        return frozenset(made.ndim + dim for dim in behind | rows | columns if made.ndim >= -dim)

    return AfterCall(dims, "has a weight for each cell" if sums else "")


def of_einsum(args: tuple[Any, ...]) -> AfterCall:
    """Return the same of torch.einsum, by the letters of its equation."""
    equation, *operands = args
    operands = operands[0] if len(operands) == 1 and isinstance(operands[0], list | tuple) else operands
    left = [operand for operand in operands if isinstance(operand, LeftCells)]
    if not isinstance(equation, str) or "." in equation or "->" not in equation:
        return AfterCall(None, "multiplies cells", is_refused=len(left) > 1)
    inputs, output = equation.replace(" ", "").split("->")
    labels = [
        {names[dim] for dim in operand.cell_dims}
        for names, operand in zip(inputs.split(","), operands, strict=True)
        if isinstance(operand, LeftCells)
    ]
    every = set().union(*labels)
    paired = any(a - b and b - a for a in labels for b in labels)
    if len(left) > 1 and (paired or not every <= set(output)):
        return AfterCall(None, "multiplies cells with each other, as attention does", is_refused=True)
    return AfterCall(
        lambda _: frozenset(output.index(name) for name in every if name in output),
        "" if every <= set(output) else "has a weight for each cell",
    )
