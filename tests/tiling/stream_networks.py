"""Small networks whose inputs come chunk by chunk: of audio, of video, and of rows of images."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Demucs(nn.Module):
    """Strides of 4, gated, transposed back; skips are cropped to what comes back, as in Demucs (Défossez et al.)."""

    def __init__(self, channels: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i in range(depth):
            wide, narrow = channels * 2**i, 1 if i == 0 else channels * 2 ** (i - 1)
            self.down.append(
                nn.Sequential(nn.Conv1d(narrow, wide, 8, 4), nn.ReLU(), nn.Conv1d(wide, 2 * wide, 1), nn.GLU(1))
            )
            self.up.insert(
                0,
                nn.Sequential(
                    nn.Conv1d(wide, 2 * wide, 3, 1, 1), nn.GLU(1), nn.ConvTranspose1d(wide, narrow, 8, 4), nn.ReLU()
                ),
            )

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for layer in self.down:
            x = layer(x)
            skips.append(x)
        for layer in self.up:
            skip = skips.pop()
            x = layer(x + skip[..., : x.shape[-1]])
        return x


class Seanet(nn.Module):
    """Causal, mirrored at the start, strides 2 and 4; transposed convolutions cut at the end, as in SEANet."""

    def __init__(self, channels: int = 4, is_causal: bool = True) -> None:
        super().__init__()
        self.is_causal, self.ratios = is_causal, (2, 4)
        sizes = [channels, 2 * channels, 4 * channels]
        self.first, self.last = nn.Conv1d(1, channels, 7), nn.Conv1d(channels, 1, 7)
        self.down = nn.ModuleList([nn.Conv1d(sizes[i], sizes[i + 1], 2 * r, r) for i, r in enumerate(self.ratios)])
        self.up = nn.ModuleList(
            [nn.ConvTranspose1d(sizes[2 - i], sizes[1 - i], 2 * r, r) for i, r in enumerate((4, 2))]
        )

    def convolved(self, layer: nn.Conv1d, x: Tensor) -> Tensor:
        total = layer.kernel_size[0] - layer.stride[0]
        after = 0 if self.is_causal else total // 2
        return layer(F.pad(x, (total - after, after), mode="reflect"))

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolved(self.first, x)
        for layer in self.down:
            x = self.convolved(layer, F.elu(x))
        for layer in self.up:
            total = layer.kernel_size[0] - layer.stride[0]
            x = layer(F.elu(x))
            cut = total if self.is_causal else total - total // 2
            x = x[..., total - cut : x.shape[-1] - cut]
        return self.convolved(self.last, F.elu(x))


class Wavenet(nn.Module):
    """Causal dilations to 128, gated, with residuals and summed skips (van den Oord et al.)."""

    def __init__(self, channels: int = 4, layers: int = 8) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(1, channels, 1), nn.Conv1d(channels, 3, 1)
        self.gates = nn.ModuleList([nn.Conv1d(channels, 2 * channels, 2, dilation=2**i) for i in range(layers)])
        self.mixes = nn.ModuleList([nn.Conv1d(channels, channels, 1) for _ in range(layers)])

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.first(x), 0
        for gate, mix in zip(self.gates, self.mixes, strict=True):
            a, b = gate(F.pad(x, (gate.dilation[0], 0))).chunk(2, 1)
            y = mix(torch.tanh(a) * torch.sigmoid(b))
            x, total = x + y, total + y
        return self.last(F.relu(total))


class Video(nn.Module):
    """Clips to one map a frame: convolutions over time and space; causal ones see no frame that is to come."""

    def __init__(self, is_causal: bool, channels: int = 4) -> None:
        super().__init__()
        self.before, self.after = (2, 0) if is_causal else (1, 1)
        self.layers = nn.ModuleList([nn.Conv3d(2, channels, 3, padding=(0, 1, 1)), nn.Conv3d(channels, 3, (3, 1, 1))])
        self.norm = nn.BatchNorm3d(channels)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        for i, layer in enumerate(self.layers):
            x = layer(F.pad(x, (0, 0, 0, 0, self.before, self.after)))
            x = F.max_pool3d(F.relu(self.norm(x)), (1, 2, 2)) if i == 0 else x
        return {"maps": F.interpolate(x, scale_factor=(1, 2, 2)), "scores": x.mean((3, 4))}


def block(narrow: int, wide: int, mode: str = "zeros") -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(narrow, wide, 3, padding=1, padding_mode=mode), nn.BatchNorm2d(wide), nn.ReLU(inplace=True)
    )


class UNet(nn.Module):
    """Two levels; `up`: "transposed", padded to the skip, or how it is interpolated to the skip's size."""

    def __init__(self, up: str = "transposed", mode: str = "zeros") -> None:
        super().__init__()
        self.up_kind = up
        self.down = nn.ModuleList([block(3, 4, mode), block(4, 8, mode), block(8, 8, mode)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(8, 8, 2, 2), nn.ConvTranspose2d(4, 4, 2, 2)])
        self.back = nn.ModuleList([block(16, 4, mode), block(8, 4, mode)])
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for i, layer in enumerate(self.down):
            x = layer(x if i == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for up, back in zip(self.up, self.back, strict=True):
            skip = skips.pop()
            if self.up_kind == "transposed":
                x = up(x)
                rows, columns = skip.shape[2] - x.shape[2], skip.shape[3] - x.shape[3]
                x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
            else:
                options = {} if self.up_kind == "nearest" else {"align_corners": False}
                x = F.interpolate(x, size=skip.shape[2:], mode=self.up_kind, **options)
            x = back(torch.cat([skip, x], 1))
        return self.head(x)


def made(model: nn.Module, seed: int = 0) -> nn.Module:
    """`model` in evaluation mode and float64, with weights and running statistics that matter."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / max(1, parameter[0].numel()) ** 0.5
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
    return model.eval().double()
