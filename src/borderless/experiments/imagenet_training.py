"""How the paper trains on ImageNet, shared by the experiments that do."""

from typing import Any

from torchvision.transforms import v2

from borderless.data import imagenet
from borderless.training.recipe import Recipe

PAPER = Recipe(
    epochs=90,
    batch_size=256,
    learning_rate=0.1,
    weight_decay=1e-4,
    nesterov=False,
    schedule="step",
    step_epochs=30,
    workers=4,
)
PAPER_CROP_PX = 224


def training_crops(crop_px: int) -> list[Any]:
    """Return the random crops and flips that are shown in training."""
    return [v2.RandomResizedCrop(crop_px, antialias=True), v2.RandomHorizontalFlip()]


def photographs(crops: list[Any]) -> v2.Compose:
    """Return what turns a photograph into crops as the network takes them."""
    return v2.Compose([v2.ToImage(), *crops, *imagenet.normalised()])
