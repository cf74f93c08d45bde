"""
Shift, then convolve, or convolve, then shift
=============================================

A bright square near the edge, and a filter that weights the pixels below and to the right of each cell. Convolve and
then shift, or shift and then convolve: where the two results differ, the output depends on the position of the square.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import borderless as bl

convolution = nn.Conv2d(1, 1, 5, padding=2, bias=False)
with torch.no_grad():
    convolution.weight.copy_(torch.outer(torch.arange(5.0), torch.arange(5.0)) / 40)

image = torch.zeros(1, 1, 16, 16)
image[..., 1:4, 1:4] = 1
down = 10
shifted = image.roll((down, down), (2, 3))

# %%
# Both orders under each border, on the same part of the plane. `read` returns any box of a feature map, also beyond the
# frame, which the dashed line shows.

borders = ("zero", "circular", "full", "infinite")
fig, axes = plt.subplots(len(borders), 3, figsize=(6.5, 8), layout="constrained")
box = ((-2, 18), (-2, 18))
for row, border in zip(axes, borders, strict=True):
    model = bl.convert(convolution, border, output="signal")
    with torch.no_grad():
        moved_after = model(image).read(tuple((a - down, b - down) for a, b in box))[0, 0]
        moved_before = model(shifted).read(box)[0, 0]
    difference = float((moved_after - moved_before).abs().max())
    for ax, values, title in zip(
        row,
        (moved_after, moved_before, (moved_after - moved_before).abs()),
        ("convolve, then shift", "shift, then convolve", f"difference ≤ {difference:.2g}"),
        strict=True,
    ):
        ax.imshow(values, vmin=0, vmax=1.5, extent=(-2, 18, 18, -2))
        ax.add_patch(plt.Rectangle((0, 0), 16, 16, fill=False, edgecolor="white", linestyle="--"))
        ax.set(xticks=[], yticks=[])
        ax.set_title(title, fontsize=10)
    row[0].set_ylabel(border)
plt.show()
