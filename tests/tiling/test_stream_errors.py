"""What a stream refuses, by name, and that a refusal loses nothing; saved states; the assertions of `bl.testing`."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
from tiling.stream_networks import Demucs, Seanet, UNet, Video, Wavenet, made


def signal(*sizes: int) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(0))


class Squeezed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate = nn.Conv1d(1, 4, 3, padding=1), nn.Conv1d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return x * torch.sigmoid(self.gate(x.mean(-1, keepdim=True)))


class Attends(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x.transpose(1, 2) @ x, -1)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (Squeezed(), "torch.Tensor.mean in the model itself"),
        (nn.Sequential(nn.Conv1d(1, 4, 1), nn.GroupNorm(2, 4)), "group_norm in module '1'"),
        (nn.Sequential(nn.Conv1d(1, 4, 1), nn.InstanceNorm1d(4)), "instance_norm in module '1'"),
        (nn.AdaptiveAvgPool1d(1), "adaptive_avg_pool1d in the model itself"),
        (nn.Sequential(nn.Conv1d(1, 4, 1), nn.BatchNorm1d(4)).train(), r"module '1' .*call model.eval\(\)"),
    ],
)
def test_functions_over_all_of_the_axis(model: nn.Module, named: str) -> None:
    for length in (None, 20):
        with pytest.raises(bl.NotCausal, match=named):
            bl.Stream(model, length=length).push(signal(1, 1, 20))


def test_functions_without_a_rule() -> None:
    with pytest.raises(bl.UnsupportedOperation, match="matmul"):
        bl.Stream(Attends()).push(signal(1, 1, 20))


def test_an_adaptive_phase() -> None:
    model = bl.convert(nn.Conv1d(1, 1, 3, 2), "infinite", phase="adaptive")
    with pytest.raises(bl.BorderError, match="phase='fixed'"):
        bl.Stream(model)


def test_images_in_another_layout() -> None:
    model = bl.convert(nn.Conv1d(1, 1, 3), "full", images=[0])
    with pytest.raises(bl.StreamError, match="images="):
        bl.Stream(model)


def test_valid_outputs_that_the_border_does_not_know() -> None:
    model = bl.convert(nn.Conv1d(1, 1, 3, padding=1), "valid")
    with pytest.raises(bl.ImageError, match="'valid'"):
        bl.Stream(model).push(signal(1, 1, 20))


class Centered(nn.Module):
    """Its padding before depends on the length."""

    def forward(self, x: Tensor) -> Tensor:
        missing = -x.shape[-1] % 4
        return F.pad(x, (missing // 2, missing - missing // 2))


class Filled(nn.Module):
    """It pads where the length is no multiple of 4, at the end."""

    def __init__(self, is_always: bool) -> None:
        super().__init__()
        self.conv, self.is_always = nn.Conv1d(1, 1, 4, 4), is_always

    def forward(self, x: Tensor) -> Tensor:
        if self.is_always or x.shape[-1] % 4:
            x = F.pad(x, (0, -x.shape[-1] % 4))
        return self.conv(x)


class Cropped(nn.Module):
    """It shortens what is longer than 30 samples, which only the whole tells."""

    def forward(self, x: Tensor) -> Tensor:
        return x[..., -30:] if x.shape[-1] > 30 else x * 1.0


class Positioned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(x.shape[-1], dtype=x.dtype)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (Centered(), "torch.nn.functional.pad in the model itself.*by the length"),
        (Filled(is_always=False), "pad in the model itself.*by the length"),
        (Cropped(), "__getitem__.*by the length"),
        (Positioned(), "add.*as long as the stream"),
        (made(UNet("bilinear")).float(), "interpolate.*by the length"),
        (nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular"), "end of the stream at its beginning"),
        (nn.Upsample(scale_factor=1.5, mode="linear", align_corners=True), "interpolate.*by the length"),
    ],
)
def test_models_whose_outputs_depend_on_an_open_length(model: nn.Module, named: str) -> None:
    is_image = isinstance(model, UNet)
    x = signal(1, 3, 22, 9) if is_image else signal(1, 1, 22)
    axis = -2 if is_image else -1
    with pytest.raises(bl.UnsupportedOperation, match=named):
        bl.Stream(model, axis=axis).push(x.narrow(axis, 0, 8))
    bl.testing.assert_streams_like_whole(model, x, axis=axis)  # where it is known, they may


def test_what_is_padded_at_the_end_may_depend_on_an_open_length() -> None:
    bl.testing.assert_streams_like_whole(Filled(is_always=True), signal(1, 1, 22), is_open=True)


class CutOff(nn.Module):
    """It cuts its input off at a multiple of 4; what comes after reads beyond that, or not."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x[..., : x.shape[-1] // 4 * 4])


