"""`convert` and its kin: the caller's model stays, a converted model is a module like any, errors say what to do."""

import copy
import io
import pickle
import warnings

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

import borderless as bl
from support.networks import NETWORKS, assert_same_state, network, relative_change, residual, state

BORDERS = ["valid", "zero", "reflect", "replicate", "circular", "full", "infinite"]
CLEAR = (bl.BorderlessError, ValueError, TypeError, RuntimeError)  # any class will do: the texts are tested


def noise(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mixed_modes() -> nn.Module:
    """A model whose parts are in different modes, with hooks and a frozen parameter of its own."""
    model = residual().train()
    model.branch.eval()
    model.stem.weight.requires_grad_(False)
    model.down.register_forward_hook(lambda module, inputs, output: None)
    return model


# The caller's model is unchanged


def use_convert(model: nn.Module) -> None:
    bl.convert(model, "infinite", phase="adaptive")(noise(2, 3, 24, 24))


def use_converted_in_training(model: nn.Module) -> None:
    converted = bl.convert(model, "infinite").train()
    converted(noise(2, 3, 24, 24)).sum().backward()


def use_bordered(model: nn.Module) -> None:
    with bl.bordered(model, "circular"):
        if not model.training:
            model(noise(2, 3, 24, 24))


def use_bordered_and_fail(model: nn.Module) -> None:
    with pytest.raises(ZeroDivisionError), bl.bordered(model, "full"):
        1 / 0  # noqa: B018


def use_explain(model: nn.Module) -> None:
    assert str(bl.explain(model, (24, 24), "full"))


def use_equivariance_error(model: nn.Module) -> None:
    bl.equivariance_error(model, noise(1, 3, 24, 24), [(0, 4), (4, 0)])


@pytest.mark.parametrize("make", [residual, mixed_modes], ids=["eval mode", "mixed modes"])
@pytest.mark.parametrize(
    "use",
    [
        use_convert,
        use_converted_in_training,
        use_bordered,
        use_bordered_and_fail,
        use_explain,
        use_equivariance_error,
    ],
)
def test_the_callers_model_is_unchanged(use: object, make: object) -> None:
    model, twin = make(), make()
    images = noise(2, 3, 20, 23, seed=5)
    before = state(model)
    with warnings.catch_warnings():
        # A model in training mode may be worth a warning; it may not be changed.
        warnings.simplefilter("ignore", UserWarning)
        use(model)
    assert_same_state(before, state(model))
    with torch.no_grad():
        assert torch.equal(model(images), twin(images)), "outputs changed"


def test_freeze_leaves_the_converted_model_unchanged() -> None:
    model = bl.convert(residual(), "infinite", phase="adaptive")
    images = noise(2, 3, 24, 24)
    with torch.no_grad():
        expected, before = model(images), state(model)
        bl.freeze(model, noise(2, 3, 24, 24, seed=2))
        assert_same_state(before, state(model))
        assert torch.equal(model(images), expected)


def test_freeze_wants_a_converted_model() -> None:
    with pytest.raises(CLEAR, match=r"(?s)Residual.*convert"):
        bl.freeze(residual(), noise(1, 3, 24, 24))


@pytest.mark.parametrize("border", BORDERS)
def test_convert_then_revert_is_nothing(border: str) -> None:
    model = mixed_modes()
    images = noise(2, 3, 30, 31, seed=5)
    with torch.no_grad():
        expected = copy.deepcopy(model)(images)
        before = state(model)
        bl.convert_(model, border)
        changed = copy.deepcopy(model)(images)
        bl.revert_(model)
        assert_same_state(before, state(model))
        got = model(images)
    assert torch.equal(got, expected)
    if border != "zero":
        assert not torch.equal(changed, expected)


def test_bordered_holds_inside_and_ends_outside() -> None:
    model, images = residual(), noise(2, 3, 24, 24)
    with torch.inference_mode():
        own = model(images)
        with bl.bordered(model, "circular"):
            inside = model(images)
        assert torch.equal(inside, bl.convert(model, "circular")(images))
        assert not torch.allclose(inside, own)
        assert torch.equal(model(images), own)


def test_a_copy_shares_nothing() -> None:
    model = residual()
    converted = bl.convert(model, "infinite")
    assert converted is not model
    mine = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers()) if tensor.numel()}
    assert not mine & {tensor.data_ptr() for tensor in (*converted.parameters(), *converted.buffers())}


