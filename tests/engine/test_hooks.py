"""What is registered on a converted model: it stays converted, says when it is bypassed, and goes without a trace."""

import asyncio
import contextlib
import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torchvision.models.feature_extraction import create_feature_extractor

import borderless as bl
from borderless.errors import ConversionError
from borderless.runtime.evaluation import evaluating
from support.networks import network, residual

REFUSED = r"(?s)Expected the converted .* to be called itself.*bl\.convert\(create_feature_extractor\(model"


def images(*shape: int) -> Tensor:
    return torch.randn(*(shape or (2, 3, 24, 24)), generator=torch.Generator().manual_seed(1))


# Through a file, in another process

ELSEWHERE = """
import sys, torch, borderless as bl
torch.set_num_threads(1)
for name in ("convert", "blur"):
    model = torch.load(f"{name}.pt", weights_only=False)
    images, expected = torch.load(f"{name}-io.pt")
    parts = [model, *(part for part in model.modules() if part._forward_pre_hooks)]
    for with_kwargs in (False, True, False):
        for part in parts:
            if with_kwargs:
                part.register_forward_pre_hook(lambda module, args, kwargs: None, with_kwargs=True)
                part.register_forward_hook(lambda module, args, kwargs, output: None, with_kwargs=True)
            else:
                part.register_forward_pre_hook(lambda module, args: None)
                part.register_forward_hook(lambda module, args, output: None)
    with torch.no_grad():
        assert torch.equal(model(images), expected), name
    if name == "convert":
        try:
            model.forward(images)
        except bl.ConversionError:
            pass
        else:
            raise AssertionError("the guards were lost")
        bl.revert_(model)
        with torch.no_grad():
            assert not torch.allclose(model(images), expected)
"""


def test_a_loaded_model_keeps_its_hooks_beside_the_users(tmp_path: Path) -> None:
    models = {"convert": bl.convert(residual(), "infinite", phase="adaptive"), "blur": bl.blur(residual())}
    for name, model in models.items():
        with torch.no_grad():
            torch.save((images(), model(images())), tmp_path / f"{name}-io.pt")
        torch.save(model, tmp_path / f"{name}.pt")
    path = [str(Path(__file__).parents[1]), *sys.path]  # the models are of classes in tests
    code = f"import sys; sys.path[:0] = {path!r}\n{ELSEWHERE}"
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr


# Copies are independent


