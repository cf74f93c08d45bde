"""
The same answer at every place
==============================

An untouched ResNet with random weights, an object at every place of a canvas: how much does the answer change?
"""

import matplotlib.pyplot as plt
import torch

import borderless as bl
from borderless.models import load

torch.manual_seed(0)
model = load("timm/test_resnet")
thing = torch.randn(1, 3, 24, 24)
room = 64 - 24
places = [(row, column) for row in range(0, room + 1, 4) for column in range(0, room + 1, 4)]
side = room // 4 + 1

# %%
# `place` runs the empty canvas once, and for each place computes what the object can influence: exact, and much faster
# than a canvas a place.

arms = {
    "own padding": model,
    "full": bl.convert(model, "full"),
    "infinite": bl.convert(model, "infinite"),
    "infinite, adaptive phase": bl.convert(model, "infinite", phase="adaptive"),
}
fig, axes = plt.subplots(1, len(arms), figsize=(10, 3), layout="constrained")
for ax, (title, arm) in zip(axes, arms.items(), strict=True):
    answers = bl.place(arm, thing, places, canvas=(64, 64))[:, 0]
    change = (answers - answers[len(places) // 2]).abs().amax(1) / answers.abs().max()
    shown = ax.imshow(change.reshape(side, side), vmin=0, vmax=0.05)
    ax.set(title=f"{title}\nat most {float(change.max()):.1g}", xticks=[], yticks=[])
fig.colorbar(shown, ax=axes, label="change of the logits")
plt.show()

# %%
# The stride's part is what remains between places that are no whole strides apart; the adaptive phase takes it away.

print(bl.explain(model, (64, 64)).total_stride)
