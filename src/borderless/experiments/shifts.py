"""Does a classifier that was trained under a border still say the same, and still the right thing, of a moved image?

The shift experiment of Kayhan and van Gemert (CVPR 2020), after Zhang (ICML 2019): networks trained from scratch, with
and without anti-aliased strides, under their own padding, `full`, `infinite`, and an adaptive phase. Four ways to move
an image: crops of two sizes, rolls, and places on an empty canvas.

Embedded data: digits among pieces of other digits, 48 px, trained on random crops of 32 px. `--data`: any folder of
class folders, ImageNet as in the paper: images of 288 px, trained on random resized crops of 224 px.
"""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from torch import nn
from torchvision.transforms import v2

import borderless as bl
from borderless.data import imagenet, imagenet_a
from borderless.data.labelled import Labelled, LabelledSplit, load_labelled
from borderless.data.labelled_digits import digits_in_clutter
from borderless.experiments import shifts_figures
from borderless.experiments.arms import ARMS, SMALL, check_arms, check_device, classifier
from borderless.experiments.runner import Cell, ConfigError, Experiment, Result, write_table
from borderless.measures.shift_consistency import PROTOCOLS, RANGE_PX
from borderless.report import Section
from borderless.runtime.evaluation import one_thread
from borderless.training import Recipe, evaluate, fit

EMBEDDED = Recipe(epochs=20, batch_size=64, optimizer="adamw", learning_rate=4e-3, weight_decay=1e-2, schedule="linear")
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
PAPERS_NETWORKS = ("resnet18", "resnet34", "resnet50", "resnet101")
SCENE_PX, CROP_PX = 48, 32
PAPER_CROP_PX, SHORTER_SIDE_PX = 224, 256
CROPPED = ("zhang2019", "kayhan2020")


@dataclass(frozen=True)
class Config:
    """Settings of `shifts`."""

    archs: tuple[str, ...] = (SMALL,)
    """Networks: "small", or any of torchvision, timm/NAME, or of the paper."""
    arms: tuple[str, ...] = tuple(ARMS)
    """What each network is trained as."""
    seeds: int = 2
    """How many seeds (0, 1, …) of the split, the weights and the order."""
    data: Path | None = None
    """A folder of class folders, or of train and val with class folders; without it, digits in clutter.
    With it, what no option says is as in the paper."""
    classes: Literal["all", "imagenet-a"] = "all"
    """Which classes of --data: all, or the 200 that the paper took from ImageNet."""
    test_images: int = 0
    """How many of the test images to move; 0: all."""
    passes: int = 5
    """Pairs of views of each image."""
    device: str = "cpu"
    """Where the networks run: cpu, cuda, cuda:1, …"""
    training: Recipe = field(default_factory=lambda: EMBEDDED)
    """How networks are trained."""

    def __post_init__(self) -> None:
        check_arms(self.arms, tuple(ARMS))
        if self.seeds < 1 or self.passes < 1 or self.test_images < 0:
            raise ConfigError(
                f"got seeds={self.seeds}, passes={self.passes}, test_images={self.test_images}; needed: one seed and "
                "one pass at least, and no negative number"
            )
        if self.classes != "all" and self.data is None:
            raise ConfigError(f"got classes={self.classes!r} without --data; needed: a folder of ImageNet's classes")
        check_device(self.device)

    @classmethod
    def small(cls) -> "Config":
        few = replace(EMBEDDED, epochs=5)
        return cls(arms=("own", "infinite-adaptive"), seeds=1, test_images=40, passes=2, training=few)

    @classmethod
    def paper(cls) -> "Config":
        """What --data starts from."""
        return cls(archs=PAPERS_NETWORKS, seeds=1, training=PAPER)


def cells(config: Config) -> list[Cell]:
    return [
        Cell(f"{arch.replace('/', '-')}-{arm}-seed{seed}", {"arch": arch, "arm": arm, "seed": seed})
        for seed in range(config.seeds)
        for arch in config.archs
        for arm in config.arms
    ]


