"""
Microscopy: a tissue section without seams
==========================================

A slide is too large for memory, so it is cut into tiles. With zero padding at every tile's edge, the segmentation
changes there. `bl.tile` computes the same tiles without overlap, and the result is that of the whole slide.

The image is an immunohistochemical stain of colonic glands, from scikit-image.
"""

import matplotlib.pyplot as plt
import torch
from skimage import color, data
from torch import nn

import borderless as bl

torch.manual_seed(0)
slide = data.immunohistochemistry()
image = torch.from_numpy(slide).permute(2, 0, 1)[None].float() / 255
stain = torch.from_numpy(color.rgb2hed(slide)[..., 2]).float()
brown = (stain > stain.quantile(0.85)).float()[None, None]  # stands for the labels of a pathologist

# %%
# A small U-Net learns the stained regions from the upper half, in crops of 64 px.


class UNet(nn.Module):
    """Two levels, with zero padding in every convolution."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.Conv2d(16, 16, 5, padding=2), nn.ReLU()
        )
        self.second = nn.Sequential(
            nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.Conv2d(32, 16, 5, padding=2), nn.ReLU()
        )
        self.last = nn.Conv2d(32, 1, 5, padding=2)

    @staticmethod
    def block(inputs, inner, outputs):
        return nn.Sequential(
            nn.Conv2d(inputs, inner, 5, padding=2), nn.ReLU(), nn.Conv2d(inner, outputs, 5, padding=2), nn.ReLU()
        )

    def forward(self, image):
        fine = self.first(image)
        coarse = self.second(nn.functional.max_pool2d(fine, 4))
        return self.last(torch.cat([fine, nn.functional.interpolate(coarse, scale_factor=4)], 1))


model = UNet()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for _ in range(60):
    rows, columns = torch.randint(0, 192, (4,)), torch.randint(0, 448, (4,))
    crops = [
        (image[..., y : y + 64, x : x + 64], brown[..., y : y + 64, x : x + 64])
        for y, x in zip(rows, columns, strict=True)
    ]
    inputs, targets = (torch.cat(part) for part in zip(*crops, strict=True))
    loss = nn.functional.binary_cross_entropy_with_logits(model(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
model.eval()

# %%
# The lower half in tiles of 64 px: each by itself, and with `bl.tile`.

unseen = image[..., 256:, :]
with torch.no_grad():
    whole = model(unseen).sigmoid()
    apart = torch.cat(
        [torch.cat([model(tile).sigmoid() for tile in row.split(64, 3)], 3) for row in unseen.split(64, 2)], 2
    )
tiled = bl.tile(model, unseen, tile=64).sigmoid()

fig, axes = plt.subplots(2, 2, figsize=(9, 5.6), layout="constrained")
axes[0, 0].imshow(unseen[0].permute(1, 2, 0))
axes[0, 0].set_title("slide")
axes[0, 1].imshow(whole[0, 0], vmin=0, vmax=1)
axes[0, 1].set_title("probability of stain, whole slide")
for ax, found, title in zip(axes[1], (apart, tiled), ("tiles by themselves", "bl.tile"), strict=True):
    difference = (found - whole).abs()
    shown = ax.imshow(difference[0, 0], vmin=0, vmax=0.5, cmap="magma")
    changed = 100 * ((found > 0.5) != (whole > 0.5)).float().mean()
    ax.set_title(f"{title}: difference ≤ {float(difference.max()):.1g},\n{changed:.2f} % of the pixels change class")
fig.colorbar(shown, ax=axes[1], label="difference to the whole")
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
plt.show()
