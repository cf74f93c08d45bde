"""Declare the options that commands take, and mistakes in what was typed. Imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from borderless.engine.border import Border, BorderName, Phase
from borderless.engine.edge import Count
from borderless.errors import ConfigError, DataError
from borderless.runtime.devices import check_device
from borderless.runtime.settings import Range, Settings
from borderless.training.recipe import Recipe

# Gentle enough to keep what the network knows.
RECIPE = Recipe(epochs=10, batch_size=16, optimizer="adamw", learning_rate=3e-4, weight_decay=0.01, schedule="linear")

# Sides of images in pixels, beyond which an empty one does not fit into memory; seeds that every generator takes.
MOST_PX, MOST_SEED = 16_384, 2**32 - 1
Side = Annotated[int, Range(1, MOST_PX)]
Seed = Annotated[int, Range(0, MOST_SEED)]
# A test holds these to the files in `auditing.tasks`, which need PyTorch.
Task = Literal["classification", "segmentation", "dense", "detection", "regression", "embedding"]
Classes = Annotated[int | None, Range(1, 100_000)]


class UsageError(Exception):
    """A command that cannot be carried out as it was written."""


@dataclass(frozen=True)
class DemoOptions(Settings):
    """The first experiments with small settings, and one page that tells them as a story."""

    folder: Path = Path("runs/demo")
    """Folder for the page and its figures."""


@dataclass(frozen=True)
class ExplainOptions:
    """Run a network once on an empty image and report each layer: frame, window, stride, receptive field, cost."""

    size: tuple[int, int] = (224, 224)
    """Height and width of the image, in pixels."""
    border: tuple[BorderName, ...] = ("infinite",)
    """The border to run it under: one for all axes, or one for each, such as zero circular."""
    phase: Phase = "fixed"
    """Sublattice that strided operations keep: the model's own (fixed), or the one with the most energy (adaptive)."""
    reach: int | None = None
    """Most cells that a feature map may grow beyond its frame (default: unlimited)."""

    def __post_init__(self) -> None:
        check_sides(self.size, MOST_PX)


@dataclass(frozen=True)
class TilingOptions:
    """Tell whether and how a network runs on tiles of an image, and what they cost, before anything is computed."""

    size: tuple[int, int] = (8192, 8192)
    """Height and width of the image, in pixels."""
    border: tuple[BorderName, ...] = ()
    """The border to run it under: one for all axes, or one for each (default: the network's original padding)."""
    tiles: tuple[int, ...] = ()
    """Sizes of square tiles to list, in pixels (default: squares and strips of 128 to 2048)."""
    json: bool = False
    """Print JSON."""

    def __post_init__(self) -> None:
        check_sides((*self.size, *self.tiles), 10**7)


@dataclass(frozen=True)
class AuditOptions(Settings):
    """Measure how a network uses absolute position, and write one page."""

    MAIN: ClassVar = (
        "images",
        "count",
        "objects",
        "weights",
        "arch",
        "task",
        "annotations",
        "classes",
        "size",
        "folder",
        "fail_above",
    )

    images: Path | None = None
    """Folder of images, of any size and kind (default: sample photographs)."""
    weights: str = ""
    """default, packaged, random, or a name of the library's weights; of package.module:build, a file; downloaded where
    needed (default: pretrained)."""
    arch: str = ""
    """Architecture of a file of weights: NAME of torchvision, timm/NAME, or of the paper."""
    size: Side = 224
    """Height and width of the network's input, in pixels."""
    mean: tuple[float, float, float] | None = None
    """Mean of each color, in [0, 1], that is subtracted from the images (default: the network's, or ImageNet's)."""
    std: tuple[float, float, float] | None = None
    """Standard deviation of each color that the images are divided by (default: the network's, or ImageNet's)."""
    preprocess: str = ""
    """package.module:name, a function that makes a PIL image the input (C, H, W), instead of size, mean and std."""
    count: Annotated[int, Range(1, 10**7)] = 64
    """Images to draw from the folder; the others are only counted."""
    objects: Annotated[int | None, Range(1, 64)] = None
    """Objects to move over canvases, cut from the images (default: until the interval is narrow)."""
    batch_size: Annotated[int, Range(1, 65_536)] = 8
    """Images per batch."""
    workers: Annotated[int, Range(0, 1024)] = 0
    """Processes that read images, for each process that measures."""
    task: Task | None = None
    """What an output means (default: guessed from its shape)."""
    classes: Classes = None
    """Number of classes of a network from a file or with random weights (default: its architecture's)."""
    annotations: Path | None = None
    """What is annotated, for scores by zone: a JSON file of COCO, a folder of VOC's XML files, or one of masks."""
    class_names: tuple[str, ...] | None = None
    """Names of the network's labels, in their order, from 0 on (default: labels are the numbers of classes)."""
    seed: Seed = 0
    """Random seed."""
    device: str = "cpu"
    """Device of the network: cpu, cuda, cuda:1, …"""
    folder: Path | None = None
    """Folder for the page and the record (default: runs/audit/NAME)."""
    fail_above: Annotated[float | None, Range(0, 100)] = None
    """Exit with status 1 if predictions change with the position by more than this, in percent (default: never)."""