# The converted model behaves like a module


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "convnext_tiny"])
def test_state_dict_keys_stay(name: str) -> None:
    own = NETWORKS[name]()
    converted = bl.convert(own, "infinite", phase="adaptive")
    assert list(converted.state_dict()) == list(own.state_dict())
    assert [key for key, _ in converted.named_parameters()] == [key for key, _ in own.named_parameters()]
    assert type(converted) is type(own)
    own.load_state_dict(converted.state_dict())
    converted.load_state_dict(own.state_dict())


def by_deepcopy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model)


def by_pickle(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


def by_torch_save(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("phase", ["fixed", "adaptive"])
@pytest.mark.parametrize("through", [by_deepcopy, by_pickle, by_torch_save])
def test_a_copied_or_stored_model_gives_equal_answers(through: object, phase: str) -> None:
    model = bl.convert(network("resnet18"), "infinite", phase=phase)
    images = noise(2, 3, 48, 40)
    with torch.inference_mode():
        expected = model(images)
        twin = through(model)
        assert torch.equal(twin(images), expected)
        bl.revert_(twin)
        assert torch.equal(twin(images), network("resnet18")(images))


@pytest.mark.parametrize(("border", "phase"), [*((border, "fixed") for border in BORDERS), ("infinite", "adaptive")])
def test_autocast_runs(border: str, phase: str) -> None:
    model, images = bl.convert(residual(), border, phase=phase), noise(2, 3, 48, 40)
    with torch.inference_mode():
        exact = model(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = model(images)
    assert rough.dtype == torch.bfloat16
    assert 0 < relative_change(exact, rough.float()) < 0.03


def test_autocast_trains() -> None:
    model, images = bl.convert(residual().train(), "infinite", phase="adaptive"), noise(3, 3, 24, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = nn.functional.cross_entropy(model(images), torch.arange(3))
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("phase", ["fixed", "adaptive"])
@pytest.mark.parametrize("whole", [True, False], ids=["model and images", "images"])
def test_channels_last_gives_the_same_and_stays(phase: str, whole: bool) -> None:
    own = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)
    ).eval()
    images = noise(2, 3, 21, 18)
    last = images.contiguous(memory_format=torch.channels_last)
    model = bl.convert(own, "infinite", phase=phase)
    with torch.inference_mode():
        expected = model(images)
        if whole:
            own, model = own.to(memory_format=torch.channels_last), model.to(memory_format=torch.channels_last)
        got, unmodified = model(last), own(last)
    assert relative_change(expected, got) <= 1e-6
    assert unmodified.stride(1) == 1, "no power: PyTorch itself does not keep the format"
    assert got.stride(1) == 1, "the channels lie side by side as in the unmodified model's map"


@pytest.mark.parametrize("border", ["zero", "infinite"])
def test_double_and_back_to_float(border: str) -> None:
    model = bl.convert(residual(), border)
    images = noise(2, 3, 24, 24)
    with torch.inference_mode():
        exact, plain = model.double()(images.double()), model.float()(images)
    assert exact.dtype == torch.float64 and plain.dtype == torch.float32
    assert relative_change(exact, plain.double()) < 1e-5


def test_train_and_eval_switch_as_before() -> None:
    model = bl.convert(residual(), "infinite")
    images = noise(4, 3, 24, 24)
    with torch.no_grad():
        first = model(images)
        trained = model.train()(images)
        assert not torch.allclose(first, trained)
        assert not torch.allclose(first, model.eval()(images)), "training mode moved the running statistics"


def test_output_signal_gives_a_signal_and_output_frame_a_tensor() -> None:
    model = residual().down
    images = noise(1, 4, 9, 9)
    with torch.inference_mode():
        signal, framed = bl.convert(model, "infinite", output="signal")(images), bl.convert(model, "infinite")(images)
    assert isinstance(signal, bl.Signal) and isinstance(signal, Tensor)
    assert type(framed) is Tensor and type(signal.window) is Tensor
    assert signal.shape == framed.shape == model(images).shape


# Errors: got, need, do


@pytest.fixture(scope="module")
def vgg11() -> nn.Module:
    """VGG-11 as torchvision has it, less the 100 million weights of its classifier."""
    with torch.device("meta"):
        model = torchvision.models.vgg11(init_weights=False)
    model.features = model.features.to_empty(device="cpu")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for module in model.features:
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
        model.classifier = nn.Sequential(nn.Linear(512 * 7 * 7, 8), nn.ReLU(), nn.Linear(8, 5))
    return model.eval()


@pytest.mark.parametrize("border", ["full", "infinite"])
def test_vgg_warns_once_and_names_what_reads_the_position(vgg11: nn.Module, border: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = bl.convert(vgg11, border)
        with torch.inference_mode():
            first, second = model(noise(1, 3, 64, 64)), model(noise(2, 3, 64, 64))
    assert first.shape == (1, 5) and second.shape == (2, 5)
    assert [warning.category for warning in caught] == [bl.PositionDependentWarning]
    text = str(caught[0].message)
    assert "avgpool" in text
    assert "adaptive_avg_pool2d" in text


def test_vgg_is_refused_by_name_when_strict(vgg11: nn.Module) -> None:
    with (
        pytest.raises(bl.PositionDependentError, match=r"(?s)(?=.*avgpool)(?=.*adaptive_avg_pool2d)"),
        torch.inference_mode(),
    ):
        bl.convert(vgg11, "infinite", strict=True)(noise(1, 3, 64, 64))


def test_strict_leaves_a_clean_model_alone() -> None:
    images = noise(2, 3, 24, 24)
    with torch.inference_mode():
        assert torch.equal(
            bl.convert(residual(), "infinite", strict=True)(images), bl.convert(residual(), "infinite")(images)
        )


def test_vgg_under_its_own_padding_is_nobodys_business(vgg11: nn.Module) -> None:
    """`zero` is the unmodified model: whatever it warns of, the numbers are the model's own."""
    images = noise(1, 3, 64, 64)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore", bl.PositionDependentWarning)
        assert relative_change(vgg11(images), bl.convert(vgg11, "zero")(images)) <= 1e-6


@pytest.mark.filterwarnings("ignore::borderless.PositionDependentWarning")
def test_a_vision_transformer_is_refused_with_operation_and_module() -> None:
    model = torchvision.models.VisionTransformer(
        image_size=32, patch_size=16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=5
    ).eval()
    converted = bl.convert(model, "infinite")
    with pytest.raises(bl.UnsupportedOperation) as caught, torch.inference_mode():
        converted(noise(1, 3, 32, 32))
    text = str(caught.value)
    assert any(
        operation in text for operation in ["reshape", "view", "flatten", "cat", "multi_head_attention", "attention"]
    ), text
    assert any(module in text for module in ["VisionTransformer", "encoder", "self_attention"]), text
    assert "rule" in text, "and how to register a rule"


class Unheard(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Spectrum())

    def forward(self, images: Tensor) -> Tensor:
        return self.block(images)


class Spectrum(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return torch.fft.fft2(maps).abs()


def test_an_unknown_operation_is_refused_with_function_module_and_remedy() -> None:
    with pytest.raises(bl.UnsupportedOperation, match=r"(?s)(?=.*fft2)(?=.*block\.1)(?=.*rule)"):
        bl.convert(Unheard(), "infinite")(noise(1, 3, 9, 9))


@pytest.mark.parametrize("border", ["zero", "infinite"])
def test_an_empty_batch_is_refused(border: str) -> None:
    with pytest.raises(CLEAR, match=r"(?is)(?=.*\b0\b.*3.*24.*24)(?=.*(empty|at least one|no images|no sample))"):
        bl.convert(residual(), border)(noise(0, 3, 24, 24))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool], ids=str)
def test_an_image_that_is_not_floating_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(CLEAR, match=rf"(?is)(?=.*{str(dtype).removeprefix('torch.')})(?=.*float)"):
        bl.convert(residual(), "infinite")(torch.ones(1, 3, 24, 24, dtype=dtype))


def test_an_image_on_another_device_is_refused() -> None:
    with pytest.raises(CLEAR, match=r"(?is)(?=.*\bmeta\b)(?=.*\bcpu\b)(?=.*\.to\()"):
        bl.convert(residual(), "infinite")(torch.ones(1, 3, 24, 24, device="meta"))


@pytest.mark.parametrize(
    "into",
    [lambda s: s.numpy(), np.asarray, lambda s: s.detach().cpu().numpy()],
    ids=["numpy()", "asarray", "detach cpu numpy"],
)
def test_a_signal_into_numpy_is_refused(into: object) -> None:
    with torch.no_grad():
        signal = bl.convert(residual().down, "infinite", output="signal")(noise(1, 4, 9, 9))
    with pytest.raises(
        CLEAR, match=r"(?is)(?=.*(numpy|__array__))(?=.*signal)(?=.*expected an ordinary tensor)(?=.*(window|frame))"
    ):
        into(signal)


def test_an_image_too_small_for_valid_is_refused() -> None:
    with pytest.raises(
        CLEAR, match=r"(?is)(?=.*valid)(?=.*\b2\b)(?=.*\b5\b)(?=.*(larger|smaller border|at least|another border))"
    ) as caught:
        bl.convert(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 5)), "valid")(noise(1, 3, 4, 4))
    assert "1" in str(caught.value), "names the module: the second of the sequence"


