"""With few images a class, does a network learn more when it cannot use location?

Kayhan and van Gemert (CVPR 2020): ResNet-50 on ImageNet with n images a class, own padding against full convolution.
Full convolution also computes more; the arm `own-padded` is the control that the paper lacks: own padding on an image
with so many zeros around it that it costs as much.

Embedded data: scikit-learn's digits, each at one random place of a 32 px canvas. `--data`: a folder of class folders,
Fashion-MNIST's files, or CIFAR-10's.
"""

from bisect import bisect_left
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torchvision.transforms import v2

import borderless as bl
from borderless.data import imagenet
from borderless.data.labelled import Labelled, LabelledSplit, load_labelled
from borderless.data.labelled_digits import digits_anywhere
from borderless.experiments import data_efficiency_figures
from borderless.experiments.arms import ARMS, SMALL, check_arms, check_device, classifier
from borderless.experiments.runner import Cell, ConfigError, Experiment, Result, write_table
from borderless.experiments.shifts import PAPER, PAPER_CROP_PX
from borderless.report import Section
from borderless.runtime.evaluation import one_thread
from borderless.training import Recipe, evaluate, fit

CANVAS_PX = 32
PADDED = "own-padded"
COMPARED = ("own", "full", "infinite", "infinite-adaptive", PADDED)
EMBEDDED = Recipe(epochs=40, batch_size=32, optimizer="adamw", learning_rate=4e-3, weight_decay=1e-2, schedule="linear")
PAPERS_COUNTS = (50, 100, 250, 500)
IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class Config:
    """Settings of `data-efficiency`."""

    arch: str = SMALL
    """The network: "small", or any of torchvision, timm/NAME, or of the paper."""
    per_class: tuple[int, ...] = (5, 10, 20)
    """How many training images of each class; a larger set holds the smaller ones. 0: all."""
    arms: tuple[str, ...] = COMPARED
    """What the network is trained as."""
    seeds: int = 3
    """How many seeds (0, 1, …) of the chosen images, the weights and the order."""
    data: Path | None = None
    """A folder of class folders, or of train and val with class folders, or Fashion-MNIST's or CIFAR-10's files;
    without it, digits. With it, what no option says is as in the paper."""
    device: str = "cpu"
    """Where the networks run: cpu, cuda, cuda:1, …"""
    training: Recipe = field(default_factory=lambda: EMBEDDED)
    """How networks are trained."""

    def __post_init__(self) -> None:
        check_arms(self.arms, COMPARED)
        if self.seeds < 1 or not self.per_class or min(self.per_class) < 0:
            raise ConfigError(
                f"got seeds={self.seeds}, per_class={self.per_class}; needed: one seed and one number of images at "
                "least, none negative"
            )
        check_device(self.device)

    @classmethod
    def small(cls) -> "Config":
        return cls(per_class=(5, 20), arms=("own", "full"), seeds=1, training=replace(EMBEDDED, epochs=15))

    @classmethod
    def paper(cls) -> "Config":
        """What --data starts from."""
        return cls(arch="resnet50", per_class=(*PAPERS_COUNTS, 0), seeds=1, training=PAPER)


def cells(config: Config) -> list[Cell]:
    return [
        Cell(f"{arm}-{count or 'all'}-seed{seed}", {"arm": arm, "per_class": count, "seed": seed})
        for seed in range(config.seeds)
        for count in config.per_class
        for arm in config.arms
    ]


def run_cell(config: Config, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train on a few images a class, test on all test images."""
    arm, count, seed = (cell.parameters[name] for name in ("arm", "per_class", "seed"))
    split = _data(config.data, seed)
    train = split.train.few(count, seed) if count else split.train
    size = tuple(_seen(config, split.test, False)[0][0].shape[1:])
    plain = classifier(config.arch, len(split.classes), seed)
    model, cost, padding_px = _arm(arm, plain, size)
    model = model.to(config.device)
    with one_thread() if config.arch == SMALL else nullcontext():
        history = fit(
            model,
            _seen(config, train, True),
            _seen(config, split.validation, False),
            config.training,
            folder,
            seed,
        )
        found = evaluate(model, _seen(config, split.test, False), 64, workers=config.training.workers)
    return {
        "accuracy": found.accuracy,
        "training_accuracy": history[-1].accuracy,
        "training_images": len(train),
        "epochs": len(history),
        "cost": cost,
        "padding_px": padding_px,
    }


def _arm(name: str, plain: nn.Module, size: tuple[int, ...]) -> tuple[nn.Module, float, int]:
    """The model of an arm, what it costs relative to own padding, and the zeros around the image."""
    if name != PADDED:
        arm = ARMS[name]
        return arm.of(plain), arm.explained(plain, size).cost, 0

    def macs(padding_px: int) -> int:
        return bl.explain(plain, tuple(n + 2 * padding_px for n in size), "zero").macs

    # The least padding that costs as much; on an image five times as wide, any network costs more than under `full`.
    padding_px = bisect_left(range(2 * max(size)), bl.explain(plain, size, "full").macs, key=macs)
    return nn.Sequential(nn.ZeroPad2d(padding_px), plain), macs(padding_px) / macs(0), padding_px


@lru_cache(maxsize=1)
def _data(folder: Path | None, seed: int) -> LabelledSplit:
    return digits_anywhere(CANVAS_PX, seed) if folder is None else load_labelled(folder, seed=seed)


def _seen(config: Config, images: Labelled, in_training: bool) -> Labelled:
    """The images as the network is shown them: small ones whole, photographs as crops of 224 px."""
    first = images.images[0]
    if isinstance(first, Tensor):
        return images.through(v2.RGB())
    normalised = [v2.RGB(), *imagenet.normalised()]
    if not isinstance(first, Path):
        return images.through(v2.Compose([v2.ToImage(), *normalised]))
    if in_training:
        crops = [v2.RandomResizedCrop(PAPER_CROP_PX, antialias=True), v2.RandomHorizontalFlip()]
    else:
        crops = imagenet.middle(PAPER_CROP_PX)
    return images.through(v2.Compose([v2.ToImage(), *crops, *normalised]), is_random=in_training)


def _is_papers(config: Config) -> bool:
    """Whether the paper's numbers, of ResNet-50 on ImageNet's 1,000 classes, are of the same thing."""
    return (
        config.data is not None and config.arch == "resnet50" and len(_data(config.data, 0).classes) == IMAGENET_CLASSES
    )


def draw(config: Config, results: list[Result], folder: Path) -> Section:
    write_table(results, folder)
    return data_efficiency_figures.section(
        config.arch, config.per_class, config.arms, results, folder, _is_papers(config)
    )


EXPERIMENT = Experiment(
    name="data-efficiency",
    title="Few images a class",
    summary="Accuracy with n training images a class, under each border, and on more pixels at the same cost.",
    Config=Config,
    cells=cells,
    run_cell=run_cell,
    draw=draw,
)
