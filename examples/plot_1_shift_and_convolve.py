"""
Shift and convolve, in either order
===================================

A bright square near the edge, a filter that looks down and right. Convolve and then shift, or shift and then convolve:
if the two differ, the convolution knows where the square was.
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
# Under each border, both orders on the same part of the plane. `read` gives any box of a map, also beyond the frame.

borders = ("zero", "circular", "full", "infinite")
fig, axes = plt.subplots(len(borders), 3, figsize=(6, 7.5), layout="constrained")
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
        ("convolve, shift", "shift, convolve", f"largest difference {difference:.2g}"),
        strict=True,
    ):
        ax.imshow(values, vmin=0, vmax=1.5, extent=(-2, 18, 18, -2))
        ax.add_patch(plt.Rectangle((0, 0), 16, 16, fill=False, edgecolor="white", linestyle="--"))
        ax.set(title=title, xticks=[], yticks=[])
    row[0].set_ylabel(border)
plt.show()