@pytest.mark.parametrize("images", [torch.ones(3), torch.ones(3, 9)], ids=["1 axis", "2 axes"])
def test_images_without_space_are_refused(images: Tensor) -> None:
    with pytest.raises(CLEAR):
        bl.convert(residual(), "infinite")(images)


def test_reverting_what_was_never_converted_is_refused() -> None:
    with pytest.raises(CLEAR, match=r"(?i)convert"):
        bl.revert_(residual())


# Measuring


CANVAS = (40, 44)


def on_canvas(thing: Tensor, row: int, column: int) -> Tensor:
    images = torch.zeros(*thing.shape[:2], *CANVAS)
    images[..., row : row + thing.shape[2], column : column + thing.shape[3]] = thing
    return images


def test_equivariance_error_is_the_relative_change_of_the_logits_per_shift() -> None:
    model, thing, shifts = residual(), noise(2, 3, 9, 9), [(0, 4), (8, 0), (3, 5), (31, 35)]
    with torch.inference_mode():
        first = model(on_canvas(thing, 0, 0))
        expected = [relative_change(first, model(on_canvas(thing, *shift))) for shift in shifts]
    errors = bl.equivariance_error(model, thing, shifts, canvas=CANVAS)
    assert errors.shape == (len(shifts),)
    assert min(expected) > 1e-4
    assert torch.allclose(errors, torch.tensor(expected, dtype=errors.dtype), rtol=1e-4)


