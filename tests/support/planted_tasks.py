"""Networks of every task whose use of position is known, because it was put there, weight by weight."""

from typing import Any, cast

import torch
from scipy.ndimage import find_objects, label
from torch import Tensor, nn

BLIND_PX = 4


class Blind(nn.Module):
    """Two logits per pixel, background and object: is the pixel bright? Not within `BLIND_PX` of the border.

    A sum of ones over a window is smaller where zero padding takes the place of ones. Without `is_blind` it is ignored.
    """

    def __init__(self, is_blind: bool = True, outputs: int = 2) -> None:
        super().__init__()
        side = 2 * BLIND_PX + 1
        self.ones = nn.Conv2d(3, 1, 1)
        self.count = nn.Conv2d(1, 1, side, padding=BLIND_PX, bias=False)
        self.bright = nn.Conv2d(3, 1, 1)
        nn.init.zeros_(self.ones.weight)
        nn.init.ones_(self.ones.bias)  # pyright: ignore[reportArgumentType]
        nn.init.constant_(self.count.weight, 4.0 if is_blind else 0.0)
        nn.init.constant_(self.bright.weight, 1 / 3)
        nn.init.constant_(self.bright.bias, -0.5)  # pyright: ignore[reportArgumentType]
        self.full, self.outputs = (4.0 if is_blind else 0.0) * side**2, outputs

    def forward(self, images: Tensor) -> Tensor:
        missing = self.count(self.ones(images)) - self.full  # 0 away from the border, below it else
        found = self.bright(images) + missing.clamp(min=-4.0)
        return found if self.outputs == 1 else torch.cat([-found, found], 1)


class Coordinate(nn.Module):
    """Numbers per image, or per pixel, with the column of a pixel as a further channel; not without `has_channel`."""

    def __init__(self, has_channel: bool = True, is_dense: bool = False, outputs: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 2, 1)
        self.head = nn.Conv2d(3, outputs, 1)
        self.has_channel, self.is_dense = has_channel, is_dense
        for i, layer in enumerate((self.stem, self.head)):
            values = torch.rand(layer.weight.shape, generator=torch.Generator().manual_seed(i))
            layer.weight.data = values + 0.5
            nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, images: Tensor) -> Tensor:
        found = self.stem(images)
        column = torch.linspace(0, 1, images.shape[3]) if self.has_channel else torch.zeros(images.shape[3])
        # Its product with the content: where there is nothing, it says nothing.
        found = self.head(torch.cat([found, found[:, :1] * column], 1))
        return found if self.is_dense else found.mean((2, 3))


class PaddedSum(nn.Module):
    """Numbers per image that the zero padding of a mean over 7 × 7 pixels makes smaller for objects at the border."""

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.blur = nn.Conv2d(3, outputs, 7, padding=3, bias=False)
        self.blur.weight.data = torch.rand(self.blur.weight.shape, generator=torch.Generator().manual_seed(0))

    def forward(self, images: Tensor) -> Tensor:
        return self.blur(images).mean((2, 3))


class Boxes(nn.Module):
    """A detector of one bright square, by the heat map of its `backbone`; a `Blind` one misses it at the border."""

    def __init__(self, is_blind: bool = True) -> None:
        super().__init__()
        self.backbone = Blind(is_blind, outputs=1)

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        return [self._found(heat[0]) for heat in self.backbone(images)]

    def _found(self, heat: Tensor) -> dict[str, Tensor]:
        rows, columns = (heat > 0.25).nonzero(as_tuple=True)
        if not len(rows):
            empty = heat.new_zeros(0)
            return {"boxes": empty.reshape(0, 4), "scores": empty, "labels": empty.long()}
        box = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).to(heat)
        score = heat[rows, columns].mean() + 0.4
        return {"boxes": box[None], "scores": score[None], "labels": torch.ones(1, dtype=torch.long)}


class Many(Boxes):
    """The same of several squares that do not touch."""

    def _found(self, heat: Tensor) -> dict[str, Tensor]:
        labels, _ = cast(Any, label((heat > 0.25).cpu().numpy()))
        places = find_objects(labels)
        boxes = [[columns.start, rows.start, columns.stop, rows.stop] for rows, columns in places]
        scores = [heat[place][heat[place] > 0.25].mean() + 0.4 for place in places]
        return {
            "boxes": heat.new_tensor(boxes).reshape(-1, 4),
            "scores": torch.stack(scores) if scores else heat.new_zeros(0),
            "labels": torch.ones(len(boxes), dtype=torch.long),
        }


def squares(count: int = 8, side: int = 28, **options: Any) -> Tensor:
    """Images (count, 3, side, side) of background 0 with a bright square from the middle to the lower right corner."""
    draw = torch.Generator().manual_seed(0)
    images = torch.zeros(count, 3, side, side)
    images[:, :, side // 4 :, side // 4 :] = 0.75 + 0.25 * torch.rand(count, 3, 1, 1, generator=draw)
    return images + options.get("noise", 0.0) * torch.rand(images.shape, generator=draw)