def run_cell(config: Config, cell: Cell, folder: Path) -> dict[str, Any]:
    """Train, then move the test images by every protocol."""
    arch, arm, seed = cell.parameters["arch"], ARMS[cell.parameters["arm"]], cell.parameters["seed"]
    split = _data(config, seed)
    plain = classifier(arch, len(split.classes), seed)
    shown = arm.explained(plain, (_crop_px(config),) * 2)
    model = arm.of(plain).to(config.device)
    test = split.test.some(config.test_images, seed) if config.test_images else split.test
    with one_thread() if arch == SMALL else nullcontext():
        history = fit(
            model,
            _seen(config, split.train, "training"),
            _seen(config, split.validation, "centre"),
            config.training,
            folder,
            seed,
        )
        right = evaluate(model, _seen(config, test, "centre"), 64, workers=config.training.workers)
        moved = _moved(config, model, test, seed, int(max(shown.total_stride)))
    return {
        "accuracy": right.accuracy,
        **moved,
        "training_accuracy": history[-1].accuracy,
        "epochs": len(history),
        "cost": shown.cost,
    }


def _moved(config: Config, model: nn.Module, test: Labelled, seed: int, stride_px: int) -> dict[str, Any]:
    """Consistency by every protocol, on `canvas` also at multiples of the total stride; accuracy along diagonals."""
    metrics: dict[str, Any] = {"stride_px": stride_px}
    for protocol in PROTOCOLS:
        images, range_px = _seen(config, test, protocol), _range_px(config, protocol)
        how: dict[str, Any] = {
            "protocol": protocol,
            "range_px": range_px,
            "seed": seed,
            "workers": config.training.workers,
        }
        kinds = {protocol: 1}
        if protocol == "canvas" and stride_px < range_px:
            kinds["canvas_stride"] = stride_px
        for name, multiple_px in kinds.items():
            found = bl.consistency(model, images, multiple_px=multiple_px, passes=config.passes, **how)
            metrics |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
            metrics[f"{name}_fidelity"] = found.fidelity
        if protocol in CROPPED:
            along = bl.diagonal(model, images, **how)
            metrics |= {f"{protocol}_diagonal": along.value, f"{protocol}_along": along.at.tolist()}
    return metrics


@lru_cache(maxsize=1)
def _data(config: Config, seed: int) -> LabelledSplit:
    if config.data is None:
        return digits_in_clutter(SCENE_PX, seed)
    only: list[str] = []
    if config.classes == "imagenet-a" and config.data.is_dir():
        root = config.data / "train" if (config.data / "train").is_dir() else config.data
        only = imagenet_a.folders_of([folder.name for folder in root.iterdir() if folder.is_dir()])
    return load_labelled(config.data, seed=seed, only=only)


def _crop_px(config: Config) -> int:
    return CROP_PX if config.data is None else PAPER_CROP_PX


def _range_px(config: Config, protocol: str) -> int:
    return SCENE_PX - CROP_PX if config.data is None else RANGE_PX[protocol]


def _seen(config: Config, images: Labelled, purpose: str) -> Labelled:
    """The images as a purpose needs them: "training", "centre" (one crop), or to be moved by a protocol."""
    crop_px = _crop_px(config)
    whole_px = crop_px + _range_px(config, purpose) if purpose in CROPPED else crop_px
    if config.data is None:
        crop = v2.RandomCrop(crop_px) if purpose == "training" else v2.CenterCrop(whole_px)
        return images.through(v2.Compose([crop, v2.RGB()]), is_random=purpose == "training")
    if purpose == "training":
        crops = [v2.RandomResizedCrop(crop_px, antialias=True), v2.RandomHorizontalFlip()]
    else:
        crops = [v2.Resize(max(whole_px, SHORTER_SIDE_PX), antialias=True), v2.CenterCrop(whole_px)]
    return images.through(v2.Compose([v2.ToImage(), *crops, *imagenet.normalised()]), is_random=purpose == "training")


def draw(config: Config, results: list[Result], folder: Path) -> Section:
    write_table(results, folder)
    return shifts_figures.section(
        config.archs, config.arms, results, folder, config.data is None, config.classes == "imagenet-a"
    )


EXPERIMENT = Experiment(
    name="shifts",
    title="Moved images",
    summary="Is a classifier consistent, and right, when an image moves by crops, rolls, or over an empty canvas?",
    Config=Config,
    cells=cells,
    run_cell=run_cell,
    draw=draw,
)
