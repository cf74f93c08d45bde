"""What the package relies on in PyTorch's private names, and that it keeps them in one place."""

import ast
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree

import borderless
from borderless.engine import torch_internals
from borderless.engine.naming import describe
from borderless.engine.torch_internals import (
    MARK_OF_BACKWARD_HOOKS,
    AnyBatchNorm,
    DisableTorchFunctionSubclass,
    OpOverload,
    batch_norm_update_stats,
    export_error,
    forward_of,
    getter,
    is_transformed,
    make_wrapper_subclass,
    modules_of,
    native_batch_norm_backward,
    running_code,
    running_modules,
    shape_at,
    tree_any,
    tree_leaves,
    tree_map,
    verify_batch_size,
)

PACKAGE = Path(borderless.__file__).parent


class Wrapper(Tensor):
    """A tensor without memory that counts what PyTorch asks it."""

    asked: list[Any]

    @staticmethod
    def __new__(cls, stored: Tensor, shape: tuple[int, ...]) -> "Wrapper":
        self = make_wrapper_subclass(
            cls, torch.Size(shape), dtype=stored.dtype, device=stored.device, requires_grad=stored.requires_grad
        )
        self.__dict__["asked"] = []
        return self

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args[0].asked.append(func)
        with DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise LookupError(str(func))


# Tensors that are not tensors


def test_a_wrapper_has_the_attributes_it_was_made_with_and_no_memory() -> None:
    wrapper = Wrapper(torch.zeros(2, dtype=torch.float64, requires_grad=True), (1, 2, 3))
    assert type(wrapper) is Wrapper
    with DisableTorchFunctionSubclass():
        assert wrapper.shape == (1, 2, 3)
        assert wrapper.dtype == torch.float64
        assert wrapper.device == torch.device("cpu")
        assert wrapper.requires_grad
        assert wrapper.grad_fn is None
    with pytest.raises(LookupError, match=r"aten\.relu"):
        torch.relu(wrapper)


def test_a_custom_autograd_function_leaves_its_mark_on_a_wrapper() -> None:
    class Anew(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, tensor: Tensor) -> Tensor:
            return Wrapper(torch.zeros(1), (1,))

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
            return gradient

    with DisableTorchFunctionSubclass():
        marked = Anew.apply(Wrapper(torch.zeros(1, requires_grad=True), (1,)))
        assert isinstance(marked, Tensor)
        assert marked.grad_fn is not None
        assert marked.grad_fn.name() == "AnewBackward"


def test_without_torch_function_nobody_is_asked() -> None:
    wrapper = Wrapper(torch.zeros(1), (1,))
    with DisableTorchFunctionSubclass():
        assert not wrapper.requires_grad
    assert wrapper.asked == []
    assert not wrapper.requires_grad
    assert wrapper.asked == [getter("requires_grad")]


@pytest.mark.parametrize("name", ["dtype", "device", "grad_fn", "is_leaf", "requires_grad"])
def test_an_attribute_is_asked_for_by_its_getter(name: str) -> None:
    wrapper = Wrapper(torch.zeros(1), (1,))
    getattr(wrapper, name)
    assert wrapper.asked == [getter(name)]
    assert hash(wrapper.asked[0]) == hash(getter(name))  # it is looked up in a dict
    assert describe(wrapper.asked[0]) == f"the attribute {name!r}"


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (torch.relu, "torch.relu"),
        (Tensor.relu, "torch.Tensor.relu"),
        (Tensor.split, "torch.Tensor.split"),  # in Python
        (F.relu, "torch.nn.functional.relu"),
    ],
)
def test_a_function_is_named_as_a_user_writes_it(function: Any, name: str) -> None:
    assert describe(function) == name


# Modules and their calls