@pytest.mark.parametrize("through", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("first", ["copy", "original"])
def test_reverting_one_leaves_the_other_converted(through: Callable[..., nn.Module], first: str) -> None:
    model = bl.convert(residual(), "infinite")
    twin = through(model)
    with torch.no_grad():
        own, expected = residual()(images()), model(images())
        reverted, kept = (twin, model) if first == "copy" else (model, twin)
        bl.revert_(reverted)
        assert torch.equal(reverted(images()), own) and torch.equal(kept(images()), expected)
        assert reverted.stem(images()).shape == (2, 4, 12, 12), "its parts are free again"
        with pytest.raises(ConversionError, match=REFUSED):
            kept.forward(images())


def test_reverting_leaves_no_hook() -> None:
    model = bl.convert(residual(), "infinite")
    bl.revert_(model)
    for module in model.modules():
        tables = {name: table for name, table in vars(module).items() if "forward" in name and "hooks" in name}
        assert not any(tables.values()), tables


def test_a_block_on_a_converted_model_keeps_the_order_of_its_hooks() -> None:
    model, seen = bl.convert(residual(), "infinite"), []
    model.register_forward_pre_hook(lambda module, args: seen.append(type(args[0])))
    model(images())
    with bl.bordered(model, "full"):
        model(images())
    model(images())
    assert seen == seen[:1] * 3


def replicated(model: nn.Module) -> nn.Module:
    """As DataParallel does on each device."""
    copies = {module: module._replicate_for_data_parallel() for module in model.modules()}
    for module, made in copies.items():
        for name, child in module._modules.items():
            made._modules[name] = None if child is None else copies[child]
        made._parameters = dict(module._parameters)
        made._buffers = dict(module._buffers)
    return copies[model]


def test_replicas_and_functional_calls_run_converted() -> None:
    model = bl.convert(residual(), "infinite")
    with torch.no_grad():
        expected = model(images())
        assert torch.equal(replicated(model)(images()), expected)
        state = dict(model.named_parameters()) | dict(model.named_buffers())
        assert torch.equal(torch.func.functional_call(model, state, (images(),)), expected)


# Nothing passes by


class Pieces(nn.Module):
    """A model whose blocks are in a list, and which has methods that people call."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)])
        self.head = nn.Linear(4, 2)

    def forward_features(self, batch: Tensor) -> Tensor:
        for block in self.blocks:
            batch = block(batch).relu()
        return batch

    def forward(self, batch: Tensor) -> Tensor:
        return self.head(self.forward_features(batch).mean((2, 3)))


@pytest.mark.parametrize(
    "call",
    [
        lambda model: model.forward(images()),
        lambda model: model.forward_features(images()),
        lambda model: model.blocks[0](images()),
        lambda model: model.blocks[0](input=images()),
        lambda model: torch.fx.symbolic_trace(model)(images()),
        lambda model: copy.deepcopy(torch.fx.symbolic_trace(model))(images()),
        lambda model: copy.deepcopy(model.blocks)[0](images()),
    ],
    ids=["forward", "forward_features", "child", "child by keyword", "trace", "copied trace", "copied child"],
)
def test_what_passes_the_conversion_by_is_refused(call: Callable[[nn.Module], object]) -> None:
    model = bl.convert(Pieces(), "infinite")
    with pytest.raises(ConversionError, match=REFUSED):
        call(model)
    model(images())
    assert model.head(torch.ones(5, 4)).shape == (5, 2), "what is no map is nobody's business"


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_a_trace_of_a_converted_network_is_refused_and_a_converted_trace_runs(name: str) -> None:
    own = getattr(torchvision.models, name)().eval()
    node = next(path for path, _ in own.named_children())
    with pytest.raises(ConversionError, match=REFUSED):
        create_feature_extractor(bl.convert(own, "full"), [node])(images(1, 3, 32, 32))
    extractor = bl.convert(create_feature_extractor(own, [node]).eval(), "full")
    assert not any(module.training for module in extractor.modules())
    with torch.no_grad():
        expected = bl.convert(nn.Sequential(getattr(own, node)), "full")(images(1, 3, 32, 32))
        assert torch.equal(extractor(images(1, 3, 32, 32))[node], expected)
    with pytest.raises(ConversionError, match=REFUSED):
        copy.deepcopy(extractor)(images(1, 3, 32, 32))


def test_a_converted_trace_freezes() -> None:
    model = bl.convert(torch.fx.symbolic_trace(nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.ReLU())), "infinite")
    with torch.no_grad():
        expected = model(images())
        for dynamic_batch in (False, True):
            run = bl.freeze(model, images(), dynamic_batch=dynamic_batch).module()
            assert torch.equal(run(images()), expected)
        with pytest.raises(ConversionError, match=REFUSED):
            copy.deepcopy(model)(images())


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_scripted_part_is_refused_when_it_is_called() -> None:
    model = bl.convert(nn.Sequential(nn.Conv2d(3, 4, 3), torch.jit.script(nn.ReLU())), "full")
    with pytest.raises(bl.UnsupportedOperation):
        model(images())


def test_a_trace_around_a_converted_model_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"a trace by torch\.fx of the converted Residual"):
        torch.fx.symbolic_trace(nn.Sequential(bl.convert(residual(), "full")))


def test_a_sequential_is_guarded_and_its_slices_too() -> None:
    model = bl.convert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), "full")
    for part in (model[0], model[:1]):
        with pytest.raises(ConversionError, match=REFUSED):
            part(images())


class Wrapped(nn.Module):
    def __init__(self, model: Pieces) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Tensor) -> Tensor:
        return self.model.forward_features(batch)


def test_the_way_that_the_message_names_works() -> None:
    own = Pieces()
    model = bl.convert(Wrapped(own), "infinite")
    expected = bl.convert(nn.Sequential(own.blocks[0], nn.ReLU(), own.blocks[1], nn.ReLU()), "infinite")
    with torch.no_grad():
        assert torch.equal(model(images()), expected(images()))


@pytest.mark.filterwarnings("ignore::borderless.PositionDependentWarning")
def test_a_checkpoint_computes_again_after_the_pass() -> None:
    """Of Signals, and of maps that were cropped to ordinary tensors."""

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)

        def forward(self, batch: Tensor) -> Tensor:
            maps = checkpoint(self.first, batch, use_reentrant=False)
            cropped = F.adaptive_avg_pool2d(maps, 7)
            assert not isinstance(cropped, bl.Signal), "no power"
            return checkpoint(self.second, cropped, use_reentrant=False)

    model = bl.convert(Checkpointed(), "infinite")
    model(images()).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_part_of_two_models_runs_in_both() -> None:
    shared = nn.Conv2d(3, 4, 3, padding=1)
    one, two = nn.Sequential(shared, nn.ReLU()), nn.Sequential(shared, nn.Tanh())
    bl.convert_(one, "full")
    bl.convert_(two, "infinite")
    assert one(images()).shape == two(images()).shape
    bl.revert_(one)
    with pytest.raises(ConversionError, match=REFUSED):
        shared(images())
    bl.revert_(two)
    shared(images())


def test_a_converted_part_runs_by_itself() -> None:
    own = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    part = bl.convert(bl.convert(own, "full")[0], "infinite")
    with torch.no_grad():
        assert torch.equal(part(images()), bl.convert(own[0], "infinite")(images()))


def test_an_interrupted_pass_leaves_the_guards_up_and_the_model_whole() -> None:
    class Interrupted(nn.Sequential):
        interrupt = True

        def forward(self, batch: Tensor) -> Tensor:
            self.map = self[0](batch)
            if self.interrupt:
                raise KeyboardInterrupt
            return self.map

    model = bl.convert(Interrupted(nn.Conv2d(3, 4, 3)), "infinite")
    with torch.no_grad():
        with pytest.raises(KeyboardInterrupt):
            model(images())
        with pytest.raises(ConversionError, match=REFUSED):
            model[0](images())
        again = bl.convert(model, "infinite")
        again.interrupt = False
        assert type(again.map) is Tensor
        assert torch.equal(again(images()), bl.convert(bl.revert_(model)[0], "infinite")(images()))


class Failing(nn.Module):
    """Keeps all sorts of maps, also one that gradients cannot pass, and fails."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.conv, self.error = nn.Conv2d(3, 4, 3), error

    def forward(self, batch: Tensor, scale: float = 1.0) -> Tensor:
        self.image, self.maps = batch, [self.conv(batch) * scale]
        raise self.error


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit, asyncio.CancelledError])
@pytest.mark.parametrize("border", ["infinite", "valid"])
@pytest.mark.parametrize("scale", [{}, {"scale": 2.0}], ids=["no keywords", "keywords"])
def test_after_any_exception_a_model_holds_tensors(
    error: type[BaseException], border: str, scale: dict[str, float]
) -> None:
    model = bl.convert(Failing(error), border)
    with contextlib.suppress(error):
        model(images(), **scale)
    assert type(model.image) is Tensor and type(model.maps[0]) is Tensor
    pickle.dumps(model)


