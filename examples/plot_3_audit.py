"""
An audit in a few lines
=======================

How deep does the border reach into each map of a network, and what do its answers make of it?
"""

import matplotlib.pyplot as plt
import torch

import borderless as bl
from borderless.models import load

torch.manual_seed(0)
model = load("timm/test_resnet", num_classes=10)
found = bl.audit(model, torch.randn(8, 3, 96, 96), name="a ResNet with random weights")
print(found)

# %%
# Each map beside the same map without a border, by distance to the edge.

fig, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for layer in found.errors.layers[::2]:
    pixels = [layer.stride_px * (cell + 0.5) for cell in range(len(layer.by_distance))]
    ax.semilogy(pixels, 100 * layer.by_distance + 1e-4, label=layer.module)
ax.axhline(1, color="grey", linestyle="--")
ax.set(xlabel="distance to the edge, px", ylabel="difference, % of the map's variation")
ax.legend(fontsize=7, ncols=2)
plt.show()
