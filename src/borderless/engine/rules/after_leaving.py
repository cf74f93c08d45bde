"""Functions on cells that have left the engine, and the errors and warnings about them."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from borderless.engine.leaving import LeftCells, unwatched
from borderless.engine.naming import describe, is_torch_own, named
from borderless.engine.registry import LEFT, REFUSED, find_rule, rule, traits_of
from borderless.engine.relabeled import Relabeled
from borderless.engine.rules import casts, pointwise
from borderless.engine.rules.cell_products import AfterCall, of_einsum, of_product
from borderless.engine.rules.cell_views import CHOSEN, kept, of_index, of_view
from borderless.engine.rules.losses import LOSSES
from borderless.engine.rules.unfolding import FOLD
from borderless.engine.signal import Signal, first_signal
from borderless.engine.signatures import arguments
from borderless.engine.torch_internals import DisableTorchFunctionSubclass, getter, tree_leaves, tree_map
from borderless.errors import UnsupportedOperation

_VIEWS = frozenset(
    named("permute", "transpose", "movedim", "moveaxis", "swapaxes", "swapdims", "t", "adjoint", "reshape", "view")
    + named("flatten", "unflatten", "unsqueeze", "squeeze", "view_as", "reshape_as", "expand", "expand_as", "narrow")
    + named("select", "split", "chunk", "tensor_split", "split_with_sizes", "unbind")
    + [getter(name) for name in ("T", "mT", "H", "mH")]
)
_JOINS = frozenset(named("cat", "concat", "concatenate", "stack"))
# Of cells by their number: the result has its cells where the indices have theirs.
_LOOKUPS = frozenset(named("embedding", "one_hot", "gather", "take_along_dim", "index_select"))
_CHOICES = frozenset(
    named("max", "min", "amax", "amin", "argmax", "argmin", "aminmax", "topk", "sort", "argsort", "kthvalue", "median")
    + named("nonzero", "argwhere", "masked_select", "any", "all", "count_nonzero", "unique", "isin", "tolist", "item")
    + named("numpy", "bincount", "equal", "allclose", "msort")
)
RECURRENT = frozenset(named("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell"))
SPECTRA = frozenset([torch.stft, torch.istft, *(f for f in vars(torch.fft).values() if callable(f)), torch.Tensor.stft])
ATTENTION = frozenset(named("multi_head_attention_forward"))
SCORES = frozenset(named("scaled_dot_product_attention"))
_PRODUCTS = frozenset(named("matmul", "mm", "bmm", "mv", "dot", "cdist", "__matmul__", "__rmatmul__"))
_SUMMED_PRODUCTS = frozenset(named("addmm", "addbmm", "baddbmm", "addmv"))
_CONVOLUTIONS = frozenset(named("conv1d", "conv2d", "conv3d"))
_WHOLE_CELLS = (pointwise.elementwise, casts.alike, casts.dropout)


@rule(LEFT)
def watch(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Run `function` as PyTorch does; name it if it mixes cells, and go on watching what comes out."""
    if first_signal(args, kwargs) is not None:
        return function(*unwatched(args), **unwatched(kwargs))
    cells = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, LeftCells)]
    found = None
    if cells and not _is_query(function):
        found = _outcome(function, args, kwargs, cells)
        if found.is_refused and cells[0].scope.border.at is None:
            raise cells[0].scope.unsupported(describe(function), _reason(found, cells[0]))
    with DisableTorchFunctionSubclass():
        result = function(*args, **kwargs)
    if found is None:
        return result
    is_reported = any(leaf.is_reported for leaf in cells)
    results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
    if found.mixes and any(leaf.ndim for leaf in results):  # a single number is a loss, or a statistic
        if not is_reported:
            cells[0].scope.reads_position(describe(function), _reason(found, cells[0]))
        is_reported = True
    if found.dims is None:
        return unwatched(result)
    dims = found.dims

    def watched(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or isinstance(leaf, LeftCells):  # changed in place
            return leaf
        return LeftCells.of(leaf, dims(leaf), cells[0].scope, cells[0].origin, is_reported)

    return tree_map(watched, result)


@rule(REFUSED)
def at_boundary(refusal: UnsupportedOperation, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run what a rule has refused on the cropped maps, if they are lists of cells already, or the border says so."""
    maps = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Signal)]
    if all(_is_list_of_cells(leaf) for leaf in maps) and not _is_in_place(function):
        return _after_leaving(refusal, function, args, kwargs)
    signal = first_signal(args, kwargs)
    if signal is None or signal.border.at is None:
        raise refusal
    reason = "at='boundary' runs it on the feature map cropped to its frame"
    signal.scope.reads_position(describe(function), reason, signal.frame)

    def cropped(leaf: Any) -> Any:
        return leaf.crop().contiguous() if isinstance(leaf, Signal) else leaf  # as the unmodified model has them

    args, kwargs = tree_map(cropped, (args, kwargs))
    return function(*args, **kwargs)


def _is_list_of_cells(signal: Signal) -> bool:
    return isinstance(signal, Relabeled) and signal.tokens is not None


def _is_in_place(function: Any) -> bool:
    return function is Tensor.__setitem__ or (is_torch_own(function) and pointwise.acts_in_place(function))


def _after_leaving(refusal: UnsupportedOperation, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Let tokens leave the engine, and go on with cells that are watched."""
    left: dict[int, Tensor] = {}

    def cells_of(leaf: Any) -> Any:
        if not isinstance(leaf, Relabeled):
            return leaf
        if id(leaf) not in left:
            call, cells = leaf.flattened_by or leaf.scope.call_of(function), leaf.crop()
            leaf.scope.leaves(call, leaf.map.frame, tuple(cells.shape))
            left[id(leaf)] = LeftCells.of(cells, {d for d in (leaf.tokens,) if d is not None}, leaf.scope, str(call))
        return left[id(leaf)]

    args, kwargs = tree_map(cells_of, (args, kwargs))
    try:
        return function(*args, **kwargs)
    except UnsupportedOperation as error:
        raise error from refusal


def _reason(found: AfterCall, cells: LeftCells) -> str:
    reason = f"it {found.mixes}, and these are cells of a map: {cells.origin}"
    return f"{reason}. Layers that treat each cell alike can run: Linear, LayerNorm" if found.is_refused else reason


def _is_query(function: Any) -> bool:
    """Return whether it only asks what a tensor is."""
    return function not in _VIEWS and traits_of(find_rule(function)).needs == "nothing"


def _outcome(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], cells: list[LeftCells]) -> AfterCall:
    if function in _VIEWS:
        return of_view(function, args, kwargs, cells[0])
    if function is Tensor.__getitem__:
        return of_index(args, kwargs, cells)
    if function is F.fold:
        return AfterCall(None, FOLD, is_refused=True)
    if function in LOSSES:
        return CHOSEN
    if function in RECURRENT or function in SPECTRA:
        return AfterCall(None, "runs along cells", is_refused=True)
    if function in ATTENTION:
        return AfterCall(None, "is attention over cells", is_refused=True)
    if function in SCORES:
        if any(leaf.cell_dims & {leaf.ndim - 1, leaf.ndim - 2} for leaf in cells):
            return AfterCall(None, "is attention over cells", is_refused=True)
        return kept(cells)
    if function in _PRODUCTS:
        return of_product(*args[:2], is_transposed=function is torch.cdist)
    if function in _SUMMED_PRODUCTS:
        return of_product(*args[1:3])
    if function is torch.einsum:
        return of_einsum(args)
    if function in _JOINS:
        given = arguments(function, args, kwargs)
        added = function.__name__ == "stack"
        dim = given.get("dim", 0) % (cells[0].ndim + added)
        return AfterCall(lambda _: frozenset(d + (added and d >= dim) for leaf in cells for d in leaf.cell_dims))
    if function in _LOOKUPS:
        indices = next((leaf for leaf in cells if not leaf.is_floating_point()), cells[0])
        return AfterCall(lambda _: indices.cell_dims)
    if function in _CONVOLUTIONS and _slides_between_cells(function, args, kwargs):
        return kept(cells)
    if find_rule(function) in _WHOLE_CELLS:
        return _of_cells(args, kwargs, cells)
    return _along_dimensions(function, args, kwargs, cells)


def _slides_between_cells(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether a convolution has a kernel of 1 along all cells."""
    given = arguments(function, args, kwargs)
    cells, weight = given["input"], given["weight"]
    steps, around = (given[name] for name in ("stride", "padding"))

    def along(sizes: Any, axis: int) -> Any:
        return sizes[axis] if isinstance(sizes, list | tuple) and len(sizes) > 1 else sizes

    return isinstance(cells, LeftCells) and all(
        weight.shape[dim] == 1
        and along(steps, dim - 2) in (1, [1], (1,))
        and along(around, dim - 2) in (0, [0], (0,), "valid", "same")
        for dim in cells.cell_dims
        if dim > 1
    )


def _of_cells(args: tuple[Any, ...], kwargs: dict[str, Any], cells: list[LeftCells]) -> AfterCall:
    behind = {dim - leaf.ndim for leaf in cells for dim in leaf.cell_dims}  # PyTorch aligns shapes at their end
    learned = any(
        not isinstance(leaf, LeftCells)
        and _is_learned(leaf)
        and any(leaf.ndim >= -dim and leaf.shape[dim] > 1 for dim in behind)
        for leaf in tree_leaves((args, kwargs))
        if isinstance(leaf, Tensor)
    )
    return AfterCall(
        lambda made: frozenset(made.ndim + dim for dim in behind if made.ndim >= -dim),
        "has a learned value for each cell" if learned else "",
    )


def _is_learned(tensor: Tensor) -> bool:
    """Return whether it is a parameter, or made of a single one alone."""
    if isinstance(tensor, torch.nn.Parameter):
        return True
    node = tensor.grad_fn
    while node is not None:
        sources = [source for source, _ in node.next_functions if source is not None]
        if len(sources) != 1:
            return hasattr(node, "variable")
        node = sources[0]
    return tensor.requires_grad


def _along_dimensions(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], cells: list[LeftCells]
) -> AfterCall:
    """Functions along some dimensions, and all that is left: convolutions, losses, and what nobody knows."""
    first = cells[0]
    touched, keeps = _touched(function, first, args, kwargs)
    if touched is None:
        kind = traits_of(find_rule(function)).needs
        if kind == "cell" or function in _CHOICES:
            return kept(cells) if kind == "cell" else CHOSEN
        return kept(cells, "reads several cells, with the model's original padding if it pads")
    if not touched & first.cell_dims:
        return AfterCall(
            lambda made: frozenset(
                dim - (0 if made.ndim == first.ndim else sum(other < dim for other in touched))
                for dim in first.cell_dims
            )
        )
    if function in _CHOICES:
        return CHOSEN
    if 0 in touched and function is not F.linear:  # a loss, or a statistic of the batch
        return CHOSEN
    return kept(cells, keeps)


def _touched(
    function: Any, cells: LeftCells, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[set[int] | None, str]:
    """Return the dimensions that a function runs along (None: it does not say), and what it does there."""
    weighs, mixes = "has a weight for each cell", "takes the cells of a frame together"
    if function is F.linear:
        return {cells.ndim - 1}, weighs
    if function in (F.layer_norm, torch.layer_norm, F.rms_norm):
        given = arguments(function, args, kwargs)["normalized_shape"]
        return set(range(cells.ndim - (1 if isinstance(given, int) else len(given)), cells.ndim)), weighs
    given = arguments(function, args, kwargs)
    if "dim" not in given:
        return None, mixes
    dim = given["dim"]
    if dim is None or dim == []:
        return set(range(cells.ndim)), mixes
    return {d % cells.ndim for d in ((dim,) if isinstance(dim, int) else dim)}, mixes