def test_equivariance_error_of_a_blind_model_is_rounding() -> None:
    model, thing = residual().double(), noise(2, 3, 9, 9, dtype=torch.float64)
    strides, anywhere = [(0, 4), (-8, 12)], [(1, 0), (-3, 7)]
    assert bl.equivariance_error(bl.convert(model, "infinite"), thing, strides).max() <= 1e-12
    assert bl.equivariance_error(bl.convert(model, "infinite", phase="adaptive"), thing, anywhere).max() <= 1e-12
    assert bl.equivariance_error(bl.convert(model, "infinite"), thing, anywhere).min() > 1e-4


def test_assert_equivariant_accepts_and_refuses() -> None:
    model, thing = residual(), noise(1, 3, 9, 9)
    bl.testing.assert_equivariant(bl.convert(model, "infinite"), thing, [(0, 4), (8, -4)])
    bl.testing.assert_equivariant(bl.convert(model, "infinite", phase="adaptive"), thing, [(1, 0), (-3, 7)])
    with pytest.raises(AssertionError, match=r"(?s)3.*5"):  # names the shift
        bl.testing.assert_equivariant(bl.convert(model, "infinite"), thing, [(3, 5)])
    with pytest.raises(AssertionError):
        bl.testing.assert_equivariant(model, thing, [(0, 4), (8, -4)])


def test_explain_tells_sizes_strides_and_what_reads_the_position(vgg11: nn.Module) -> None:
    text = str(bl.explain(vgg11, (64, 64), "full"))
    assert "avgpool" in text
    assert "features.0" in text
    clean = str(bl.explain(residual(), (24, 24), "infinite"))
    for path in ["stem", "pool", "branch.0", "down", "shortcut"]:
        assert path in clean
