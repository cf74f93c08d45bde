"""Products that sum over a dimension: einsum, matrix products, cosine similarity.

Over channels each cell is by itself, so the background is treated as the window. Over all of space a product of maps is
a weighted sum, such as attentive pooling: it is counted as a sum is (`reductions`), the deviation of the product from
that of the backgrounds over the window, and the background's product over the frame. Products of every cell with every
other one, as in attention, are refused.
"""

from collections.abc import Callable, Sequence
from math import prod
from string import ascii_letters
from typing import Any

import torch
from torch import Tensor

from borderless.engine.geometry import Box
from borderless.engine.naming import describe, named
from borderless.engine.registry import Kind, rule
from borderless.engine.relabeled import Relabeled
from borderless.engine.rules.joining import joint_box, joint_field
from borderless.engine.rules.reductions import counted_cells
from borderless.engine.rules.spread_maps import is_constant_along
from borderless.engine.signal import Signal
from borderless.engine.tiles import less, periods, ranges_of, same_period, tile

Letters = tuple[str, ...]


def _einsum_seen(function: Any, _: Relabeled, *args: Any) -> Any:
    return einsum(function, *args)


@rule(*named("einsum"), dims=_einsum_seen)
def einsum(function: Any, equation: Any, *operands: Any) -> Any:
    """Sum products over channels, or over all of space."""
    values = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], list | tuple) else list(operands)
    signal = _first(values)
    if not isinstance(equation, str):
        raise signal.scope.unsupported(describe(function), 'it has no equation: write one, such as "nchw,dc->ndhw"')
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    free = [letter for letter in ascii_letters if letter not in equation]
    dots = (
        max(value.ndim - len(t.replace("...", "")) for t, value in zip(terms, values, strict=True))
        if "..." in left
        else 0
    )
    inputs = [_spelled(t, free, value.ndim - len(t.replace("...", ""))) for t, value in zip(terms, values, strict=True)]
    if arrow:
        output = _spelled(right, free, dots)
    else:
        once = sorted(letter for letter in set(left) - set(",.") if left.count(letter) == 1)
        output = (*_spelled("...", free, dots), *once)
    return product(function, inputs, output, values, lambda *cells: torch.einsum(equation, *cells))


def _spelled(term: str, free: Sequence[str], dots: int) -> Letters:
    """Return the letters of a term of an equation, with those that its ellipsis stands for."""
    before, ellipsis, after = term.partition("...")
    return (*before, *(free[dots - 1 - i] for i in range(dots)), *after) if ellipsis else tuple(term)


def _need_of_matmul(function: Any, input: Any, other: Any) -> Kind:
    left, right = input, other
    is_plain = isinstance(left, Signal) and not isinstance(right, Signal) and right.ndim <= 2
    return "channels" if is_plain and left.ndim - 1 not in left.axes else "everything"


def _matmul_seen(function: Any, _: Relabeled, *args: Any, **kwargs: Any) -> Any:
    return matmul(function, *args, **kwargs)


@rule(*named("matmul", "__matmul__", "bmm"), needs=_need_of_matmul, dims=_matmul_seen)
def matmul(function: Any, input: Any, other: Any) -> Any:
    """Multiply matrices whose rows and columns are channels, or sum over all of space."""
    left, right = input, other
    rows, columns, inner = "i", "j", "k"
    batch = ascii_letters.replace("i", "").replace("j", "").replace("k", "")
    a = (*(batch[d] for d in reversed(range(left.ndim - 2))), rows, inner) if left.ndim > 1 else (inner,)
    b = (*(batch[d] for d in reversed(range(right.ndim - 2))), inner, columns) if right.ndim > 1 else (inner,)
    longer = max(a[:-2], b[:-2], key=len)
    output = (*longer, *(rows for _ in a[1:2]), *(columns for _ in b[1:2]))
    return product(function, [a, b], output, [left, right], torch.matmul)


@rule(torch.Tensor.__rmatmul__, dims=lambda function, _, right, left: matmul(function, left, right))
def matmul_from_left(function: Any, right: Any, left: Any) -> Any:
    """Multiply by a map from the right."""
    return matmul(function, left, right)


