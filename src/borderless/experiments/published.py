"""The paper's own numbers, to be shown beside ours: Kayhan and van Gemert, CVPR 2020 (arXiv 2003.07064).

They stand in `published.csv` as they are printed, each with its source. Numbers with ≈ were read off a plot and are
only about right.

>>> RED_GREEN.text("circular", "similar")
'73.7 ± 1.0'
>>> QUADRANT.text("BagNet-33", "random", 16)
'≈ 79.5'
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Number:
    """A published value as it is printed, "≈ 79.5" or "73.7 ± 1.0"."""

    printed: str

    @property
    def value(self) -> float:
        """The value without its spread."""
        return float(self.printed.removeprefix("≈ ").split(" ± ")[0])

    @property
    def read_off(self) -> bool:
        """Whether it was read off a plot."""
        return self.printed.startswith("≈")


@dataclass(frozen=True)
class Published:
    """A table of the paper. axes: what the parts of a key mean, in order."""

    title: str
    unit: str
    source: str
    axes: tuple[str, ...]
    numbers: dict[Key, Number] = field(default_factory=dict)

    def __getitem__(self, key: Key | str | int) -> Number:
        """Return a number that the table has; KeyError names those."""
        key = key if isinstance(key, tuple) else (key,)
        if key not in self.numbers:
            known = ["/".join(map(str, k)) for k in self.numbers]
            raise KeyError(
                f"Expected a key ({', '.join(self.axes)}) of {self.title!r} but got {key}; it holds {', '.join(known)}"
            )
        return self.numbers[key]

    def __iter__(self) -> Iterator[Key]:
        """Iterate over the keys."""
        return iter(self.numbers)

    def text(self, *key: str | int) -> str:
        """Return the number as a table shows it, "–" where the paper has none."""
        return self.numbers[key].printed if key in self.numbers else "–"


def _read() -> Mapping[str, Published]:
    tables: dict[str, Published] = {}
    with (Path(__file__).parent / "published.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            axes, key = zip(*(part.split("=") for part in row["key"].split("; ")), strict=True)
            table = tables.setdefault(row["table"], Published(row["title"], row["unit"], row["source"], axes))
            table.numbers[tuple(int(part) if part.isdigit() else part for part in key)] = Number(row["printed"])
    return tables


TABLES = _read()
ROOK, QUADRANT, RED_GREEN = TABLES["ROOK"], TABLES["QUADRANT"], TABLES["RED_GREEN"]
DIAGONAL, CONSISTENCY = TABLES["DIAGONAL"], TABLES["CONSISTENCY"]
IMAGENET_SUBSETS, IMAGENET_SUBSETS_GAIN = TABLES["IMAGENET_SUBSETS"], TABLES["IMAGENET_SUBSETS_GAIN"]
PATCH_MATCHING, PATCH_MATCHING_CHANGE = TABLES["PATCH_MATCHING"], TABLES["PATCH_MATCHING_CHANGE"]
ACTION_RECOGNITION, ACTION_TRAINING = TABLES["ACTION_RECOGNITION"], TABLES["ACTION_TRAINING"]
