"""
An audit in Python
==================

How far does the border reach into each feature map, and how much do the predictions depend on it? For a network of your
own, replace the model and the images.
"""

import matplotlib.pyplot as plt
import torch

import borderless as bl
from borderless.models import load

torch.manual_seed(0)
model = load("timm/test_resnet", num_classes=10)
found = bl.audit(model, torch.randn(6, 3, 64, 64), name="a ResNet with random weights")
print(found)

# %%
# Each feature map beside the same map without a border, by distance to the edge.

assert found.errors is not None
fig, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for layer in found.errors.layers[::2]:
    pixels = [layer.stride_px * (cell + 0.5) for cell in range(len(layer.by_distance))]
    ax.semilogy(pixels, 100 * layer.by_distance + 1e-4, label=layer.module)
ax.axhline(1, color="gray", linestyle="--")
ax.set(xlabel="distance to the edge, px", ylabel="difference, % of the map's variation")
ax.legend(fontsize=7, ncols=2)
plt.show()