def test_what_is_cut_off_at_the_end_of_an_open_stream() -> None:
    x = signal(1, 1, 23)
    for layer in (nn.Identity(), nn.Conv1d(1, 1, 3, padding=1), nn.Conv1d(1, 1, 9, 4, padding=4)):
        stream = bl.Stream(CutOff(layer))
        stream.push(x)
        with pytest.raises(bl.UnsupportedOperation, match="length"):
            stream.push(x[..., :0], last=True)
        bl.testing.assert_streams_like_whole(CutOff(layer), x)
        bl.testing.assert_streams_like_whole(CutOff(layer), x[..., :20], is_open=True, multiple=4)
    bl.testing.assert_streams_like_whole(CutOff(nn.Conv1d(1, 1, 4, 4)), x, is_open=True)


def test_a_promised_multiple() -> None:
    model, x = made(UNet("bilinear")).float(), signal(1, 3, 48, 9)
    bl.testing.assert_streams_like_whole(model, x, axis=-2, is_open=True, multiple=4)
    bl.testing.assert_streams_like_whole(Filled(is_always=False), signal(1, 1, 24), is_open=True, multiple=4)
    stream = bl.Stream(model, axis=-2, multiple=4)
    stream.push(x[:, :, :20])
    with pytest.raises(bl.StreamError, match="a multiple of 4 samples in all but got 22"):
        stream.push(x[:, :, :2], last=True)


def test_chunks_that_do_not_go_on_with_the_stream() -> None:
    stream = bl.Stream(made(Video(True)).float(), axis=2)
    with pytest.raises(bl.StreamError, match="empty"):
        stream.push(signal(1, 2, 0, 8, 8))
    stream.push(signal(1, 2, 3, 8, 8))
    for other in ((1, 3, 3, 8, 8), (1, 2, 3, 8, 9), (2, 2, 3, 8, 8)):
        with pytest.raises(bl.StreamError, match=r"like those before, \(1, 2, any, 8, 8\) of torch.float32 on cpu"):
            stream.push(signal(*other))
    with pytest.raises(bl.StreamError, match=r"torch.float64"):
        stream.push(signal(1, 2, 3, 8, 8).double())
    stream.push(signal(1, 2, 0, 8, 8), last=True)
    with pytest.raises(bl.StreamError, match=r"after the last one.*reset\(\)"):
        stream.push(signal(1, 2, 3, 8, 8))
    stream.reset()
    assert stream.push(signal(2, 2, 3, 8, 8))["maps"].shape == (2, 3, 3, 8, 8)


def test_axes_lengths_types_and_gradients() -> None:
    model = nn.Conv1d(1, 1, 3)
    with pytest.raises(bl.StreamError, match="axis=1"):
        bl.Stream(model, axis=1).push(signal(1, 1, 4))
    with pytest.raises(bl.StreamError, match="axis=-2"):
        bl.Stream(model, axis=-2).push(signal(1, 1, 4))
    for wrong in ({"length": 0}, {"multiple": 0}, {"length": 2.5}):
        with pytest.raises(bl.StreamError, match="1 or more"):
            bl.Stream(model, **wrong)
    for chunk in (torch.zeros(1, 4), torch.zeros(1, 1, 4, dtype=torch.int64), [1.0]):
        with pytest.raises(bl.StreamError, match="in floating point"):
            bl.Stream(model).push(chunk)  # pyright: ignore[reportArgumentType]
    with pytest.raises(bl.StreamError, match="without gradients"):
        bl.Stream(model).push(signal(1, 1, 9).requires_grad_())
    with torch.no_grad():
        assert bl.Stream(model).push(signal(1, 1, 9).requires_grad_()).shape == (1, 1, 7)
    assert not bl.Stream(model).push(signal(1, 1, 9)).requires_grad
    with pytest.raises(bl.StreamError, match=r"prepare\(example\)"):
        _ = bl.Stream(model).latency
    with pytest.raises(bl.StreamError, match="30 samples in all but got 31"):
        bl.Stream(model, length=30).push(signal(1, 1, 31))
    with pytest.raises(bl.StreamError, match="30 samples in all but got the last chunk after 20"):
        bl.Stream(model, length=30).push(signal(1, 1, 20), last=True)
    with pytest.raises(RuntimeError, match="channels"):  # as PyTorch says it
        bl.Stream(model).push(signal(1, 2, 9))


class Failing(nn.Module):
    """Fails once, between two layers that keep cells."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.fails = nn.Conv1d(1, 2, 5), nn.Conv1d(2, 1, 5), False

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.fails:
            raise MemoryError
        return self.second(x)


def test_a_push_that_fails_changes_nothing() -> None:
    model, x = Failing(), signal(1, 1, 40)
    stream = bl.Stream(model)
    parts = [stream.push(x[..., :15])]
    model.fails = True
    with pytest.raises(MemoryError):
        stream.push(x[..., 15:])
    model.fails = False
    parts.append(stream.push(x[..., 15:], last=True))
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(parts, -1), model(x))


def test_a_saved_stream_goes_on_in_another_process(tmp_path: Path) -> None:
    model, x = made(Seanet(is_causal=False)), signal(1, 1, 120).double()
    stream = bl.Stream(model)
    parts = [stream.push(x[..., :50]), stream.push(x[..., 50:57])]
    torch.save({"stream": stream.state_dict(), "rest": x[..., 57:], "model": model.state_dict()}, tmp_path / "state.pt")
    program = """
