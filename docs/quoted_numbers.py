"""Numbers of the README and the documentation, computed from the committed results.

`quoted_sentences.toml` holds, for each page, its sentences and table rows with a name where a number belongs. Running
this file writes the numbers into the pages; `tests/test_readme.py` fails where a page has another one. Numbers over
seeds are means ± half the 95 % interval (Student's t).
"""

import csv
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from pathlib import Path

from borderless.experiments.published import TABLES
from borderless.measures.intervals import mean_in_words, seeds_to_settle
from borderless.models.arms import ARMS

ROOT = Path(__file__).parent.parent
CLAIMS: dict[str, list[str]] = tomllib.loads((ROOT / "docs/quoted_sentences.toml").read_text(encoding="utf-8"))
Row = dict[str, str]


def table(name: str) -> list[Row]:
    """Return the rows of a file below results/, docs/ or benchmarks/."""
    with (ROOT / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def seeds(rows: list[Row], column: str, **where: str) -> list[float]:
    """Return a column in percent, of the rows that have these values, by seed."""
    found = [row for row in rows if all(row[name] == value for name, value in where.items())]
    return [100 * float(row[column]) for row in sorted(found, key=lambda row: int(row["seed"]))]


def paired(rows: list[Row], column: str, arm: str, other: str, **where: str) -> tuple[list[float], list[float]]:
    """Return a column in percent of two arms, of the seeds that both ran with."""
    ran = [
        {row["seed"] for row in rows if row["arm"] == name and where.items() <= row.items()} for name in (arm, other)
    ]
    both = [row for row in rows if row["seed"] in ran[0] & ran[1]]
    return seeds(both, column, arm=arm, **where), seeds(both, column, arm=other, **where)


def less(one: list[float], other: list[float], sign: str = "+") -> str:
    """Return the mean difference of paired numbers, with its interval."""
    return mean_in_words([a - b for a, b in zip(one, other, strict=True)], sign).replace("-", "−")


def to_settle(one: list[float], other: list[float]) -> str:
    """Return with how many seeds the interval of the mean difference would exclude 0."""
    count = seeds_to_settle([a - b for a, b in zip(one, other, strict=True)])
    return "over 1,000" if count is None else f"{count:,}"


def compared(name: str, one: list[float], other: list[float]) -> Iterator[tuple[str, str]]:
    """Yield the mean difference of paired numbers, the number of seeds, and with how many its sign would be settled."""
    yield f"{name}_gain", less(one, other)
    yield f"{name}_seeds", str(len(one))
    yield f"{name}_settle", to_settle(one, other)


def one_digit(number: float) -> str:
    """Return a number to one decimal, halves rounded up, as the tables of the results have it."""
    return f"{number + 1e-9:.1f}"


def finetune() -> Iterator[tuple[str, str]]:
    """Yield accuracy in the middle, at the edge and at its worst position, before and after fine-tuning.

    Gains are over original padding, with random translations in fine-tuning where the arm has them.
    """
    files = {"still": "table", "five": "five-epochs", "moved": "moved", "reach1": "reach1"}
    tables = {name: table(f"results/finetune/{file}.csv") for name, file in files.items()}
    for name, rows in tables.items():
        for arm in (column.removesuffix(" cost") for column in rows[0] if column.endswith(" cost")):
            key = f"finetune_{name}_{arm}".replace("-", "_")
            yield f"{key}_cost", f"{float(rows[0][f'{arm} cost']):.1f}"
            beside = tables["moved"] if ARMS[arm].moves else tables["five" if name == "five" else "still"]
            own = "own-moved" if ARMS[arm].moves else "own"
            for column in ("middle", "edges", "worst", "changed"):
                found = seeds(rows, f"{arm} {column}")
                if f"{arm} before {column}" in rows[0]:
                    yield f"{key}_before_{column}", mean_in_words(seeds(rows, f"{arm} before {column}"))
                yield f"{key}_{column}", mean_in_words(found)
                yield from compared(f"{key}_{column}", found, seeds(beside, f"{own} {column}"))
    pairs = (
        ("infinite-adaptive", "still", "infinite-adaptive"),
        ("infinite-adaptive", "reach1", "own-padded"),
        ("full", "reach1", "own-padded"),
        ("recipe", "moved", "recipe"),
        ("recipe-window", "reach1", "recipe"),
        ("recipe-window", "reach1", "own-padded-moved"),
        ("recipe-lifted", "reach1", "recipe"),
        ("recipe-lifted", "reach1", "own-padded-moved"),
    )
    for (arm, name, other), column in product(pairs, ("middle", "edges", "worst", "changed")):
        one, two = seeds(tables["reach1"], f"{arm} {column}"), seeds(tables[name], f"{other} {column}")
        yield f"finetune_reach1_{arm}_less_{name}_{other}_{column}".replace("-", "_"), less(one, two)


def one_place() -> Iterator[tuple[str, str]]:
    """Yield accuracy over all positions of networks trained on digits in one corner, or everywhere."""
    rows = table("results/one-place/table.csv")
    for arm in sorted({row["arm"] for row in rows}):
        for column in ("mean", "min"):
            yield f"place_{arm}_{column}".replace("-", "_"), mean_in_words(seeds(rows, f"accuracy_{column}", arm=arm))
        share = [
            100 * float(row["changed_predictions"]) / float(row["predictions"]) for row in rows if row["arm"] == arm
        ]
        yield f"place_{arm}_changed".replace("-", "_"), mean_in_words(share)


def rook() -> Iterator[tuple[str, str]]:
    """Yield with how many seeds one filter distinguishes two corners."""
    rows = table("results/rook/table.csv")
    for border in ("zero", "full", "infinite"):
        found = seeds(rows, "accuracy", border=border)
        yield f"rook_{border}", f"{sum(value == 100 for value in found)} of {len(found)}"
        yield f"rook_{border}_accuracy", f"{sum(found) / len(found):.0f}"


def red_green() -> Iterator[tuple[str, str]]:
    """Yield accuracy on the test set with the halves swapped, and how many predictions differ between both sets."""
    rows = table("results/red-green/published/table.csv")
    for border in ("valid", "zero", "circular", "full", "infinite"):
        yield f"red_{border}", mean_in_words(seeds(rows, "dissimilar", border=border))
        of_border = [row for row in rows if row["border"] == border]
        yield f"red_{border}_changed", f"{sum(int(row['changed']) for row in of_border):,}"
        yield f"red_paper_{border}", TABLES["RED_GREEN"].text(border, "dissimilar")


def quadrant() -> Iterator[tuple[str, str]]:
    """Yield the accuracy with which a probe reads the quadrant, and its interval over pictures."""
    files = {"random": "random", "trained": "pretrained", "policy": "policies", "published": "published"}
    for name, file in files.items():
        for row in table(f"results/quadrant/{file}/table.csv"):
            key = f"quadrant_{name}_{row['arch']}_{row['policy']}_{row['border_px']}".replace("-", "_")
            found, low, high = (one_digit(100 * float(row[column])) for column in ("accuracy", "low", "high"))
            yield key, f"{found} % ({low} to {high})"
    for network, arch in (("ResNet-18", "resnet18"), ("BagNet-33", "bagnet33")):
        for border in (0, 16, 32, 64, 128, 256):
            yield f"quadrant_paper_{arch}_{border}", TABLES["QUADRANT"].text(network, "random", border) + " %"


def small_data() -> Iterator[tuple[str, str]]:
    """Yield gains with few images per class, with few pairs of patches, and with few clips."""
    rows = table("results/data-efficiency/table.csv")
    for count, arm in product(("5", "10", "20", "50"), sorted({row["arm"] for row in rows})):
        own, moved, found = (seeds(rows, "accuracy", arm=name, per_class=count) for name in ("own", "own-moved", arm))
        key = f"few_{arm}_{count}".replace("-", "_")
        yield f"{key}_accuracy", mean_in_words(found)
        yield key, less(found, own)
        yield from compared(f"{key}_moved", found, moved)
    yield "few_paper", TABLES["IMAGENET_SUBSETS_GAIN"].text(50).replace("≈ ", "≈ +")
    rows = table("results/patch-matching/table.csv")
    for arm in ("same", "full", "full-128"):
        yield f"patches_{arm}".replace("-", "_"), mean_in_words(seeds(rows, "fpr95", arm=arm, pairs="32"))
    same, change = TABLES["PATCH_MATCHING"].points([(25000,)]), TABLES["PATCH_MATCHING_CHANGE"].points([(25000,)])
    yield "patches_paper_same", one_digit(100 * same[0])
    yield "patches_paper_full", one_digit(100 * (same[0] + change[0]))
    rows = table("results/actions/table.csv")
    gaps = {}
    for arm in ("same", "full"):
        test, train = (seeds(rows, column, arm=arm) for column in ("accuracy", "training_accuracy"))
        gaps[arm] = test
        yield f"actions_{arm}_gap", less(train, test, "")
        yield f"actions_{arm}", mean_in_words(test)
    yield "actions_gain", less(gaps["full"], gaps["same"])


def shifts() -> Iterator[tuple[str, str]]:
    """Yield accuracy, and consistency over two crops and on a canvas."""
    paper = TABLES["CONSISTENCY"].points([("ResNet-18", "S"), ("ResNet-18", "F")])
    yield "shifts_paper", f"{paper[1] - paper[0]:+.1f}"
    rows = table("results/shifts/table.csv")
    for arm in ("own", "full", "infinite-adaptive"):
        for column in ("accuracy", "kayhan2020", "canvas"):
            yield f"shifts_{arm}_{column}".replace("-", "_"), mean_in_words(seeds(rows, column, arm=arm))
        for column in ("accuracy", "kayhan2020"):
            own, other = seeds(rows, column, arm="own"), seeds(rows, column, arm=arm)
            yield f"shifts_{arm}_{column}_gain".replace("-", "_"), less(other, own)


# Rows of results/moving-objects/data_sets.csv, by their column `data`.
MOVING = {
    "fashion": "fashion",
    "tiles": "tiles",
    "digits": "digits",
    "left": "fashion, left",
    "thousand": "fashion, 1000",
    "photographs": "fashion, photographs",
    "resnet_fashion": "fashion, ResNet",
    "resnet_tiles": "tiles, ResNet",
    "resnet_digits": "digits, ResNet",
    "deep_fashion": "fashion, resnet18",
    "deep_tiles": "tiles, resnet18",
    "deep_slow": "fashion, resnet18, 0.0005",
    "deep_reach1": "fashion, resnet18, reach 1",
}

COLUMNS = ("accuracy", "worst", "everywhere", "edge", "left", "right", "training_accuracy", "changed")


def moving_objects() -> Iterator[tuple[str, str]]:
    """Yield accuracy and consistency of objects at random positions; gains are the recipe's over the arm.

    Those `_over_moved` are the arm's over original padding with random translations.
    """
    sets = table("results/moving-objects/data_sets.csv")
    tables = {name: [row for row in sets if row["data"] == data] for name, data in MOVING.items()}
    for name, rows in {"moving": table("results/moving-objects/table.csv"), **tables}.items():
        arms = sorted({row["arm"] for row in rows})
        for arm in arms:
            key = f"{name}_{arm}".replace("-", "_")
            cost = float(next(row["cost"] for row in rows if row["arm"] == arm))  # the same for all seeds
            yield f"{key}_cost", f"{cost:.{0 if cost >= 10 else 1}f}"
            for column in (*COLUMNS, "crops_changed"):
                whole = [name for name in arms if all(row.get(column) for row in rows if row["arm"] == name)]
                yield f"{key}_{column}", mean_in_words(seeds(rows, column, arm=arm)) if arm in whole else "–"
                if arm != "recipe" and {arm, "recipe"} <= set(whole):
                    yield from compared(f"{key}_{column}", *paired(rows, column, "recipe", arm))
                if arm != "own-moved" and {arm, "own-moved"} <= set(whole):
                    yield f"{key}_{column}_over_moved", less(*paired(rows, column, arm, "own-moved"))


def costs() -> Iterator[tuple[str, str]]:
    """Yield how many times as long a border takes, with quotients of the quartiles, and how much faster placing is."""
    # Newest last.
    (*_, newest) = (ROOT / "benchmarks/history/borders.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {row["arm"]: row for row in json.loads(newest)["rows"]}
    low, high = rows["unmodified"]["ms"]["quartiles"]
    for arm, short in (
        ("zero", "zero"),
        ("full", "full"),
        ("infinite", "infinite"),
        ("infinite, adaptive", "adaptive"),
        ("infinite, reach 2", "reach"),
    ):
        first, third = rows[arm]["ms"]["quartiles"]
        yield f"cost_{short}", f"{rows[arm]['time_ratio']:.1f} ({first / high:.1f} to {third / low:.1f})"
    (*_, newest) = (ROOT / "benchmarks/history/placement.jsonl").read_text(encoding="utf-8").splitlines()
    for row in json.loads(newest)["rows"]:
        yield f"times_{row['model']}", f"{row['times']:.3g}"


def occlusion() -> Iterator[tuple[str, str]]:
    """Yield how many times as fast occlusion maps are as a loop, and with how few multiply-adds, newest runs last."""
    for line in (ROOT / "benchmarks/history/occlusion.jsonl").read_text(encoding="utf-8").splitlines():
        for row in json.loads(line)["rows"]:
            name = f"{row['model']}_{row['side_px']}_{row['windows']}"
            yield f"hidden_{name}", f"{row['loop_times_cpu']:.1f}"
            yield f"hidden_macs_{name}", f"{row['multiply_adds_loop'] / row['multiply_adds']:.1f}"


def networks() -> Iterator[tuple[str, str]]:
    """Yield how many networks run exactly, from the tables of the pages that say which."""
    page = (ROOT / "docs/reference/coverage.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \*\*([\w ]+)\*\*:.*\| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    for number, package in enumerate(("timm", "hybrid", "torchvision"), start=1):
        counts = {row[0]: int(row[number]) for row in rows}
        yield f"{package}_all", str(sum(counts.values()))
        for kind, count in counts.items():
            yield f"{package}_{kind}".replace(" ", "_"), str(count)
    page = (ROOT / "docs/reference/networks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \*\*([\w, ]+)\*\*:.*\| (\d+) \|$", page, re.MULTILINE)
    counted = re.search(r"^(\d+) networks, (\d+) package families", page, re.MULTILINE)
    assert counted is not None, "docs/reference/networks.md does not begin with its counts"
    all_of, families = counted.groups()
    yield "others_all", all_of
    yield "others_families", families
    yield "others_refused", dict(rows)["refused"]
    yield "others_position_dependent", dict(rows)["position dependent"]
    yield "others_exact", str(sum(int(count) for kind, count in rows if kind.startswith("exact")))


def animation() -> Iterator[tuple[str, str]]:
    """Yield what the animation shows."""
    rows = table("docs/images/moving_cup.csv")
    yield "cup_positions", str(len(rows))
    for name, short in (("original", "own"), ("converted", "infinite")):
        labels = [row[name] for row in rows]
        yield f"cup_{short}_changes", str(sum(a != b for a, b in pairwise(labels)))


def training_hours() -> Iterator[tuple[str, str]]:
    """Yield the hours of the paper's trainings on eight GPUs, of the newest record."""
    file = ROOT / "benchmarks/history/training_hours.jsonl"
    record = json.loads(file.read_text(encoding="utf-8").splitlines()[-1])
    for row in record["rows"]:
        experiment = row["experiment"].replace("-", "_")
        yield f"hours_{experiment}_{row['network']}_{row['arm']}", one_digit(row["hours"])


SOURCES: tuple[Callable[[], Iterator[tuple[str, str]]], ...] = (
    animation,
    costs,
    finetune,
    moving_objects,
    networks,
    occlusion,
    one_place,
    quadrant,
    red_green,
    rook,
    shifts,
    small_data,
    training_hours,
)

# As numbers are written: ≈ +4.8, 9,985, 5 of 5, 89.5 ± 0.4, 98.3 % (97.7 to 98.9), and – for none.
NUMBER = (
    r"(–|(?:≈ |over )?[+−]?\d[\d,]*(?:\.\d+)?(?: ± \d+\.\d+| of \d+)?(?: %)?(?: \(\d+(?:\.\d+)? to \d+(?:\.\d+)?\))?)"
)


def as_pattern(claim: str) -> tuple[re.Pattern[str], list[str]]:
    """Return a claim as an expression with a group for each number, and the names of the numbers."""
    words = re.split(r"\{(\w+)\}", claim)
    texts = [r"\s+".join(map(re.escape, re.split(r"\s+", text))) for text in words[::2]]
    return re.compile(NUMBER.join(texts)), words[1::2]


def written(page: str, numbers: dict[str, str]) -> str:
    """Return the text of a page with the numbers of its claims."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for claim in CLAIMS[page]:
        pattern, names = as_pattern(claim)
        found = list(pattern.finditer(text))
        if len(found) != 1:
            raise ValueError(f"Expected {page} to say once but got it {len(found)} times: {claim}")
        for group in range(len(names), 0, -1):
            start, stop = found[0].span(group)
            text = text[:start] + numbers[names[group - 1]] + text[stop:]
    return text


def compute() -> dict[str, str]:
    """Return all numbers, as they are written, by name."""
    return {name: number for source in SOURCES for name, number in source()}


if __name__ == "__main__":
    computed = compute()
    for page in CLAIMS:
        (ROOT / page).write_text(written(page, computed), encoding="utf-8")
