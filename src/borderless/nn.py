"""Full convolution as a layer: `torch.nn.ConvNd` that keeps every window which touches its input.

A zero-padded "same" convolution drops the windows that mostly lie outside the image, so some weights never meet the
pixels at the edge, and a filter can distinguish an edge from the middle. Full convolution pads with dilation * (kernel
- 1) zeros: no window is dropped, and pixels at the edge are treated like those in the middle.

Kayhan and van Gemert, "On Translation Invariance in CNNs: Convolutional Layers can Exploit Absolute Spatial Location",
CVPR 2020 (F-Conv), https://arxiv.org/abs/2003.07064.

Legend, for one spatial axis: n size of the input, k kernel, s stride, d dilation, e = d * (k - 1), j index of an
output, t index of a weight.

    output j reads the input at  s*j - e + d*t,  t = 0 .. k - 1  (zeros outside)
    outputs kept                 j = 0 .. (n - 1 + e) // s

These are all the windows of that lattice whose span touches the input. Every pixel meets every weight exactly once at
stride 1. At stride s, pixel i meets, once each, the weights with (i + e - d*t) % s == 0: which ones depends on i modulo
s but not on the distance to the edge. `borderless.convert(..., phase="adaptive")` removes the dependence on the stride.
"""

import operator
from collections.abc import Sequence
from typing import ClassVar, Never

import torch
from torch import nn

__all__ = ["FullConv1d", "FullConv2d", "FullConv3d"]

# Arguments of nn.ConvNd that full convolution leaves no choice about.
_DECIDED = {
    "padding": "it pads with dilation * (kernel_size - 1) by definition",
    "padding_mode": "it pads with zeros by definition",
}


class _FullConv(nn.Module):
    """The common part of the three classes, before `nn.ConvNd` in their bases, so that `super()` is that class."""

    _axes: ClassVar[tuple[str, ...]]

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    bias: torch.Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        *,  # where nn.ConvNd has its padding: a call copied from there must not set the dilation unnoticed
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        **refused: Never,
    ) -> None:
        self._refuse(refused)
        kernel = self._per_axis("kernel_size", kernel_size)
        dilations = self._per_axis("dilation", dilation)
        super().__init__(
            in_channels,
            out_channels,
            kernel,
            stride=self._per_axis("stride", stride),
            padding=tuple(d * (k - 1) for d, k in zip(dilations, kernel, strict=True)),
            dilation=dilations,
            groups=groups,
            bias=bias,
            device=device,
            dtype=dtype,
        )

    @classmethod
    def _refuse(cls, arguments: dict[str, Never]) -> None:
        for name, value in arguments.items():
            if name not in _DECIDED:
                raise TypeError(f"{cls.__name__} got an unexpected argument {name}={value!r}")
            raise TypeError(
                f"Expected no {name} but got {name}={value!r} for {cls.__name__}: {_DECIDED[name]}. Leave {name} out, "
                f"or use torch.nn.Conv{len(cls._axes)}d to choose it."
            )

    @classmethod
    def _per_axis(cls, name: str, value: int | Sequence[int]) -> tuple[int, ...]:
        # nn.ConvNd takes a tuple of any length and fails only when called; a kernel of 0 would pad a negative amount.
        needed = (
            f"Expected {name} to be one positive int, or one for each axis ({', '.join(cls._axes)}), but got {value!r} "
            f"for {cls.__name__}."
        )
        try:
            values = tuple(map(operator.index, value if isinstance(value, Sequence) else [value] * len(cls._axes)))
        except TypeError:
            raise TypeError(needed) from None
        if len(values) != len(cls._axes) or min(values) < 1:
            raise ValueError(needed)
        return values

    def extra_repr(self) -> str:
        """Return the arguments of the call that makes this layer, defaults left out."""
        arguments = [str(self.in_channels), str(self.out_channels), str(_briefly(self.kernel_size))]
        for name in ("stride", "dilation"):
            if set(getattr(self, name)) != {1}:
                arguments.append(f"{name}={_briefly(getattr(self, name))}")
        if self.groups != 1:
            arguments.append(f"groups={self.groups}")
        if self.bias is None:
            arguments.append("bias=False")
        return ", ".join(arguments)


def _briefly(values: tuple[int, ...]) -> int | tuple[int, ...]:
    return values[0] if len(set(values)) == 1 else values