def test_the_maps_of_a_pass_are_released_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    for name in ("borderless.engine.hooks", "borderless.conversion"):
        monkeypatch.setattr(sys.modules[name], "release", lambda *args: calls.append(args))
    bl.convert_(residual(), "infinite")(images())
    assert len(calls) == 1


# TorchScript


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("own", [nn.Conv2d(3, 4, 3), residual()], ids=["one layer", "residual"])
def test_scripting_a_converted_model_is_refused_with_the_way_that_works(own: nn.Module) -> None:
    model = bl.convert(own, "infinite").eval()
    for part in (model, *model.children(), nn.Sequential(model)):
        with pytest.raises(ConversionError, match=r"torch\.jit\.script\. Freeze it: bl\.freeze\(model, example\)"):
            torch.jit.script(part)
    with torch.no_grad():
        assert torch.equal(bl.freeze(model, images()).module()(images()), model(images()))
    torch.jit.script(nn.Sequential(bl.revert_(model)))


# torch.compile


@pytest.mark.filterwarnings("ignore")  # Dynamo warns about itself
@pytest.mark.parametrize("grad", [True, False])
def test_compiling_a_converted_model_is_refused_with_the_way_that_works(grad: bool) -> None:
    remedy = r"torch\.compile\(bl\.freeze\(.*\)\.module\(\)\)"
    model = bl.convert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)), "infinite").eval()
    with torch.set_grad_enabled(grad):
        expected = model(images())
        for call in (torch.compile(model, backend="eager"), torch.compile(lambda x: model(x) + 1, backend="eager")):
            for _ in range(2):
                with pytest.raises(ConversionError, match=remedy):
                    call(images())
        assert torch.equal(model(images()), expected), "afterwards it runs as before"
        frozen = torch.compile(bl.freeze(model, images()).module(), backend="eager")
        assert torch.equal(frozen(images()), expected)
        model.compile(backend="eager")
        with pytest.raises(ConversionError, match=remedy):
            model(images())
    torch.compiler.reset()


