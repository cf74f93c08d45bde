"""A small RetinaNet of torchvision, and self-made scenes that train it in seconds."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator

BACKGROUND, SIDE, SQUARE = 0.9, 64, 12


class Backbone(nn.Sequential):
    """Two strided convolutions."""

    out_channels = 8

    def forward(self, images: Tensor) -> dict[str, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return {"0": super().forward(images)}


def retina(side: int = 48, score_thresh: float = 0.0) -> nn.Module:
    """A RetinaNet with random weights that neither resizes nor normalizes, and keeps detections above a score."""
    layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()]
    anchors = AnchorGenerator(((8,),), ((0.5, 1.0, 2.0),))
    sizes: dict[str, Any] = {"min_size": side, "max_size": side, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = detection.RetinaNet(
            Backbone(*layers), 3, anchor_generator=anchors, score_thresh=score_thresh, topk_candidates=60, **sizes
        )
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.1)
    return model.eval()


def scenes(draw: torch.Generator, is_centered: bool, count: int = 4) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Images (count, 3, SIDE, SIDE) of a bright noise with one dark square, within 2 px of the middle or anywhere."""
    images = BACKGROUND + 0.2 * (torch.rand(count, 3, SIDE, SIDE, generator=draw) - 0.5)
    targets: list[dict[str, Tensor]] = []
    room = SIDE - SQUARE
    low, high = (room // 2 - 2, room // 2 + 3) if is_centered else (0, room + 1)
    for image in images:
        row, column = torch.randint(low, high, (2,), generator=draw).tolist()
        color = 0.4 * torch.rand(3, 1, 1, generator=draw)
        image[:, row : row + SQUARE, column : column + SQUARE] = color
        box = torch.tensor([[column, row, column + SQUARE, row + SQUARE]], dtype=torch.float)
        targets.append({"boxes": box, "labels": torch.ones(1, dtype=torch.long)})
    return images, targets


def trained(is_centered: bool, steps: int = 300) -> nn.Module:
    """A RetinaNet after seconds of training, on squares in the middle or anywhere."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = retina(SIDE, score_thresh=0.3).train()
        nn.init.constant_(model.get_parameter("head.classification_head.cls_logits.bias"), -2.0)
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
        draw = torch.Generator().manual_seed(0)
        for _ in range(steps):
            images, targets = scenes(draw, is_centered)
            loss = torch.stack([*model([*images], targets).values()]).sum()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return model.eval()
