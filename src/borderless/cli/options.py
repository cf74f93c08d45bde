"""The options that commands take, as tyro reads them, and mistakes in what was typed. Imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path

from borderless.engine.border import BorderName, Phase
from borderless.errors import DataError
from borderless.runtime.devices import check_device
from borderless.training.recipe import Recipe

# Gentle enough to keep what the network knows.
RECIPE = Recipe(epochs=10, batch_size=16, optimizer="adamw", learning_rate=3e-4, weight_decay=0.01, schedule="linear")


class UsageError(Exception):
    """A command that cannot be carried out as it was written."""


@dataclass(frozen=True)
class DemoOptions:
    """The first experiments with small settings, and one page that tells them as a story."""

    folder: Path = Path("runs/demo")
    """Where the page and everything on it is written."""


@dataclass(frozen=True)
class ExplainOptions:
    """Run a network once on an empty image and report each layer: frame, window, stride, receptive field, cost."""

    size: tuple[int, int] = (224, 224)
    """Height and width of the image, in pixels."""
    border: BorderName = "infinite"
    """The border to run it under."""
    phase: Phase = "fixed"
    """Which sublattice strided operations keep: the model's own, or the one with the most energy."""
    reach: int | None = None
    """How many cells a map may grow beyond its frame, at most; without it, as many as it needs."""


@dataclass(frozen=True)
class TilingOptions:
    """Tell whether and how a network runs on tiles of an image, and what they cost, before anything is computed."""

    size: tuple[int, int] = (8192, 8192)
    """Height and width of the image, in pixels."""
    border: BorderName | None = None
    """The border to run it under; without it, the network's own padding."""
    tiles: tuple[int, ...] = ()
    """Sizes of square tiles to list, in pixels; without it, squares and strips of 128 to 2048."""
    json: bool = False
    """Whether to print JSON."""


@dataclass(frozen=True)
class AuditOptions:
    """Measure what a network makes of location, and write one page: how much, how far from the border, the price."""

    images: Path | None = None
    """A folder of images, of any size and kind; without it, the photographs inside scikit-image (extra `demo`)."""
    weights: str = ""
    """Of a named network: default (its library's, downloaded), packaged (tf_efficientnet_lite0), random, or a file."""
    arch: str = ""
    """Whose weights a file holds: a network of torchvision, timm/NAME, or of the paper."""
    size: int = 224
    """Height and width of the images as the network is shown them, in pixels."""
    count: int = 64
    """How many images to draw from the folder; the others are only counted."""
    batch_size: int = 8
    """Images a pass."""
    workers: int = 0
    """Processes that read images, for each process that measures."""
    classes: int | None = None
    """How many classes a network from a file tells apart; without it, its architecture's."""
    seed: int = 0
    """Of everything that is drawn."""
    device: str = "cpu"
    """Where the network runs: cpu, cuda, cuda:1, …"""
    folder: Path | None = None
    """Where the page is written; by default runs/audit/NAME."""
    fail_above: float | None = None
    """In percent: end with status 1 if more answers than this change with the place."""


@dataclass(frozen=True)
class FinetuneOptions:
    """Put a pretrained network under another border, train it further on images, audit it before and after."""

    data: Path | None = None
    """A folder of class folders, or of train and val with class folders, or Fashion-MNIST's or CIFAR-10's files."""
    border: BorderName = "infinite"
    """The border to put it under."""
    phase: Phase = "fixed"
    """Which sublattice strided operations keep: the model's own, or the one with the most energy."""
    reach: int | None = None
    """How many cells a map may grow beyond its frame, at most (full, infinite); without it, as many as it needs."""
    weights: str = ""
    """Of a named network: default (its library's, downloaded), packaged (tf_efficientnet_lite0), random, or a file."""
    arch: str = ""
    """Whose weights a file holds: a network of torchvision, timm/NAME, or of the paper."""
    classes: int | None = None
    """How many classes a network from a file tells apart; without it, its architecture's."""
    size: int = 224
    """Height and width of the images as the network is shown them, in pixels."""
    audit_images: int = 32
    """How many test images to audit the network on, before and after; 0: no audit."""
    seed: int = 0
    """Of the split, where the data set has none, the order, and what is drawn."""
    device: str = "cpu"
    """Where the network runs: cpu, cuda, cuda:1, …"""
    folder: Path | None = None
    """Where weights and page are written; by default runs/finetune/NAME."""
    training: Recipe = field(default_factory=lambda: RECIPE)
    """How it is trained."""

    def __post_init__(self) -> None:
        check_device(self.device)
        if self.data is None:
            raise DataError(
                "got no --data; needed: a folder of class folders, on whose images the network is trained further "
                "(without images of your own: borderless run finetune)"
            )
        if self.size < 1 or self.audit_images < 0:
            raise DataError(
                f"got size={self.size}, audit_images={self.audit_images}; needed: one pixel at least, none negative"
            )


@dataclass(frozen=True)
class PlaygroundOptions:
    """Place objects by clicking and watch, train the rook, ask a network, audit it: in the browser, on this machine."""

    host: str = "127.0.0.1"
    """The address to listen on; only this machine unless told otherwise."""
    port: int | None = None
    """The port; without it, a free one from 7860 on."""
    open: bool = True
    """Whether to open the page in a browser."""


def split_off_network(command: str, words: list[str]) -> tuple[str, list[str]]:
    """Return the network that a command is about, its first word, and the words of its options.

    Raises:
        UsageError: The first word is an option.
    """
    name, options = words[0], words[1:]
    if name.startswith("-"):
        raise UsageError(
            f"got {name!r} where the network is needed; write it first: borderless {command} resnet50 {name} ..."
        )
    return name, options