import sys, torch, borderless as bl
from tiling.stream_networks import Seanet
state = torch.load(sys.argv[1])
model = Seanet(is_causal=False).double().eval()
model.load_state_dict(state["model"])
stream = bl.Stream(model)
stream.load_state_dict(state["stream"])
torch.save([stream.latency, stream.push(state["rest"], last=True)], sys.argv[1])
"""
    subprocess.run([sys.executable, "-c", program, tmp_path / "state.pt"], check=True, cwd=Path(__file__).parents[1])
    latency, rest = torch.load(tmp_path / "state.pt")
    assert latency == stream.latency == 23
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([*parts, rest], -1), model(x), rtol=0, atol=1e-12)


def test_states_of_other_streams() -> None:
    stream = bl.Stream(made(Demucs()))
    stream.push(signal(1, 1, 50).double())
    state = stream.state_dict()
    with pytest.raises(bl.StreamError, match="length=90 but got one with None"):
        bl.Stream(made(Demucs()), length=90).load_state_dict(state)
    with pytest.raises(bl.StreamError, match="something else"):
        stream.load_state_dict({"weights": 1})
    for other in (made(Wavenet(2, 2)), made(Demucs(2)), bl.convert(made(Demucs()), "full")):
        with pytest.raises(bl.StreamError, match=f"of this {type(other).__name__} but got one of a model with another"):
            bl.Stream(other).load_state_dict(state)


def test_a_state_is_not_changed_by_what_comes_after() -> None:
    model, x = made(Demucs()), signal(1, 1, 200).double()
    stream = bl.Stream(model)
    stream.push(x[..., :100])
    state = stream.state_dict()
    first = stream.push(x[..., 100:], last=True)
    stream.load_state_dict(state)
    assert torch.equal(stream.push(x[..., 100:], last=True), first)


@pytest.mark.parametrize(
    ("model", "lookahead"),
    [
        (made(Wavenet()), 0),
        (made(Seanet()), 9),
        (made(Demucs()), 55),
        (nn.Sequential(nn.Conv1d(1, 1, 3, padding=2), nn.ConstantPad1d((0, -2), 0.0)), 0),
    ],
)
def test_causal_networks(model: nn.Module, lookahead: int) -> None:
    x = signal(1, 1, 400).to(next(model.parameters()).dtype)
    bl.testing.assert_causal(model, x, lookahead=lookahead)
    if lookahead:
        with pytest.raises(AssertionError, match=f"at most {lookahead - 1} samples ahead but got {lookahead} in"):
            bl.testing.assert_causal(model, x, lookahead=lookahead - 1)


def test_the_first_module_that_looks_ahead_is_named() -> None:
    model = nn.Sequential(
        nn.Conv1d(1, 2, 1), nn.Sequential(nn.ReLU(), nn.Conv1d(2, 2, 5, padding=2)), nn.Conv1d(2, 1, 3)
    )
    with pytest.raises(AssertionError, match=r"but got 2 in torch.conv1d in module '1.1' \(Conv1d\)"):
        bl.testing.assert_causal(model, signal(1, 1, 50))
    with pytest.raises(AssertionError, match=r"but got 4 in torch.conv1d in module '2' \(Conv1d\)"):
        bl.testing.assert_causal(model, signal(1, 1, 50), lookahead=3)
    with pytest.raises(AssertionError, match=r"at most 0 samples ahead. .*mean in the model itself"):
        bl.testing.assert_causal(Squeezed(), signal(1, 1, 50))
    with pytest.raises(AssertionError, match=r"but got 1 in torch.conv3d in module 'layers.0'"):
        bl.testing.assert_causal(made(Video(False)), signal(1, 2, 9, 8, 8).double(), axis=2)
    bl.testing.assert_causal(made(Video(True)), signal(1, 2, 9, 8, 8).double(), axis=2)
    with pytest.raises(bl.StreamError, match="more than 3 samples"):
        bl.testing.assert_causal(model, signal(1, 1, 3), lookahead=2)


class Counting(nn.Module):
    """Adds what it has never seen to its second call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + self.calls


def test_a_model_that_does_not_stream_like_the_whole() -> None:
    with pytest.raises(AssertionError, match=r"output 0 of Counting in chunks of \[10, 10\] to equal the whole"):
        bl.testing.assert_streams_like_whole(Counting(), signal(1, 1, 20), chunks=[10, 10])
    with pytest.raises(ValueError, match="add up to the 20 samples"):
        bl.testing.assert_streams_like_whole(Counting(), signal(1, 1, 20), chunks=[10, 11])
