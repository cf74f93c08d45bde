"""Hold what an audit returns: the numbers that were measured, and the findings that are drawn from them."""

from dataclasses import dataclass, field
from typing import Any, Literal

from borderless.auditing.tasks import Words, discover

# Why a step was not measured that nobody asked for.
NOT_ASKED = "It is not among the parts that were asked for"
Level = Literal["fail", "warning", "pass", "info"]


@dataclass(frozen=True)
class Finding:
    """One sentence of the verdict.

    Attributes:
        name: A slug, for programs.
        level: fail (predictions depend on position), warning, pass, or info (a fact, or what could not be settled).
        text: The sentence with its numbers; it may have the tags that a page knows.
        numbers: The same numbers for programs.
        advice: What to do about it, "" if nothing.
        commands: Lines to paste that do it.
        summary: The text without its numbers, if a first screen shows it.
    """

    name: str
    level: Level
    text: str
    numbers: dict[str, Any] = field(default_factory=dict)
    advice: str = ""
    commands: tuple[str, ...] = ()
    summary: str = ""


@dataclass(frozen=True)
class Accuracy:
    """The share of images with the right prediction, in [0, 1], and its 95 % interval over images."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Origin:
    """Source of a model and its images, as the page names them; the audit itself does not need it.

    Attributes:
        network: What a command calls the network, with the options that it needs; "" for a model in Python.
        weights: Where the weights come from, in words.
        is_random: Whether the weights are random.
        mean: Mean of each channel that was subtracted from the images.
        deviation: Standard deviation of each channel that they were divided by.
        preprocessing: How images became the input, in words.
        names: Of the images.
        class_names: Of the classes, in the order of the logits; () if unknown.
        device: Where the network ran.
        command: The command of the audit; "" for a call in Python.
    """

    network: str = ""
    weights: str = ""
    is_random: bool = False
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    preprocessing: str = ""
    names: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    device: str = ""
    command: str = ""


@dataclass(frozen=True)
class Measurements:
    """Every number of an audit. What could not be measured is None in `results`, and `missing` says why.

    Attributes:
        name: The name of the network on the page.
        kind: Its class.
        border: The border it ran under.
        parameters: Their number.
        size: Height and width of the images, in pixels.
        images: The number of images.
        task: What its output means, by name.
        classes: The number of classes or channels of its output.
        seed: The random seed.
        accuracy: On the images as they are; None without labels.
        repeat: The relative difference of the outputs between two runs on the same images: the noise floor.
        results: What the parts measured, by name (see `parts`).
        missing: The steps that were not measured, with the reason.
        notes: What a reader of the numbers must know.
        duration_s: Wall time.
        drawn_from: The number of images to draw from; None where nothing was drawn.
        skipped: Files that could not be used, with the reason.
        kinds: How many of the images were gray, CMYK and so on.
        origin: Where model and images come from.
        guessed_from: The output that the task was guessed from, in words; "" for a task that was asked for.
    """

    name: str
    kind: str
    border: str
    parameters: int
    size: tuple[int, int]
    images: int
    task: str
    classes: int
    seed: int
    accuracy: Accuracy | None
    repeat: float
    results: dict[str, Any]
    missing: dict[str, str]
    notes: tuple[str, ...]
    duration_s: float
    drawn_from: int | None = None
    skipped: tuple[str, ...] = ()
    kinds: dict[str, int] = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin)
    guessed_from: str = ""

    @property
    def words(self) -> Words:
        """Wording of the output's changes."""
        return discover()[self.task].WORDS
