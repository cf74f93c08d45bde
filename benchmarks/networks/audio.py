"""Networks over time: asteroid, demucs, encodec, speechbrain, torchaudio, torchcrepe, tsai, and two of our own."""

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.networks import Network

WAVE = (1, 512)


def _of(package: str, name: str, *args: Any, **options: Any) -> nn.Module:
    return getattr(importlib.import_module(package), name)(*args, **options)


def _time_last_but_one(images: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """As speechbrain has it, (N, T, C)."""
    return (images.transpose(1, 2),), {}


def _waveform(images: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (images[:, 0],), {}


class WaveNet(nn.Module):
    """Dilated causal convolutions with gates (van den Oord et al., 2016), in small."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, 8, 1)
        self.gated = nn.ModuleList([nn.Conv1d(8, 16, 2, dilation=2**i) for i in range(5)])
        self.last = nn.ModuleList([nn.Conv1d(8, 8, 1) for _ in range(5)])

    def forward(self, waves: Tensor) -> Tensor:
        maps = self.first(waves)
        for gated, last in zip(self.gated, self.last, strict=True):
            value, gate = gated(nn.functional.pad(maps, (gated.dilation[0], 0))).chunk(2, 1)
            maps = maps + last(torch.tanh(value) * torch.sigmoid(gate))
        return maps


class MaskNet(nn.Module):
    """speechbrain's, with the batch first: its own output is (speakers, N, C, T)."""

    def __init__(self) -> None:
        super().__init__()
        self.masks = _of("speechbrain.lobes.models.conv_tasnet", "MaskNet", 16, 8, 16, 3, 2, 1, 2)

    def forward(self, waves: Tensor) -> Tensor:
        return self.masks(waves).transpose(0, 1)


class Xvector(nn.Module):
    """speechbrain's, without the noise that its pooling adds, which is another one in every sample."""

    def __init__(self) -> None:
        super().__init__()
        self.body = _of(
            "speechbrain.lobes.models.Xvector", "Xvector", tdnn_channels=[16] * 4 + [48], lin_neurons=8, in_channels=20
        )
        for module in self.body.modules():
            if type(module).__name__ == "StatisticsPooling":
                module.eps = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


class LastStep(nn.Module):
    """A temporal convolution whose output is the last step (Bai et al., 2018), which is a position."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(1, 8, 3, padding=2), nn.ReLU(), nn.Conv1d(8, 8, 3, padding=2))
        self.head = nn.Linear(8, 3)

    def forward(self, waves: Tensor) -> Tensor:
        maps = self.body(waves)
        return self.head(maps[:, :, :-4][:, :, -1])


NETWORKS = {
    "asteroid/ConvTasNet": Network(
        lambda: _of(
            "asteroid.models",
            "ConvTasNet",
            2,
            n_blocks=3,
            n_repeats=1,
            bn_chan=8,
            hid_chan=16,
            skip_chan=8,
            n_filters=16,
        ),
        WAVE,
    ),
    "demucs/Demucs": Network(
        lambda: _of(
            "demucs.demucs",
            "Demucs",
            ["a", "b"],
            audio_channels=1,
            channels=8,
            depth=2,
            dconv_lstm=9,
            dconv_attn=9,
            resample=False,
            normalize=False,
        ),
        WAVE,
    ),
    "encodec/SEANetDecoder": Network(
        lambda: _of("encodec.modules", "SEANetDecoder", dimension=16, n_filters=4, ratios=[2, 2], lstm=0, norm="none"),
        (16, 128),
    ),
    "encodec/SEANetEncoder": Network(
        lambda: _of("encodec.modules", "SEANetEncoder", dimension=16, n_filters=4, ratios=[2, 2], lstm=0, norm="none"),
        WAVE,
    ),
    "own/TCN-chomp-last-step": Network(LastStep, (1, 128)),
    "own/WaveNet": Network(WaveNet, WAVE),
    "speechbrain/ConvTasNet-MaskNet": Network(MaskNet, (16, 128)),
    "speechbrain/ECAPA_TDNN (N,T,C)": Network(
        lambda: _of(
            "speechbrain.lobes.models.ECAPA_TDNN",
            "ECAPA_TDNN",
            20,
            channels=[16] * 4 + [48],
            attention_channels=8,
            lin_neurons=8,
            res2net_scale=2,
            se_channels=8,
        ),
        (20, 96),
        _time_last_but_one,
        {"x": "NTC"},
    ),
    "speechbrain/Xvector (N,T,C)": Network(Xvector, (20, 96), _time_last_but_one, {"x": "NTC"}),
    "torchaudio/ConvTasNet": Network(
        lambda: _of(
            "torchaudio.models",
            "ConvTasNet",
            enc_num_feats=16,
            msk_num_feats=8,
            msk_num_hidden_feats=16,
            msk_num_layers=3,
            msk_num_stacks=1,
        ),
        WAVE,
    ),
    "torchaudio/Wav2Letter": Network(lambda: _of("torchaudio.models", "Wav2Letter"), (1, 4096)),
    "torchaudio/Wav2Letter-mfcc": Network(
        lambda: _of("torchaudio.models", "Wav2Letter", input_type="mfcc", num_features=13), (13, 128)
    ),
    "torchcrepe/Crepe-tiny": Network(
        lambda: _of("torchcrepe.model", "Crepe", "tiny"), (1, 1024), _waveform, {"x": "NT"}
    ),
    "tsai/FCN": Network(lambda: _of("tsai.models.FCN", "FCN", 3, 2), (3, 128)),
    "tsai/InceptionTime": Network(lambda: _of("tsai.models.InceptionTime", "InceptionTime", 3, 2), (3, 128)),
    "tsai/InceptionTimePlus": Network(
        lambda: _of("tsai.models.InceptionTimePlus", "InceptionTimePlus", 3, 2), (3, 128)
    ),
    "tsai/LSTM_FCN": Network(lambda: _of("tsai.models.RNN_FCN", "LSTM_FCN", 3, 2, seq_len=128), (3, 128)),
    "tsai/OmniScaleCNN": Network(
        lambda: _of("tsai.models.OmniScaleCNN", "OmniScaleCNN", 3, 2, 64, layers=[256, 1024]), (3, 64)
    ),
    "tsai/ResNet": Network(lambda: _of("tsai.models.ResNet", "ResNet", 3, 2), (3, 128)),
    "tsai/TCN": Network(lambda: _of("tsai.models.TCN", "TCN", 3, 2, layers=[8] * 4), (3, 128)),
    "tsai/xresnet1d18": Network(lambda: _of("tsai.models.XResNet1d", "xresnet1d18", 3, 2), (3, 128)),
}