@dataclass(frozen=True)
class FinetuneOptions(Settings):
    """Put a pretrained network under another border, train it further on images, audit it before and after."""

    MAIN: ClassVar = (
        *("data", "border", "phase", "reach", "count", "weights", "arch", "size", "epochs", "learning_rate"),
        *("device", "folder"),
    )

    data: Path | None = None
    """Folder of class folders (or of train and val with such), or Fashion-MNIST's or CIFAR-10's files (needed)."""
    border: tuple[BorderName, ...] = ("infinite",)
    """The border to put it under: one for all axes, or one for each, such as zero circular."""
    phase: Phase = "fixed"
    """Sublattice that strided operations keep: the model's own (fixed), or the one with the most energy (adaptive)."""
    reach: Annotated[int | None, Range(0)] = None
    """Most cells that a feature map may grow beyond its frame, under full and infinite (default: unlimited)."""
    count: Count = "frame"
    """What a mean over space divides by, under infinite: cells of the frame, or of as much window as content fills."""
    weights: str = ""
    """default, packaged, random, or a name of the library's weights; downloaded where needed (default: pretrained)."""
    arch: str = ""
    """Architecture of a file of weights: NAME of torchvision, timm/NAME, or of the paper."""
    classes: Classes = None
    """Number of classes of a network from a file (default: its architecture's)."""
    size: Side = 224
    """Height and width of the network's input, in pixels."""
    audit_images: Annotated[int, Range(0, 10**7)] = 32
    """Test images to audit the network on, before and after; 0: no audit."""
    seed: Seed = 0
    """Random seed of the split, where the data set has none, and of the order of the images."""
    device: str = "cpu"
    """Device of the network: cpu, cuda, cuda:1, …"""
    folder: Path | None = None
    """Folder for weights and page (default: runs/finetune/NAME)."""
    training: Recipe = field(default_factory=lambda: RECIPE)
    """Settings of the training."""

    @property
    def made_border(self) -> Border:
        """The border that the options make."""
        return Border(self.border, phase=self.phase, reach=self.reach, count=self.count)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_device(self.device)
        if self.data is None:
            raise DataError(
                "Expected --data, a folder of class folders on whose images the network is trained further, but got "
                "none; without images of your own: borderless run finetune."
            )


@dataclass(frozen=True)
class PlaygroundOptions(Settings):
    """Place objects by clicking and watch, train the rook, ask a network, audit it: in the browser, on this machine."""

    host: str = "127.0.0.1"
    """Address to listen on; others can reach any but 127.0.0.1."""
    port: int | None = None
    """Port (default: a free one from 7860 on)."""
    open: bool = True
    """Open the page in a browser."""


def check_sides(sides_px: tuple[int, ...], most: int) -> None:
    """Check sizes of images.

    Raises:
        ConfigError: One is less than 1 or more than `most`.
    """
    for side in sides_px:
        if not 1 <= side <= most:
            raise ConfigError(f"Expected sides of 1 to {most} pixels but got {side}; choose another size.")


_HELP = ("-h", "--help", "--help-all")


def split_off_words(words: list[str], count: int, named: str, example: str) -> tuple[list[str], list[str]]:
    """Return the first `count` words, which a command cannot do without, and the words of its options.

    Where any word asks for help, the options are those of a help text.

    Args:
        words: After the command.
        count: Number of words that are no options.
        named: What these name, for the error.
        example: How the command is written, for the error.

    Raises:
        UsageError: There are fewer words before the first option.
    """
    asked = [word for word in words if word in _HELP]
    if asked:
        return [""] * count, asked
    if len(words) < count or any(word.startswith("-") for word in words[:count]):
        raise UsageError(f"Expected {named} first but got {' '.join(words[:count])!r}; write: borderless {example} …")
    return words[:count], words[count:]


def split_off_network(command: str, words: list[str]) -> tuple[str, list[str]]:
    """Return the network that a command is about, its first word, and the words of its options.

    Without any word, or with one that asks for help, the options are those of a help text.

    Raises:
        UsageError: The first word is an option.
    """
    if not words or words[0] in _HELP:
        return "NAME", words or ["--help"]
    name, options = words[0], words[1:]
    if name.startswith("-"):
        raise UsageError(f"Expected the network first but got {name!r}; write: borderless {command} resnet50 {name} …")
    return name, options