@rule(*named("cosine_similarity"))
def cosine_similarity(function: Any, x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """Compare two maps over their channels."""
    count = max(x1.ndim, x2.ndim)
    letters = ascii_letters[:count]
    output = tuple(letter for i, letter in enumerate(letters) if i != dim % count)
    inputs = [tuple(letters[count - x.ndim :]) for x in (x1, x2)]
    return product(function, inputs, output, [x1, x2], lambda *cells: function(*cells, dim, eps), is_sum=False)


def product(
    function: Any,
    inputs: Sequence[Letters],
    output: Letters,
    operands: Sequence[Any],
    run: Callable[..., Tensor],
    *,
    is_sum: bool = True,
) -> Any:
    """Return what `run` gives of the operands, Signals among them.

    inputs, output: a letter for each dimension, as the model sees them; letters that the output lacks are summed over.
    is_sum: whether `run` is that very sum, in which dimensions may be split.
    """
    seen = _first(operands)
    tokens = {
        letters[value.tokens]
        for value, letters in zip(operands, inputs, strict=True)
        if isinstance(value, Relabeled) and value.tokens is not None
    }
    cells = _split_letters(tokens, inputs, seen)
    own = [_on_map(value, letters, cells, seen) for value, letters in zip(operands, inputs, strict=True)]
    values, letters = [value for value, _ in own], [spelled for _, spelled in own]
    maps = [value for value in values if isinstance(value, Signal)]
    whole = maps[0]
    space, batch = _check_letters(function, values, letters)
    made = tuple(c for letter in output for c in cells.get(letter, (letter,)))
    kept = [letter for letter in made if letter in space]
    if made[:1] != (batch,) or kept not in ([], list(space)):
        raise _refused(
            function,
            seen,
            "it sums over the batch or moves it" if batch not in made[:1] else "it runs over one spatial axis",
        )
    uniform = [_without_extent(v, spelled, space) for v, spelled in zip(values, letters, strict=True)]
    if any(value is None for value in uniform):
        seen.scope.reads_position(describe(function), "an ordinary tensor with a value for each position enters")
        return run(*(value.crop() if isinstance(value, Signal) else value for value in operands))
    is_taped = any(value.untaped() is not value for value in maps)
    if any(isinstance(value, Relabeled) for value in operands) and (is_taped or not seen.border.is_own):
        result = torch.einsum(f"{','.join(map(''.join, letters))}->{''.join(made)}", *values)
        return _seen(result, output, tokens, seen)
    moved = [_space_last(value) for value in maps]
    box = joint_box(moved, function)
    if not kept:
        if not is_sum:
            raise _refused(function, seen, "it runs over space")
        whole.check_gradients()
        if seen.border.is_own:
            return run(*(value.window if isinstance(value, Signal) else value for value in operands))
        return _sum_over_space(function, uniform, run, box)
    axes = tuple(made.index(letter) for letter in space)
    if axes != tuple(sorted(axes)):
        raise _refused(function, seen, "it exchanges spatial axes")
    if not seen.border.is_own:
        window = run(*(value.read(box) if isinstance(value, Signal) else value for value in uniform))
    else:
        window = run(*(value.window if isinstance(value, Signal) else value for value in operands))
        sizes = dict(zip(space, whole.frame, strict=True))
        for i, letter in enumerate(output):
            if letter in tokens:
                window = window.unflatten(i, [sizes[c] for c in cells[letter]])
    background = None
    if whole.background is not None:
        background = run(*_around(uniform))
    result = whole.derive(window, background, box=box, axes=axes, field=joint_field(moved))
    return _seen(result, output, tokens, seen)


def _seen(result: Any, output: Letters, tokens: set[str], like: Signal) -> Any:
    """Return what came of maps, as the model sees it."""
    merged = [i for i, letter in enumerate(output) if letter in tokens]
    call = like.flattened_by if isinstance(like, Relabeled) else None
    return Relabeled.of(result, 0, merged[0], call) if merged else result


def _first(values: Sequence[Any]) -> Signal:
    return next(value for value in values if isinstance(value, Signal))


def _split_letters(tokens: set[str], inputs: Sequence[Letters], seen: Signal) -> dict[str, Letters]:
    """For each letter of a dimension of tokens, the letters of the spatial axes that it merges."""
    free = [letter for letter in ascii_letters if not any(letter in letters for letters in inputs)]
    count = len(seen.map.axes) if isinstance(seen, Relabeled) else len(seen.axes)
    return {letter: tuple(free[i * count : (i + 1) * count]) for i, letter in enumerate(sorted(tokens))}


def _on_map(value: Any, letters: Letters, cells: dict[str, Letters], seen: Signal) -> tuple[Any, Letters]:
    """Return an operand and its letters, in the dimensions of maps."""
    spelled = tuple(c for letter in letters for c in cells.get(letter, (letter,)))
    if isinstance(value, Relabeled):
        batch = letters[value.batch]
        return value.map, (batch, *(letter for letter in spelled if letter != batch))
    if isinstance(value, Signal):
        return value, letters
    for i in reversed(range(value.ndim)):
        if letters[i] in cells:
            frame = seen.map.frame if isinstance(seen, Relabeled) else seen.frame
            sizes = frame if value.shape[i] == prod(frame) else [value.shape[i], *[1] * (len(frame) - 1)]
            value = value.unflatten(i, sizes)
    return value, spelled


def _check_letters(function: Any, values: Sequence[Any], letters: Sequence[Letters]) -> tuple[Letters, str]:
    """Return the letters of space and of the batch, which all maps share."""
    found = [(v, spelled) for v, spelled in zip(values, letters, strict=True) if isinstance(v, Signal)]
    first, spelled = found[0]
    space = tuple(spelled[axis] for axis in first.axes)
    for other, of_other in found:
        if tuple(of_other[axis] for axis in other.axes) != space or of_other[0] != spelled[0]:
            raise _refused(
                function, first, "it takes every cell of a feature map with every one of another (attention)"
            )
        if len(set(of_other)) < len(of_other):
            raise _refused(function, first, "it takes a diagonal of a feature map")
    return space, spelled[0]


def _refused(function: Any, signal: Signal, reason: str) -> Exception:
    return signal.scope.unsupported(
        describe(function),
        f"{reason}. Over channels, and over all of space at once as a weighted sum, it can run: for one spatial axis "
        "write (a * b).sum(axis, keepdim=True)",
    )


def _without_extent(value: Any, letters: Letters, space: Letters) -> Any:
    """Return an ordinary tensor of size 1 along space; None where it has a value for each position."""
    if isinstance(value, Signal):
        return value
    spread = [i for i, letter in enumerate(letters) if letter in space and value.shape[i] != 1]
    if spread and not is_constant_along(value, [i - value.ndim for i in spread]):
        return None
    for i in spread:
        value = value.narrow(i, 0, 1)
    return value


def _space_last(signal: Signal) -> Signal:
    rest = [d for d in range(signal.ndim) if d not in signal.axes]
    order = [*rest, *signal.axes]
    return signal if order == list(range(signal.ndim)) else signal.permute(order)  # pyright: ignore[reportReturnType]


def _around(values: Sequence[Any], *, dense: bool = False) -> list[Any]:
    """Return the operands with each map replaced by its background, over one common period."""
    places = [i for i, value in enumerate(values) if isinstance(value, Signal)]
    tiles = same_period([values[i].background for i in places], [values[i].axes for i in places], dense=dense)
    result = list(values)
    for i, background in zip(places, tiles, strict=True):
        result[i] = background
    return result


def _sum_over_space(function: Any, values: Sequence[Any], run: Callable[..., Tensor], box: Box) -> Tensor:
    """Σ of a product: over the window w₁w₂ - b₁b₂ = (w₁ - b₁) w₂ + b₁ (w₂ - b₂), and over the frame b₁b₂."""
    windows = [value.read(box) if isinstance(value, Signal) else value for value in values]
    maps = [i for i, value in enumerate(values) if isinstance(value, Signal)]
    whole = values[maps[0]]
    if whole.background is None:
        return run(*windows)
    around = list(values)
    for i in maps:
        around[i] = tile(values[i].background, values[i].axes, ranges_of(box)).expand_as(windows[i])
    total = None
    for i in maps:
        parts = [windows[j] if j > i else around[j] for j in range(len(values))]
        parts[i] = less(windows[i], around[i])
        total = run(*parts) if total is None else total + run(*parts)
    assert total is not None
    frame, count = counted_cells(function, whole, whole.axes)
    tiles = _around(values, dense=True)
    cells = prod(periods(tiles[maps[0]], whole.axes))
    return (total if count == frame else total * (frame / count)) + run(*tiles) * (frame / cells)