def test_converting_what_is_compiled_is_refused() -> None:
    own = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    for compiled in (torch.compile(own, backend="eager"), nn.Sequential(torch.compile(own, backend="eager"))):
        with pytest.raises(ConversionError, match="Convert and freeze before compiling"):
            bl.convert(compiled, "full")
    own[0].compile(backend="eager")
    with pytest.raises(ConversionError, match="'0' in it compiled"):
        bl.convert_(own, "full")
    with torch.no_grad():
        assert bl.convert(own, "full")(images()).shape == (2, 4, 22, 22), "a copy is not compiled"


# Who may change a model


def test_border_of_tells_the_border() -> None:
    model = residual()
    assert bl.border_of(model) is None
    border = bl.Border("infinite", phase="adaptive", reach=4)
    assert bl.border_of(bl.convert(model, border)) == border
    with bl.bordered(model, "full"):
        assert bl.border_of(model) == bl.Border("full")
        with bl.bordered(model, border):
            assert bl.border_of(model) == border
        assert bl.border_of(model) == bl.Border("full")
        bl.convert_(model, "circular")
    assert bl.border_of(model) is None


BLOCKS = [lambda model: bl.bordered(model, "infinite"), evaluating]


@pytest.mark.parametrize("second", BLOCKS, ids=["bordered", "measured"])
@pytest.mark.parametrize("first", BLOCKS, ids=["bordered", "measured"])
def test_a_second_task_is_refused_a_block(first: Callable[..., object], second: Callable[..., object]) -> None:
    model = residual().train()

    async def work(block: Callable[..., object], seconds: float) -> None:
        with block(model):
            await asyncio.sleep(seconds)

    async def both() -> list[object]:
        return await asyncio.gather(work(first, 0.01), work(second, 0.02), return_exceptions=True)

    held, refused = asyncio.run(both())
    assert held is None
    assert isinstance(refused, ConversionError)
    assert "block (bl.bordered, or a measure) of another thread or task" in str(refused)
    assert bl.border_of(model) is None and all(module.training for module in model.modules())


@pytest.mark.parametrize("part", [lambda model: model, lambda model: model.branch, nn.Sequential])
def test_a_second_thread_is_refused_a_block_of_shared_modules(part: Callable[[nn.Module], nn.Module]) -> None:
    model, raised = residual(), []

    def work() -> None:
        try:
            bl.explain(part(model), (24, 24))
        except ConversionError as error:
            raised.append(str(error))

    with bl.bordered(model, "full"), bl.bordered(model, "infinite"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert len(raised) == 1 and "give each its own copy: bl.convert(model, …)" in raised[0]
    bl.explain(model, (24, 24))


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_exception_leaves_the_model_as_before(error: type[BaseException]) -> None:
    model = bl.convert(residual(), "infinite").train()
    with pytest.raises(error), bl.bordered(model, "full"), evaluating(model):
        raise error
    assert bl.border_of(model) == bl.Border("infinite") and model.training and torch.is_grad_enabled()
    thread = threading.Thread(target=bl.revert_, args=(model,))
    thread.start()
    thread.join()
    assert bl.border_of(model) is None, "nobody is inside any more"


def test_threads_may_call_one_model() -> None:
    model = bl.convert(network("resnet18"), "infinite")
    batches = [images(1, 3, 32, 32) * scale for scale in range(1, 5)]
    got: dict[int, Tensor] = {}

    count = torch.get_num_threads()

    def work(i: int) -> None:
        torch.set_num_threads(count)  # a new thread has PyTorch's default, and adds sums up in another order
        with torch.no_grad():
            got[i] = model(batches[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with torch.no_grad():
        assert all(torch.equal(got[i], model(batches[i])) for i in range(4))


def test_a_loss_that_a_converted_module_holds_may_be_called() -> None:
    """As LightningModules do; what has parameters is a part of the network, and guarded."""
    model = Held()
    bl.convert_(model, "infinite")
    maps = model(torch.randn(2, 3, 8, 8))
    assert model.loss(maps, torch.zeros(2, 8, 8, dtype=torch.long)).isfinite()
    with pytest.raises(bl.ConversionError, match="its part 'first'"):
        model.first(torch.randn(2, 3, 8, 8))


class Held(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.loss = nn.Conv2d(3, 4, 3, padding=1), nn.CrossEntropyLoss()

    def forward(self, images: Tensor) -> Tensor:
        return self.first(images)
