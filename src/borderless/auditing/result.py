"""What an audit returns: the numbers that were measured, and the findings that are drawn from them."""

from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["bad", "mind", "good", "open"]
LEVELS: dict[str, str] = {"bad": "Fault", "mind": "Mind", "good": "Good", "open": "Open"}


@dataclass(frozen=True)
class Finding:
    """One sentence of the verdict.

    Attributes:
        name: A slug, for programs.
        level: bad (the network uses location), mind, good, or open (it cannot be told).
        text: The sentence with its numbers; it may hold the tags that a page knows.
        numbers: The same numbers for programs.
        advice: What to do about it, "" if nothing.
    """

    name: str
    level: Level
    text: str
    numbers: dict[str, Any] = field(default_factory=dict)
    advice: str = ""


@dataclass(frozen=True)
class Accuracy:
    """The share of images with the right prediction, in [0, 1], and its 95 % interval over images."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measurements:
    """Every number of an audit. What could not be measured is None in `results`, and `missing` says why.

    Attributes:
        name: What the network is called on the page.
        kind: Its class.
        border: What it ran under.
        parameters: How many it has.
        size: Of the images (height, width), in pixels.
        images: How many images were used.
        classes: How many logits the network returns.
        seed: Of everything that was drawn.
        accuracy: On the images as they are; None without labels.
        repeat: The relative difference of the logits between two runs on the same images: the noise floor.
        results: What the parts measured, by name (see `parts`).
        missing: The steps that were not measured, with the reason.
        notes: What a reader of the numbers must know.
        duration_s: Wall time.
        drawn_from: How many images there were to draw from; None where nothing was drawn.
        skipped: Files that could not be used, with the reason.
        kinds: How many of the images were gray, CMYK and so on.
    """

    name: str
    kind: str
    border: str
    parameters: int
    size: tuple[int, int]
    images: int
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