class Asking(nn.Module):
    """Notes which modules are running."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[nn.Module] = []

    def forward(self, images: Tensor) -> Tensor:
        self.running = list(running_modules())
        return images


def test_running_modules_are_found_from_the_innermost_on() -> None:
    asking = Asking()
    inner = nn.Sequential(nn.ReLU(), asking)
    model = nn.Sequential(inner, nn.ReLU())
    model(torch.zeros(1))
    assert asking.running == [asking, inner, model]
    # With hooks, PyTorch calls a module in another way.
    inner.register_forward_hook(lambda *_: None, always_call=True)
    model(torch.zeros(1))
    assert asking.running == [asking, inner, model]
    assert list(running_modules()) == []


def test_modules_are_those_that_pytorch_yields() -> None:
    shared = nn.Sequential(nn.ReLU(), nn.Conv2d(1, 1, 3))
    model = nn.Sequential(shared, nn.Sequential(shared, nn.Tanh()), shared)
    model.register_module("none", None)
    shared.add_module("around", model)  # a cycle
    found = modules_of(model)
    assert len(found) == len(set(found)) == 6
    assert set(found) == set(model.modules())


def test_an_error_names_the_module_in_which_it_happened() -> None:
    class Foreign(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.sort(2).values

    model = borderless.convert(nn.Sequential(nn.Sequential(nn.ReLU(), Foreign())), "infinite")
    with pytest.raises(borderless.BorderlessError, match=r"torch\.Tensor\.sort in module '0\.1' \(Foreign\)"):
        model(torch.zeros(1, 1, 4, 4))


def test_the_names_of_modules_are_looked_up_once_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(*(nn.Conv2d(1, 1, 3) for _ in range(5)))
    looked_up: list[nn.Module] = []
    named_modules = nn.Module.named_modules

    def counted(self: nn.Module, *args: Any, **kwargs: Any) -> Iterator[Any]:
        if "torch" not in Path(sys._getframe(1).f_code.co_filename).parts:  # not by PyTorch, for another table
            looked_up.append(self)
        return named_modules(self, *args, **kwargs)

    modules: list[str] = []
    with borderless.bordered(model, "zero", observer=lambda event: modules.append(event.module)):
        monkeypatch.setattr(nn.Module, "named_modules", counted)
        model(torch.zeros(1, 1, 16, 16))
    assert modules == ["0", "1", "2", "3", "4"]
    assert looked_up == [model]


def test_hooks_run_first_in_last_out_and_also_after_an_error() -> None:
    class Fails(nn.Module):
        def forward(self, images: Tensor, fails: bool = False) -> Tensor:
            if fails:
                raise LookupError
            return images

    model, order = Fails(), []
    model.register_forward_pre_hook(lambda *_: order.append("enter"), with_kwargs=True)
    model.register_forward_hook(lambda *_: order.append("leave"), with_kwargs=True, prepend=True, always_call=True)
    model.register_forward_pre_hook(lambda *_: order.append("pre-hook of the user"))
    model.register_forward_hook(lambda *_: order.append("hook of the user"))
    model(torch.zeros(1))
    assert order == ["enter", "pre-hook of the user", "leave", "hook of the user"]
    order.clear()
    with pytest.raises(LookupError):
        model(torch.zeros(1), fails=True)
    assert order == ["enter", "pre-hook of the user", "leave"]


def test_every_batch_norm_has_one_class() -> None:
    for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm):
        assert issubclass(kind, AnyBatchNorm)
    assert not issubclass(nn.InstanceNorm2d, AnyBatchNorm)


# Normalization


def test_a_single_value_per_channel_has_no_statistics() -> None:
    verify_batch_size([1, 3, 2, 1])
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        verify_batch_size([1, 3, 1, 1])


def test_statistics_are_mean_and_biased_variance() -> None:
    cells = torch.randn(4, 3, 5, 5) + 2
    mean, variance = batch_norm_update_stats(cells, None, None, 0.0)
    torch.testing.assert_close(mean, cells.mean((0, 2, 3)))
    torch.testing.assert_close(variance, cells.var((0, 2, 3), correction=0))


def test_the_fused_backward_gives_the_gradients_of_scale_and_shift() -> None:
    cells, upstream = torch.randn(2, 4, 3, 5, 5).unbind(0)
    weight, bias = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    F.batch_norm(cells, None, None, weight, bias, training=True, eps=1e-5).backward(upstream)
    mean, variance = cells.mean((0, 2, 3)), cells.var((0, 2, 3), correction=0)
    invstd = (variance + 1e-5).rsqrt()
    of_cells, of_weight, of_bias = native_batch_norm_backward(
        upstream, cells, None, None, None, mean, invstd, True, 0.0, [False, True, True]
    )
    assert of_cells is None or of_cells.numel() == 0
    torch.testing.assert_close(of_weight, weight.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(of_bias, bias.grad, rtol=1e-4, atol=1e-5)


# Export


def test_full_backward_hooks_leave_their_mark() -> None:
    layer = nn.ReLU()
    layer.register_full_backward_hook(lambda module, inputs, outputs: None)
    assert layer(torch.ones(1, requires_grad=True)).grad_fn.name() == MARK_OF_BACKWARD_HOOKS


def test_a_transform_is_seen_from_inside() -> None:
    seen = []

    def run(x: Tensor) -> Tensor:
        seen.append(is_transformed())
        return x.sum()

    torch.func.vmap(run)(torch.ones(2, 3))
    torch.func.grad(run)(torch.ones(3))
    run(torch.ones(3))
    assert seen == [True, True, False]


def test_a_node_tells_the_shapes_of_what_its_function_returned() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    assert shape_at((x.sum(0) * 2).grad_fn, 0) == (3,)
    values, _ = x.sort(1)
    split = x.split(1)[1].grad_fn
    assert (shape_at(values.grad_fn, 0), shape_at(split, 1)) == ((2, 3), (1, 3))
    assert shape_at(x.sum().grad_fn.next_functions[0][0], 0) == (2, 3), "a tensor that no function has made"


def test_an_exported_program_calls_overloads_of_aten() -> None:
    program = torch.export.export(nn.Conv2d(1, 1, 3), (torch.zeros(1, 1, 4, 4),))
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert targets
    for target in targets:
        assert isinstance(target, OpOverload)
        assert target.namespace == "aten"


def test_a_batch_that_is_a_constant_is_an_export_error() -> None:
    class PairsOnly(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.reshape(2, -1)

    shapes = ({0: torch.export.Dim("batch", min=1)},)
    with pytest.raises(export_error(), match="batch"):
        torch.export.export(PairsOnly(), (torch.zeros(2, 3),), dynamic_shapes=shapes, strict=False)


# Nested containers


def test_trees_are_lists_tuples_and_dicts() -> None:
    tree = [1, (2, {"a": 3}), None]
    assert tree_map(lambda leaf: leaf and 10 * leaf, tree) == [10, (20, {"a": 30}), None]
    assert [leaf for leaf in tree_leaves(tree) if leaf is not None] == [1, 2, 3]
    pair = torch.return_types.max((torch.ones(1), torch.zeros(1)))
    call = ((torch.ones(2), [1.0, (2, "same")], None), {"dim": (2, 3), "of": pair, "more": OrderedDict(a=True, b={})})
    assert all(a is b for a, b in zip(tree_leaves(call), _pytree.tree_leaves(call), strict=True))
    assert tree_map(id, call) == _pytree.tree_map(id, call)
    assert tree_any(lambda leaf: leaf == 3, tree)
    assert not tree_any(lambda leaf: leaf == 4, tree)


# One place


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def private_names(source: str, own: set[str]) -> set[str]:
    """Names with an underscore in front that `source` reads and that nobody in the package gave, and undocumented ones.

    own: the names that the package itself gives.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            if is_private(node.attr) and node.attr not in own:
                found.add(node.attr)
            if node.attr in ("batch_norm_update_stats", "native_batch_norm_backward"):
                found.add(node.attr)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            module = getattr(node, "module", None) or ""
            for alias in node.names:
                path = f"{module}.{alias.name}" if module else alias.name
                parts = path.split(".")
                if parts[0] == "torch" and ("experimental" in parts or any(map(is_private, parts))):
                    found.add(parts[-1])
        elif isinstance(node, ast.Constant) and node.value in ("_call_impl", "TensorBase"):
            found.add(node.value)
    return found


