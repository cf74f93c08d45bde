"""A call by keyword is the call by position, for every function of PyTorch that has a rule.

PyTorch itself is the oracle for the names: each call is first made on ordinary tensors.
"""

import inspect
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

import borderless as bl
from borderless.engine import naming, registry
from borderless.engine.naming import describe
from borderless.engine.rules.unknown import refuse
from borderless.engine.signal import Signal

CHANNELS = 4
MAP, OTHER, MASK, CHANNELS_LAST = object(), object(), object(), object()  # feature maps, in a call


def weight(*sizes: int) -> Tensor:
    return torch.linspace(-1, 1, torch.Size(sizes).numel(), dtype=torch.float64).reshape(sizes)


def convolution(axes: int) -> dict[str, Any]:
    sizes = {"weight": weight(6, CHANNELS // 2, *[3] * axes), "bias": weight(6)}
    return {"input": MAP, **sizes, "stride": 2, "padding": 1, "dilation": 1, "groups": 2}


def transposed(axes: int) -> dict[str, Any]:
    sizes = {"weight": weight(CHANNELS, 3, *[3] * axes), "bias": weight(6)}
    return {"input": MAP, **sizes, "stride": 2, "padding": 1, "output_padding": 1, "groups": 2, "dilation": 1}


POOL = {"input": MAP, "kernel_size": 3, "stride": 2, "padding": 1}
DIM = {"input": MAP, "dim": 1}
KEEPDIM = {"input": MAP, "dim": 1, "keepdim": True}
OVER_SPACE = {"input": MAP, "dim": (2, 3), "keepdim": True}
NORM = {"weight": weight(CHANNELS), "bias": weight(CHANNELS)}
STATISTICS = {"running_mean": weight(CHANNELS), "running_var": weight(CHANNELS) + 2}

# Names that more than one function bears may have several calls: the first that PyTorch takes is made.
CALLS: dict[str, list[dict[str, Any]]] = {
    "adaptive_avg_pool1d": [{"input": MAP, "output_size": 1}],
    "adaptive_avg_pool2d": [{"input": MAP, "output_size": 1}],
    "adaptive_avg_pool3d": [{"input": MAP, "output_size": 1}],
    "adaptive_max_pool1d": [{"input": MAP, "output_size": 1}],
    "adaptive_max_pool2d": [{"input": MAP, "output_size": 1}],
    "adaptive_max_pool3d": [{"input": MAP, "output_size": 1}],
    "addcdiv": [{"input": MAP, "tensor1": OTHER, "tensor2": MAP}],
    "addcmul": [{"input": MAP, "tensor1": OTHER, "tensor2": MAP}],
    "amax": [OVER_SPACE],
    "amin": [OVER_SPACE],
    "argmax": [DIM],
    "argmin": [KEEPDIM],
    "argsort": [{"input": MAP, "dim": 1, "descending": True}],
    "avg_pool1d": [POOL],
    "avg_pool2d": [POOL | {"ceil_mode": True, "count_include_pad": False}],
    "avg_pool3d": [POOL],
    "batch_norm": [
        {"input": MAP, **STATISTICS, **NORM, "training": False, "momentum": 0.1, "eps": 1e-5},
        {"input": MAP, **NORM, **STATISTICS, "training": False, "momentum": 0.1, "eps": 1e-5, "cudnn_enabled": True},
    ],
    "cat": [{"tensors": [MAP, OTHER], "dim": 1}],
    "celu": [{"input": MAP, "alpha": 0.5}],
    "channel_shuffle": [{"input": MAP, "groups": 2}],
    "chunk": [{"input": MAP, "chunks": 2, "dim": 1}],
    "clamp": [{"input": MAP, "min": 0.9, "max": 1.1}],
    "clip": [{"input": MAP, "min": 0.9, "max": 1.1}],
    "clamp_max": [{"input": MAP, "max": 0.1}],
    "clamp_min": [{"input": MAP, "min": OTHER}],
    "concat": [{"tensors": [MAP, OTHER], "dim": 1}],
    "concatenate": [{"tensors": [MAP, OTHER], "dim": 1}],
    "conv1d": [convolution(1)],
    "conv2d": [convolution(2)],
    "conv3d": [convolution(3)],
    "conv_transpose1d": [transposed(1)],
    "conv_transpose2d": [transposed(2)],
    "conv_transpose3d": [transposed(3)],
    "cummax": [DIM],
    "cummin": [DIM],
    "cumprod": [DIM],
    "cumsum": [DIM],
    "elu": [{"input": MAP, "alpha": 0.5}],
    "expand_as": [{"input": MAP, "other": OTHER}],
    "expand": [{"input": MAP, "size": (-1, -1, -1, -1)}],
    "flatten": [{"input": MAP, "start_dim": 0, "end_dim": 1}],
    "full_like": [{"input": MAP, "fill_value": 2.0}],
    "glu": [DIM],
    "group_norm": [{"input": MAP, "num_groups": 2, **NORM, "eps": 1e-5}],
    "hardtanh": [{"input": MAP, "min_val": -0.5, "max_val": 0.5}],
    "heaviside": [{"input": MAP, "values": OTHER}],
    "instance_norm": [{"input": MAP, **STATISTICS, **NORM, "use_input_stats": False, "momentum": 0.1, "eps": 1e-5}],
    "interpolate": [{"input": MAP, "size": None, "scale_factor": 2, "mode": "nearest"}],
    "is_same_size": [{"input": MAP, "other": OTHER}],
    "kthvalue": [{"input": MAP, "k": 2, "dim": 1, "keepdim": False}],
    "layer_norm": [
        {"input": CHANNELS_LAST, "normalized_shape": (CHANNELS,), "weight": None, "bias": None, "eps": 1e-5}
    ],
    "leaky_relu": [{"input": MAP, "negative_slope": 0.2}],
    "lerp": [{"input": MAP, "end": OTHER, "weight": 0.3}],
    "linalg_norm": [{"input": MAP, "ord": None, "dim": (2, 3), "keepdim": True}],
    "linalg_vector_norm": [{"input": MAP, "ord": 2, "dim": (2, 3), "keepdim": True}],
    "linear": [{"input": CHANNELS_LAST, "weight": weight(3, CHANNELS), "bias": weight(3)}],
    "local_response_norm": [{"input": MAP, "size": 3, "alpha": 0.1, "beta": 0.5, "k": 1.0}],
    "log_softmax": [DIM],
    "logcumsumexp": [DIM],
    "logsumexp": [KEEPDIM, DIM],
    "masked_fill": [{"input": MAP, "mask": MASK, "value": 2.0}],
    "max": [KEEPDIM],
    "max_pool1d": [POOL | {"dilation": 1, "ceil_mode": True}],
    "max_pool2d": [POOL | {"dilation": 1, "ceil_mode": True}],
    "max_pool3d": [POOL | {"dilation": 1, "ceil_mode": True}],
    "mean": [OVER_SPACE],
    "median": [KEEPDIM],
    "min": [KEEPDIM],
    "mode": [KEEPDIM],
    "moveaxis": [{"input": MAP, "source": 1, "destination": -1}],
    "movedim": [{"input": MAP, "source": 1, "destination": -1}],
    "mvlgamma": [{"input": MAP, "p": 2}],
    "nanmedian": [KEEPDIM],
    "native_channel_shuffle": [{"input": MAP, "groups": 2}],
    "norm": [{"input": MAP, "p": 2, "dim": (2, 3), "keepdim": True}],
    "normalize": [{"input": MAP, "p": 2.0, "dim": 1, "eps": 1e-6}],
    "pad": [{"input": MAP, "pad": (1, 2, 0, 1), "mode": "constant", "value": 0.0}],
    "permute": [{"input": MAP, "dims": (0, 2, 3, 1)}],
    "pixel_shuffle": [{"input": MAP, "upscale_factor": 2}],
    "pixel_unshuffle": [{"input": MAP, "downscale_factor": 2}],
    "polygamma": [{"n": 1, "input": MAP}, {"input": MAP, "n": 1}],
    "pow": [{"input": MAP, "exponent": 2}],
    "float_power": [{"input": MAP, "exponent": 2}],
    "prelu": [{"input": MAP, "weight": weight(CHANNELS)}],
    "reshape": [{"input": MAP, "shape": (2, 2, 2, 8, 10)}],
    "reshape_as": [{"input": MAP, "other": OTHER}],
    "rms_norm": [{"input": CHANNELS_LAST, "normalized_shape": (CHANNELS,), "weight": None, "eps": 1e-5}],
    "softmax": [DIM],
    "special_softmax": [DIM],
    "special_logsumexp": [DIM],
    "special_log_softmax": [DIM],
    "softmin": [DIM],
    "softplus": [{"input": MAP, "beta": 2, "threshold": 10}],
    "sort": [{"input": MAP, "dim": 1, "descending": True}],
    "split": [{"tensor": MAP, "split_size_or_sections": 2, "dim": 1}, {"self": MAP, "split_size": 2, "dim": 1}],
    "split_with_sizes": [{"input": MAP, "split_sizes": [1, 3], "dim": 1}],
    "squeeze": [{"input": MAP, "dim": 1}],
    "stack": [{"tensors": [MAP, OTHER], "dim": 1}],
    "std": [OVER_SPACE],
    "std_mean": [OVER_SPACE],
    "sum": [OVER_SPACE],
    "swapaxes": [{"input": MAP, "axis0": 1, "axis1": 2}],
    "swapdims": [{"input": MAP, "dim0": 1, "dim1": 2}],
    "tensor_split": [{"input": MAP, "indices_or_sections": 2, "dim": 1}, {"input": MAP, "sections": 2, "dim": 1}],
    "_threshold": [{"input": MAP, "threshold": 0.8, "value": 0.0}],
    "threshold": [{"input": MAP, "threshold": 0.1, "value": 0.0}],
    "to": [{"input": MAP, "dtype": torch.float32}],
    "topk": [{"input": MAP, "k": 2, "dim": 1}],
    "transpose": [{"input": MAP, "dim0": 1, "dim1": 2}],
    "type": [{"input": MAP, "dtype": torch.float32}],
    "type_as": [{"input": MAP, "other": OTHER}],
    "unbind": [DIM],
    "unflatten": [{"input": MAP, "dim": 1, "sizes": (2, 2)}],
    "unsqueeze": [DIM],
    "var": [OVER_SPACE],
    "var_mean": [OVER_SPACE],
    "view": [{"input": MAP, "size": (2, 2, 2, 8, 10)}],
    "view_as": [{"input": MAP, "other": OTHER}],
    "where": [{"condition": MASK, "input": MAP, "other": OTHER}, {"input": MAP, "condition": MASK, "other": OTHER}],
    "size": [DIM],
    "dropout": [{"input": MAP, "p": 0.5, "training": True}, {"input": MAP, "p": 0.5, "train": True}],
    "requires_grad_": [{"input": MAP, "requires_grad": False}],
} | {
    name: [{"input": MAP, "p": 0.5, "training": True}, {"input": MAP, "p": 0.5, "train": True}]
    for name in ("alpha_dropout", "feature_alpha_dropout", "dropout1d", "dropout2d", "dropout3d")
}
CALLS |= {f"max_pool{n}d_with_indices": [POOL] for n in (1, 2, 3)}
CALLS |= {
    "broadcast_to": [{"input": MAP, "size": (2, CHANNELS, 8, 10)}],
    "copy": [{"input": MAP, "src": OTHER}, {"input": MAP, "other": OTHER}],
    "fill": [{"input": MAP, "value": 0.5}],
    "flip": [{"input": MAP, "dims": (0, 1)}],
    "index_select": [{"input": MAP, "dim": 1, "index": torch.tensor([2, 0])}],
    "narrow": [{"input": MAP, "dim": 1, "start": 1, "length": 2}],
    "normal": [{"input": MAP, "mean": 0.5, "std": 2.0}],
    "repeat": [{"input": MAP, "repeats": (1, 2, 1, 1)}],
    "repeat_interleave": [{"input": MAP, "repeats": 2, "dim": 1}],
    "select": [{"input": MAP, "dim": 1, "index": 2}],
    "tile": [{"input": MAP, "dims": (1, 2, 1, 1)}],
}
CALLS |= {f"adaptive_max_pool{n}d_with_indices": [{"input": MAP, "output_size": 1}] for n in (1, 2, 3)}
CALLS |= {f"lp_pool{n}d": [{"input": MAP, "norm_type": 2, "kernel_size": 2, "stride": 2}] for n in (1, 2, 3)}
CALLS |= {
    "any": [KEEPDIM],
    "all": [KEEPDIM],
    "aminmax": [KEEPDIM],
    "cosine_similarity": [{"x1": MAP, "x2": OTHER, "dim": 1, "eps": 1e-6}],
    "linalg_matmul": [{"input": CHANNELS_LAST, "other": weight(CHANNELS, 3)}],
    "matmul": [{"input": CHANNELS_LAST, "other": weight(CHANNELS, 3)}],
    "unfold": [{"input": MAP, "kernel_size": 3, "dilation": 1, "padding": 1, "stride": 2}],
}
LOSSES = (
    "mse_loss l1_loss smooth_l1_loss huber_loss soft_margin_loss hinge_embedding_loss kl_div cross_entropy "
    "binary_cross_entropy_with_logits multilabel_soft_margin_loss".split()
)
CALLS |= {name: [{"input": MAP, "target": OTHER}] for name in LOSSES}
CALLS |= {
    "gaussian_nll_loss": [{"input": MAP, "target": OTHER, "var": MAP}],
    "grid_sample": [{"input": MAP, "grid": weight(2, 3, 5, 2), "mode": "bilinear", "align_corners": False}],
    "poisson_nll_loss": [
        {"input": MAP, "target": OTHER},
        {"input": MAP, "target": OTHER, "log_input": True, "full": False, "eps": 1e-8, "reduction": 1},
    ],
}
OF_CELLS: list[dict[str, Any]] = [  # elementwise functions that are not named above
    {"input": MAP},
    {"input": MAP, "other": OTHER},
    {"x": MAP},
    {"x": MAP, "n": OTHER},
]


# Each of these stops the model: it asks for the values of a map, or gives something other than maps.
REFUSED = set("__array__ numpy tolist equal frexp".split())
# These take nothing but a map, and no map of many cells; or have no parameter that can be named; or need gradients; or
# take no maps of two axes, or none that is not tokens; or indices of a pool; or values below 1, or labels.
WITHOUT_A_CALL = set(
    "__bool__ __float__ __index__ __int__ __getitem__ item is_nonzero new_empty new_full new_ones new_tensor new_zeros "
    "cuda register_hook retain_grad __iter__ __setitem__ empty_like uniform_ bmm einsum fold __matmul__ __rmatmul__ "
    "max_unpool1d max_unpool2d max_unpool3d gumbel_softmax binary_cross_entropy nll_loss "
    # Noise that is refused, whatever its arguments are, but for torch.Tensor.normal_.
    "bernoulli bernoulli_ cauchy_ exponential_ geometric_ log_normal_ multinomial normal poisson "
    "randint_like random_".split()
)


class Call(nn.Module):
    """A function of two maps, which convolutions with kernels of 1 and 3 cells have made."""

    def __init__(self, axes: int, kind: str, call: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.convolve, self.kind, self.call = (F.conv1d, F.conv2d, F.conv3d)[axes - 1], kind, call
        self.first, self.second = (weight(CHANNELS, 1, *[k] * axes) for k in (1, 3))

    def forward(self, images: Tensor) -> Any:
        maps = self.convolve(images, self.first), self.convolve(images, self.second, None, 1, 1)
        maps = tuple(m.sigmoid() + 0.6 for m in maps)
        if self.kind == "integers":
            maps = tuple((4 * m).to(torch.int64) for m in maps)
        return self.call(*maps)


def images(axes: int) -> Tensor:
    return torch.randn(2, 1, *(8, 10, 6)[:axes], generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def with_maps(value: Any, first: Tensor, second: Tensor) -> Any:
    made = {
        MAP: lambda: first,
        OTHER: lambda: second,
        MASK: lambda: first > 1,
        CHANNELS_LAST: lambda: first.movedim(1, -1),
    }
    is_marker = isinstance(value, object) and type(value) is object
    return made[value]() if is_marker else value


def calls_of(function: Any, parameters: dict[str, Any], positional: int) -> Callable[[Tensor, Tensor], Any]:
    """The call with that many arguments by position; the others by keyword, in reverse order."""

    def call(first: Tensor, second: Tensor) -> Any:
        given = tree_map(lambda value: with_maps(value, first, second), parameters)
        by_position = [given.pop(name) for name in list(parameters)[:positional]]
        torch.default_generator.manual_seed(0)  # for dropout; the seeds of GPUs take longer than the call
        return function(*by_position, **dict(reversed(given.items())))

    return call


def run(function: Any, parameters: dict[str, Any], positional: int, kind: str, border: str | None) -> Any:
    axes = next((n for n in (1, 2, 3) if f"{n}d" in function.__name__), 2)
    model = Call(axes, kind, calls_of(function, parameters, positional))
    if border is None:
        return model(images(axes))
    return bl.convert_(model, border, output="signal")(images(axes))


def parts(result: Any) -> list[Any]:
    leaves = tree_leaves(result)
    return [
        (leaf.window, leaf.background, leaf.box, leaf.axes, leaf.frame) if isinstance(leaf, Signal) else leaf
        for leaf in leaves
    ]


def same(a: Any, b: Any) -> bool:
    a, b = tree_leaves(parts(a)), tree_leaves(parts(b))
    return len(a) == len(b) and all(
        x.dtype == y.dtype and torch.equal(x.nan_to_num(9.0), y.nan_to_num(9.0)) if isinstance(x, Tensor) else x == y
        for x, y in zip(a, b, strict=True)
    )


METHODS = {getattr(Tensor, name) for name in dir(Tensor) if inspect.isroutine(getattr(Tensor, name))}


def as_pytorch_takes_it(function: Any) -> tuple[dict[str, Any], int, int, str] | None:
    """A call that PyTorch takes of ordinary tensors: parameters, how many of them at least and at most by position."""
    least = 1 if function in METHODS else 0
    name = function.__name__
    for parameters in CALLS.get(name) or CALLS.get(name.removesuffix("_"), OF_CELLS):
        for kind in ("floats", "integers"):
            expected = attempt(function, parameters, least, kind)
            if expected is not NotImplemented:
                counts = range(len(parameters), least, -1)
                most = (n for n in counts if same(attempt(function, parameters, n, kind), expected))
                return parameters, least, next(most, least), kind
    return None


def attempt(function: Any, parameters: dict[str, Any], positional: int, kind: str) -> Any:
    """What PyTorch gives for ordinary tensors; NotImplemented where it takes no such call."""
    try:
        return run(function, parameters, positional, kind, None)
    except (TypeError, RuntimeError, NotImplementedError, ValueError):
        return NotImplemented


FUNCTIONS = sorted(
    (f for f in naming._torch_functions() if registry.find_rule(f) is not refuse),
    key=lambda function: (function.__name__, describe(function)),
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("initial", sorted({function.__name__.strip("_")[0] for function in FUNCTIONS}))
def test_a_call_by_keyword_is_the_call_by_position(initial: str) -> None:
    for function in (f for f in FUNCTIONS if f.__name__.strip("_")[0] == initial):
        if function.__name__ in WITHOUT_A_CALL:
            continue
        found = as_pytorch_takes_it(function)
        assert found is not None, f"{describe(function)} has a rule: it needs a call in CALLS"
        parameters, least, most, kind = found
        for border in ("zero", "infinite") if function.__name__ in CALLS else ("infinite",):
            if function.__name__ in REFUSED:
                with pytest.raises(bl.BorderlessError):
                    run(function, parameters, least, kind, border)
                continue
            by_position, by_keyword = (run(function, parameters, n, kind, border) for n in (most, least))
            assert same(by_keyword, by_position), f"{describe(function)} under {border}"


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=40)
@given(st.data())
def test_arguments_by_position_and_by_keyword_mix(data: st.DataObject) -> None:
    function = data.draw(
        st.sampled_from([f for f in FUNCTIONS if f.__name__ in CALLS.keys() - REFUSED - WITHOUT_A_CALL])
    )
    found = as_pytorch_takes_it(function)
    assert found is not None
    parameters, least, most, kind = found
    count = data.draw(st.integers(least, most))
    names = list(parameters)[:count] + data.draw(st.permutations(list(parameters)[count:]))
    mixed = run(function, {name: parameters[name] for name in names}, count, kind, "infinite")
    assert same(mixed, run(function, parameters, most, kind, "infinite")), describe(function)


def test_every_rule_is_of_a_function_that_is_called_here() -> None:
    """But for attributes, which take no arguments."""
    others = {function for function in registry._RULES if naming.is_torch_own(function)} - set(FUNCTIONS)
    assert all(registry.find_rule(function) is refuse for function in others)
    assert sum(function.__name__ in CALLS for function in FUNCTIONS) > 150
