"""
Remote sensing: an aircraft anywhere in the scene
=================================================

A classifier learns the heading of aircraft from chips with the aircraft in the middle, as data sets of detections are
cut. In use the aircraft lies anywhere in the chip. Is the network right there, before and after conversion?

The scenes are drawn here.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import borderless as bl

HEADINGS = ("north", "west", "south", "east")
generator = torch.Generator().manual_seed(0)


def draw(count):
    """Aircraft of 15 px with one of four headings, of varying brightness and with noise; and the headings."""
    plane = torch.zeros(15, 15)
    plane[1:14, 7] = 1  # fuselage
    plane[5:7, 1:14] = 1  # wings
    plane[12, 4:11] = 1  # tail
    headings = torch.randint(0, 4, (count,), generator=generator)
    planes = torch.stack([plane.rot90(int(k)) for k in headings])[:, None]
    noise = torch.randn(planes.shape, generator=generator)
    return planes * (0.6 + 0.4 * torch.rand(count, 1, 1, 1, generator=generator)) + 0.25 * noise * (
        planes > 0
    ), headings


def chips(planes, row, column):
    """Aircraft at one position of chips of 48 px."""
    room = 48 - planes.shape[-1]
    return nn.functional.pad(planes, (column, room - column, row, room - row))


# %%
# Both networks have the same initial weights and see the same chips, with the aircraft within 2 px of the middle.


def trained(border, phase):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(12, 24, 5, stride=2, padding=2), nn.ReLU(),
        nn.Conv2d(24, 24, 5, padding=2), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(24, 4),
    )  # fmt: skip
    model = bl.convert(model, border, phase=phase)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        planes, headings = draw(32)
        row, column = torch.randint(14, 19, (2,), generator=generator)
        loss = nn.functional.cross_entropy(model(chips(planes, int(row), int(column))), headings)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


# %%
# `bl.place` evaluates 30 new aircraft at every third pixel of the chip.

planes, headings = draw(30)
steps = range(0, 34, 3)
positions = [(row, column) for row in steps for column in steps]
fig, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
axes[0].imshow(chips(planes, 16, 16)[0, 0], cmap="gray")
axes[0].set_title(f"a training chip: {HEADINGS[headings[0]]}")
for ax, border, phase in zip(axes[1:], ("zero", "infinite"), ("fixed", "adaptive"), strict=True):
    generator.manual_seed(1)
    model = trained(border, phase)
    with torch.no_grad():
        logits = bl.place(model, planes, positions, canvas=(48, 48))
    accuracy = 100 * (logits.argmax(2) == headings).float().mean(1)
    shown = ax.imshow(accuracy.reshape(len(steps), -1), vmin=25, vmax=100)
    name = "original padding" if border == "zero" else "infinite, adaptive phase"
    ax.set_title(f"{name}\n{accuracy.min():.0f} to {accuracy.max():.0f} % right, mean {accuracy.mean():.0f} %")
fig.colorbar(shown, ax=axes[1:], label="accuracy by position, %")
for ax in axes:
    ax.set(xticks=[], yticks=[])
plt.show()

# %%
# Had the training chips shown aircraft everywhere, the original network might have learned as much, at less cost. But
# equal predictions at all positions would be a tendency then, not exact.