def names_given(tree: ast.AST) -> set[str]:
    given: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                given.add(name)
            case ast.Attribute(attr=name, ctx=ast.Store()) | ast.Name(id=name, ctx=ast.Store()):
                given.add(name)
            case ast.keyword(arg=str(name)):
                given.add(name)
    return given


@pytest.mark.parametrize(
    "source",
    [
        "from torch.utils._pytree import tree_map",
        "import torch._dynamo",
        "from torch.fx.experimental.optimization import fuse",
        "from torch.nn.modules.batchnorm import _BatchNorm",
        "torch._C.DisableTorchFunctionSubclass()",
        "F._verify_batch_size([1])",
        "model._forward_hooks.clear()",
        "torch.batch_norm_update_stats(x, None, None, 0.0)",
        "'TensorBase' in name",
    ],
)
def test_a_private_name_is_found(source: str) -> None:
    assert private_names(source, own=set())


def test_no_other_module_uses_a_private_name_of_pytorch() -> None:
    sources = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    own = set[str]().union(*(names_given(ast.parse(source)) for source in sources.values()))
    elsewhere = {"_replace", "_getframe", "_exit"}  # of Python
    found = {
        (name, private)
        for name, source in sources.items()
        if name != "engine/torch_internals.py"
        for private in private_names(source, own) - elsewhere
    }
    assert not found, f"move to torch_internals: {sorted(found)}"


def test_what_the_module_offers_is_used() -> None:
    others = [path for path in PACKAGE.rglob("*.py") if path.name != "torch_internals.py"]
    text = "".join(path.read_text(encoding="utf-8") for path in others)
    assert [name for name in torch_internals.__all__ if name not in text] == []


class Doubled(torch.autograd.Function):
    """A custom Function that notes which code runs when its forward does."""

    seen: list[Any] = []  # noqa: RUF012

    @staticmethod
    def forward(ctx: Any, cells: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        Doubled.seen = noted()
        return cells * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 2


def noted() -> list[Any]:
    return list(running_code())


def test_the_code_that_runs_in_a_module_holds_the_forward_of_its_custom_function() -> None:
    class Module(nn.Module):
        def forward(self, cells: Tensor) -> Tensor:
            return Doubled.apply(cells)

    made = Module()(torch.ones(2, requires_grad=True))
    assert forward_of(made.grad_fn) is Doubled.forward.__code__
    assert forward_of(made.sum().grad_fn) is None
    assert Doubled.seen[0] is Doubled.forward.__code__ and Module.forward.__code__ in Doubled.seen
    assert noted.__code__ not in Doubled.seen
