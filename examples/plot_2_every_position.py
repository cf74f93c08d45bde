"""
One object at every position of a canvas
========================================

A ResNet with random weights, as it is, and an object at 81 positions: how much do the logits change?
"""

import matplotlib.pyplot as plt
import torch

import borderless as bl
from borderless.models import load

torch.manual_seed(0)
model = load("timm/test_resnet")
thing = torch.randn(1, 3, 24, 24)
room = 64 - 24
positions = [(row, column) for row in range(0, room + 1, 5) for column in range(0, room + 1, 5)]
side = room // 5 + 1

# %%
# `bl.place` runs the empty canvas once and computes for each position only what the object can influence. The result is
# that of whole canvases, and faster.

arms = {
    "original padding": model,
    "full": bl.convert(model, "full"),
    "infinite": bl.convert(model, "infinite"),
    "infinite, adaptive phase": bl.convert(model, "infinite", phase="adaptive"),
}
fig, axes = plt.subplots(1, len(arms), figsize=(10, 3), layout="constrained")
for ax, (title, arm) in zip(axes, arms.items(), strict=True):
    logits = bl.place(arm, thing, positions, canvas=(64, 64))[:, 0]
    change = (logits - logits[len(positions) // 2]).abs().amax(1) / logits.abs().max()
    shown = ax.imshow(change.reshape(side, side), vmin=0, vmax=0.05)
    ax.set(title=f"{title}\nat most {float(change.max()):.1g}", xticks=[], yticks=[])
fig.colorbar(shown, ax=axes, label="relative change of the logits")
plt.show()

# %%
# Under `infinite`, what is left at positions between whole strides is due to the stride; an adaptive phase removes it.

print(bl.explain(model, (64, 64)).total_stride)