class FullConv1d(_FullConv, nn.Conv1d):
    """Full convolution of sequences: `torch.nn.Conv1d` with padding = dilation * (kernel_size - 1).

    >>> conv = FullConv1d(1, 2, 3)
    >>> conv(torch.zeros(4, 1, 10)).shape
    torch.Size([4, 2, 12])
    >>> FullConv1d(1, 2, 3, stride=2, dilation=4)(torch.zeros(4, 1, 10)).shape
    torch.Size([4, 2, 9])

    Arguments are those of `torch.nn.Conv1d` less `padding` and `padding_mode`, those after `stride` by name;
    parameters' names, shapes and initial values are the same too, so its state dicts load.

    Shape:
        input (N, in_channels, L) or (in_channels, L); L may be smaller than the kernel
        output (N, out_channels, L') or (out_channels, L'), L' = (L - 1 + dilation * (kernel_size - 1)) // stride + 1

    Output j is the window on input samples stride * j - dilation * (kernel_size - 1) to stride * j. At stride 1 every
    weight meets every sample exactly once. A larger stride takes every stride-th of the outputs of stride 1, from the
    first on: no window is lost at the edge, but which weights a sample meets depends on its index modulo the stride.

    Raises:
        TypeError: `padding` or `padding_mode` is given.
        TypeError, ValueError: a size is not a positive int or a tuple of one.

    Source: Kayhan and van Gemert, CVPR 2020, https://arxiv.org/abs/2003.07064, F-Conv.
    """

    _axes = ("length",)


class FullConv2d(_FullConv, nn.Conv2d):
    """Full convolution of images: `torch.nn.Conv2d` with padding = dilation * (kernel_size - 1).

    >>> conv = FullConv2d(3, 64, 7, stride=2)
    >>> conv(torch.zeros(4, 3, 32, 48)).shape
    torch.Size([4, 64, 19, 27])
    >>> conv
    FullConv2d(3, 64, 7, stride=2)
    >>> conv.padding
    (6, 6)

    Arguments are those of `torch.nn.Conv2d` less `padding` and `padding_mode`, those after `stride` by name;
    parameters' names, shapes and initial values are the same too, so its state dicts load. Pairs are (height, width).

    Shape:
        input (N, in_channels, H, W) or (in_channels, H, W); H and W may be smaller than the kernel
        output (N, out_channels, H', W') or (out_channels, H', W'), where for each axis
        H' = (H - 1 + dilation * (kernel_size - 1)) // stride + 1

    Output j of an axis is the window on rows (or columns) stride * j - dilation * (kernel_size - 1) to stride * j. At
    stride 1 every weight meets every pixel exactly once. A larger stride takes every stride-th of the outputs of
    stride 1, from the first on: no window is lost at the edge, but which weights a pixel meets depends on its index
    modulo the stride.

    Raises:
        TypeError: `padding` or `padding_mode` is given.
        TypeError, ValueError: a size is not a positive int or one for each axis.

    Source: Kayhan and van Gemert, CVPR 2020, https://arxiv.org/abs/2003.07064, F-Conv.
    """

    _axes = ("height", "width")


class FullConv3d(_FullConv, nn.Conv3d):
    """Full convolution of clips and volumes: `torch.nn.Conv3d` with padding = dilation * (kernel_size - 1).

    >>> conv = FullConv3d(3, 8, 3, stride=(1, 2, 2))
    >>> conv(torch.zeros(2, 3, 16, 28, 28)).shape
    torch.Size([2, 8, 18, 15, 15])
    >>> conv
    FullConv3d(3, 8, 3, stride=(1, 2, 2))

    Arguments are those of `torch.nn.Conv3d` less `padding` and `padding_mode`, those after `stride` by name;
    parameters' names, shapes and initial values are the same too, so its state dicts load. Triples are (depth or time,
    height, width).

    Shape:
        input (N, in_channels, T, H, W) or (in_channels, T, H, W); T, H and W may be smaller than the kernel
        output (N, out_channels, T', H', W') or (out_channels, T', H', W'), where for each axis
        H' = (H - 1 + dilation * (kernel_size - 1)) // stride + 1

    Output j of an axis is the window on indices stride * j - dilation * (kernel_size - 1) to stride * j. At stride 1
    every weight meets every cell exactly once. A larger stride takes every stride-th of the outputs of stride 1, from
    the first on: no window is lost at the edge, but which weights a cell meets depends on its index modulo the stride.

    Time is an axis as the others are, as in the paper's temporal variant. To leave it alone, give its kernel 1.

    Raises:
        TypeError: `padding` or `padding_mode` is given.
        TypeError, ValueError: a size is not a positive int or one for each axis.

    Source: Kayhan and van Gemert, CVPR 2020, https://arxiv.org/abs/2003.07064, F-Conv.
    """

    _axes = ("depth", "height", "width")
