"""The paper's own numbers, to be shown beside ours: Kayhan and van Gemert, CVPR 2020 (arXiv 2003.07064).

They are in `published.csv` as printed, each with its source. Numbers with ≈ were read off a plot and are approximate.

>>> RED_GREEN.text("circular", "similar")
'73.7 ± 1.0'
>>> QUADRANT.text("BagNet-33", "random", 16)
'≈ 79.5'
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Published:
    """A table of the paper. axes: the meaning of the parts of a key, in order. numbers: as printed."""

    title: str
    unit: str
    source: str
    axes: tuple[str, ...]
    numbers: dict[Key, str] = field(default_factory=dict)

    def text(self, *key: str | int) -> str:
        """Return the number as a table shows it, "–" where the paper has none."""
        return self.numbers.get(key, "–")

    def points(self, keys: Sequence[Key]) -> dict[int, float]:
        """Return the numbers without their spread, by position in `keys`, of those that the paper has."""
        found = {i: self.numbers[key] for i, key in enumerate(keys) if key in self.numbers}
        return {i: float(printed.removeprefix("≈ ").split(" ± ")[0]) for i, printed in found.items()}


def _read() -> Mapping[str, Published]:
    tables: dict[str, Published] = {}
    with (Path(__file__).parent / "published.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            axes, key = zip(*(part.split("=") for part in row["key"].split("; ")), strict=True)
            table = tables.setdefault(row["table"], Published(row["title"], row["unit"], row["source"], axes))
            table.numbers[tuple(int(part) if part.isdigit() else part for part in key)] = row["printed"]
    return tables


# Networks as the paper names them.
NETWORKS = {f"{kind}{n}": f"ResNet-{n}" for kind in ("resnet", "resnet3d") for n in (18, 34, 50, 101)}
TABLES = _read()
ROOK, QUADRANT, RED_GREEN = TABLES["ROOK"], TABLES["QUADRANT"], TABLES["RED_GREEN"]
DIAGONAL, CONSISTENCY = TABLES["DIAGONAL"], TABLES["CONSISTENCY"]
IMAGENET_SUBSETS, IMAGENET_SUBSETS_GAIN = TABLES["IMAGENET_SUBSETS"], TABLES["IMAGENET_SUBSETS_GAIN"]
PATCH_MATCHING, PATCH_MATCHING_CHANGE = TABLES["PATCH_MATCHING"], TABLES["PATCH_MATCHING_CHANGE"]
ACTION_RECOGNITION, ACTION_TRAINING = TABLES["ACTION_RECOGNITION"], TABLES["ACTION_TRAINING"]
