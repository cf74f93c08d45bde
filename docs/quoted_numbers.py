"""Numbers of the README and the documentation, computed from the committed results.

`CLAIMS` holds, for each page, its sentences and table rows with a name where a number belongs. Running this file writes
the numbers into the pages; `tests/test_readme.py` fails where a page has another one. Numbers over seeds are
means ± half the 95 % interval (Student's t).
"""

import csv
import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from pathlib import Path

from borderless.experiments.published import TABLES
from borderless.measures.intervals import mean_in_words, seeds_to_settle

ROOT = Path(__file__).parent.parent
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
    """Yield accuracy in the middle, at the edge and at its worst position, before and after fine-tuning."""
    for name, file in (("finetune", "table"), ("finetune5", "five-epochs")):
        rows = table(f"results/finetune/{file}.csv")
        for arm, short in (("own", "own"), ("infinite-adaptive", "infinite")):
            for when, shown in ((" before", "before_"), ("", "")):
                for column in ("middle", "edges", "worst", "changed"):
                    yield f"{name}_{short}_{shown}{column}", mean_in_words(seeds(rows, f"{arm}{when} {column}"))
        yield f"{name}_cost", f"{float(rows[0]['infinite-adaptive cost']):.1f}"
        for column in ("middle", "worst"):
            own, other = (seeds(rows, f"{arm} {column}") for arm in ("own", "infinite-adaptive"))
            yield f"{name}_gain_{column}", less(other, own)
    rows, still, narrow = (table(f"results/finetune/{file}.csv") for file in ("moved", "table", "reach1"))
    yield "finetune_reach1_cost", f"{float(narrow[0]['recipe cost']):.1f}"
    for column in ("middle", "edges", "worst", "changed"):
        moved, recipe = (seeds(rows, f"{arm} {column}") for arm in ("own-moved", "recipe"))
        yield f"finetune_moved_{column}", mean_in_words(moved)
        yield f"finetune_recipe_{column}", mean_in_words(recipe)
        yield from compared(f"finetune_recipe_{column}", recipe, moved)
        adaptive, recipe = (seeds(narrow, f"{arm} {column}") for arm in ("infinite-adaptive", "recipe"))
        yield f"finetune_reach1_{column}", mean_in_words(adaptive)
        yield f"finetune_reach1_gain_{column}", less(adaptive, seeds(still, f"own {column}"))
        yield f"finetune_reach1_recipe_{column}", mean_in_words(recipe)
        yield f"finetune_reach1_recipe_gain_{column}", less(recipe, moved)


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
    for count in ("5", "50"):
        own = seeds(rows, "accuracy", arm="own", per_class=count)
        for arm in ("full", "infinite-adaptive"):
            other = seeds(rows, "accuracy", arm=arm, per_class=count)
            yield f"few_{arm}_{count}".replace("-", "_"), less(other, own)
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


def moving_objects() -> Iterator[tuple[str, str]]:
    """Yield accuracy and consistency of garments at random positions, and differences from random translations."""
    rows = table("results/moving-objects/table.csv")
    for arm in ("own-moved", "own-padded-moved", "recipe"):
        for column in ("accuracy", "worst", "everywhere", "changed"):
            yield f"moving_{arm}_{column}".replace("-", "_"), mean_in_words(seeds(rows, column, arm=arm))
    for arm, name in (("own-moved", "recipe"), ("own-padded-moved", "recipe_equal_cost")):
        for column in ("accuracy", "worst", "everywhere"):
            recipe, other = paired(rows, column, "recipe", arm)
            yield from compared(f"moving_{name}_{column}", recipe, other)
    rows = table("results/moving-objects/data_sets.csv")
    for data, arm in product(("fashion", "tiles", "digits"), ("own-moved", "recipe")):
        yield f"{data}_{arm}_changed".replace("-", "_"), mean_in_words(seeds(rows, "changed", data=data, arm=arm))
        for column in ("accuracy", "worst", "everywhere"):
            recipe, other = paired(rows, column, "recipe", arm, data=data)
            yield from compared(f"{data}_{arm}_{column}".replace("-", "_"), recipe, other)
    for column in ("accuracy", "worst", "everywhere"):
        recipe, moved = paired(rows, column, "recipe", "own-moved", data="fashion, 1000")
        yield from compared(f"thousand_{column}", recipe, moved)
    yield "thousand_own_moved_changed", mean_in_words(seeds(rows, "changed", data="fashion, 1000", arm="own-moved"))
    for arm, column in product(("own", "own-moved"), ("accuracy", "worst")):
        recipe, other = paired(rows, column, "recipe", arm, data="fashion, left")
        yield from compared(f"left_{arm}_{column}".replace("-", "_"), recipe, other)
    for column in ("accuracy", "changed"):
        recipe, other = paired(rows, column, "recipe", "own-moved", data="fashion, photographs")
        yield f"photographs_{column}_gain", less(recipe, other)
    slow = "fashion, resnet18, 0.0005"  # its learning rate
    for column in ("accuracy", "worst", "everywhere"):
        recipe, other = paired(rows, column, "recipe", "own-moved", data=slow)
        yield from compared(f"deep_slow_{column}", recipe, other)
    for data in ("fashion", "tiles"):
        recipe, other = paired(rows, "accuracy", "recipe", "own-moved", data=f"{data}, resnet18")
        yield f"deep_{data}_gain", less(recipe, other)
        cost = seeds(rows, "cost", data=f"{data}, resnet18", arm="recipe")[0] / 100  # the same for all seeds
        yield f"deep_{data}_cost", f"{cost:.0f}"


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

# A name in braces is a number of `SOURCES`. The words around it must be on the page, once, wrapped as it likes.
CLAIMS: dict[str, tuple[str, ...]] = {
    "README.md": (
        "10 images per class, that costs {moving_recipe_accuracy_gain} points of accuracy against random translations "
        "alone, of whose\n  predictions {moving_own_moved_changed} % change; with 50 per class it costs "
        "{fashion_own_moved_accuracy_gain} points, 1.8 times the multiply-adds, and is right at\n  every position for "
        "{fashion_own_moved_everywhere_gain} points more",
        "A deep network on small images needs a lower learning rate: ResNet-18 on 48 px {deep_slow_accuracy_gain} "
        "points at 0.0005, {deep_fashion_gain} at 0.002, at {deep_fashion_cost} times the multiply-adds; over "
        "photographs, which fill the frame, even the small one loses {photographs_accuracy_gain} points and is less "
        "consistent (",
        "*{cup_positions} positions: {cup_own_changes} label changes with original padding, {cup_infinite_changes} "
        "after "
        "conversion;",
        "ResNet-50 takes {cost_infinite} times as long under `infinite`, {cost_reach} with `reach=2`.",
        "where none lay in training. Percent, mean of {finetune_recipe_worst_seeds} seeds ± half",
        "| original padding | {finetune_own_middle} | {finetune_own_edges} | {finetune_own_worst} | 1 × |",
        "not fine-tuned | {finetune_infinite_before_middle} | {finetune_infinite_before_edges} | "
        "{finetune_infinite_before_worst} | {finetune_cost} × |",
        "| converted (`reach=2`), fine-tuned | {finetune_infinite_middle} | {finetune_infinite_edges} | "
        "{finetune_infinite_worst} | {finetune_cost} × |",
        "original padding, random translations in fine-tuning | {finetune_moved_middle} | {finetune_moved_edges} | "
        "{finetune_moved_worst} | 1 × |",
        "| converted (`reach=2`), random translations in fine-tuning | {finetune_recipe_middle} | "
        "{finetune_recipe_edges} | {finetune_recipe_worst} | "
        "{finetune_cost} × |",
        "| converted (`reach=1`), fine-tuned | {finetune_reach1_middle} | {finetune_reach1_edges} | "
        "{finetune_reach1_worst} | {finetune_reach1_cost} × |",
        "| converted (`reach=1`), random translations in fine-tuning | {finetune_reach1_recipe_middle} | "
        "{finetune_reach1_recipe_edges} | {finetune_reach1_recipe_worst} | {finetune_reach1_cost} × |",
        "After 5 epochs instead of 20 the converted network (`reach=2`) differs from original padding by "
        "{finetune5_gain_middle} points in the middle. Where",
        "with `reach=2` the converted network differs from that by {finetune_recipe_worst_gain} points, with "
        "`reach=1` by {finetune_reach1_recipe_gain_worst}, at the worst position",
        "is right for {place_own_mean} % of them over all positions; converted, trained in the same corner, for "
        "{place_infinite_adaptive_mean} %; with original padding and digits everywhere in training, for "
        "{place_own_everywhere_mean} %. That costs nothing at inference, but {place_own_everywhere_changed} % of its "
        "predictions still change with the position, and {place_infinite_adaptive_changed} % of the converted "
        "network's. With both, the recipe of the next line, it is right for {place_recipe_mean} %, and "
        "{place_recipe_changed} % change",
        "less consistent ({shifts_infinite_adaptive_kayhan2020_gain} points over two crops) and less accurate "
        "({shifts_infinite_adaptive_accuracy_gain} points)",
        "quartiles: `zero` {cost_zero}, `full` {cost_full}, `infinite` {cost_infinite}, with an adaptive phase "
        "{cost_adaptive}, `infinite` with `reach=2` {cost_reach} (",
        "of {timm_exact} of timm's {timm_all} convolutional families, {torchvision_exact} of {torchvision_all} "
        "networks of "
        "torchvision ({torchvision_position_dependent} more read position by design, {torchvision_inexact} are "
        "inexact in "
        "float32, {torchvision_failed} fail)",
        ", {others_exact} of {others_all} networks of {others_families} other packages ({others_refused} are refused, "
        "{others_position_dependent} read position)",
        "of timm's {hybrid_all} hybrid families {hybrid_refused} are refused, {hybrid_position_dependent} read "
        "position |",
        "influence: {times_densenet121} (DenseNet-121), {times_resnet18} (ResNet-18), {times_resnet50} (ResNet-50) and "
        "{times_bagnet33} (BagNet-33) times as fast",
        "| `zero` in {rook_zero} seeds; `full` and `infinite` {rook_full_accuracy} % in all |",
        ", `valid` | {red_paper_valid} | {red_valid} |",
        "| `zero` | {red_paper_zero} | {red_zero} |",
        "| `circular` | {red_paper_circular} | {red_circular} |",
        "| `full` | {red_paper_full} | {red_full}; of 10,000 predictions {red_full_changed} change with the half |",
        "| `infinite` | – | {red_infinite}; {red_infinite_changed} |",
        "64 px from the border | {quadrant_paper_resnet18_64} | {quadrant_published_resnet18_own_64} with the "
        "published protocol; with ours {quadrant_random_resnet18_own_64} |",
        "| 128 px | {quadrant_paper_resnet18_128} | {quadrant_published_resnet18_own_128}; "
        "{quadrant_random_resnet18_own_128} |",
        "| 256 px | {quadrant_paper_resnet18_256} | {quadrant_published_resnet18_own_256}; "
        "{quadrant_random_resnet18_own_256} |",
        "from BagNet-33, 0 px | {quadrant_paper_bagnet33_0} | {quadrant_published_bagnet33_own_0}; "
        "{quadrant_random_bagnet33_own_0} |",
        "| 16 px | {quadrant_paper_bagnet33_16} | {quadrant_published_bagnet33_own_16}; "
        "{quadrant_random_bagnet33_own_16} |",
        "| 32 px | {quadrant_paper_bagnet33_32} | {quadrant_published_bagnet33_own_32}; "
        "{quadrant_random_bagnet33_own_32} |",
        "| {few_paper} points (ImageNet, 50) | {few_full_50} points (digits, 50), {few_full_5} (5); `infinite` with "
        "an adaptive phase "
        "{few_infinite_adaptive_50} and {few_infinite_adaptive_5} |",
        "| {patches_paper_same} and {patches_paper_full} % | {patches_same} and {patches_full} %; `full` with a "
        "descriptor of equal size {patches_full_128} |",
        "| {shifts_paper} points (ImageNet) | {shifts_full_kayhan2020_gain} points (digits in clutter); `infinite` "
        "with an adaptive phase "
        "{shifts_infinite_adaptive_kayhan2020_gain}, and on an empty canvas {shifts_infinite_adaptive_canvas} % |",
        "| {actions_same_gap} and {actions_full_gap} points; in the test {actions_gain} points |",
    ),
    "docs/explanation/trained-with-zeros.md": (
        "| original padding | {finetune_own_middle} | {finetune_own_edges} | {finetune_own_worst} | "
        "{finetune_own_changed} |",
        "just converted | {finetune_infinite_before_middle} | {finetune_infinite_before_edges} | "
        "{finetune_infinite_before_worst} | {finetune_infinite_before_changed} |",
        "| the same, after 20 epochs | {finetune_infinite_middle} | {finetune_infinite_edges} | "
        "{finetune_infinite_worst} | {finetune_infinite_changed} |",
        "| with a reach of 1, after 20 epochs | {finetune_reach1_middle} | {finetune_reach1_edges} | "
        "{finetune_reach1_worst} | {finetune_reach1_changed} |",
        "| with a reach of 2, after 5 epochs | {finetune5_infinite_middle} | {finetune5_infinite_edges} | "
        "{finetune5_infinite_worst} | {finetune5_infinite_changed} |",
        "| original padding, after 5 epochs | {finetune5_own_middle} | {finetune5_own_edges} | {finetune5_own_worst} | "
        "{finetune5_own_changed} |",
        "is {finetune_gain_worst} points better after 20 epochs, and in the middle {finetune_gain_middle}. "
        "With 5 epochs it is {finetune5_gain_worst} and {finetune5_gain_middle}.",
        "| original padding, trained in the corner | {place_own_mean} | {place_own_min} | {place_own_changed} |",
        "adaptive phase, trained in the corner | {place_infinite_adaptive_mean} | {place_infinite_adaptive_min} | "
        "{place_infinite_adaptive_changed} |",
        "trained everywhere | {place_own_everywhere_mean} | {place_own_everywhere_min} | "
        "{place_own_everywhere_changed} |",
    ),
    "docs/results.md": (
        "original padding is right for {finetune_moved_worst} % at the worst position, the recipe differs from that by "
        "{finetune_recipe_worst_gain} points",
        "With original padding {place_own_mean} % of the digits are right over all positions; under `infinite` with an "
        "adaptive phase, trained on the same corner, {place_infinite_adaptive_mean} %; with original padding and "
        "digits "
        "everywhere in training, {place_own_everywhere_mean} %.",
        "Under `zero` it can in {rook_zero} seeds, under `full` and `infinite` in none: {rook_full} and "
        "{rook_infinite}.",
        "original padding {finetune_own_worst} %, converted and not fine-tuned {finetune_infinite_before_worst} %, "
        "fine-tuned for 20 epochs {finetune_infinite_worst} %, at {finetune_cost} times the multiply-adds. In the "
        "middle "
        "the converted network differs from original padding by {finetune_gain_middle} points. With 5 epochs it is "
        "{finetune5_gain_middle}. Fine-tuned",
        "is right for {quadrant_random_resnet18_own_64} at 64 px from the border and for "
        "{quadrant_random_resnet18_own_256} at 256 px",
        "still reads {quadrant_trained_tf_efficientnet_lite0_own_512} at 512 px, and under `infinite` "
        "{quadrant_trained_tf_efficientnet_lite0_infinite_512}.",
        "`valid` {red_valid} %, `zero` {red_zero}, `circular` {red_circular}, `full` {red_full}, `infinite` "
        "{red_infinite}. Of 10,000 predictions, {red_zero_changed} change with the half under `zero` and "
        "{red_full_changed} under `full`.",
        "is consistent for {shifts_infinite_adaptive_canvas} %, original padding for {shifts_own_canvas}. On crops",
        "accuracy {shifts_infinite_adaptive_accuracy_gain} points against original padding, consistency "
        "{shifts_infinite_adaptive_kayhan2020_gain}. `full` loses less "
        "({shifts_full_accuracy_gain} "
        "and {shifts_full_kayhan2020_gain}).",
        "{moving_own_moved_accuracy} % of the test garments over all positions, and change {moving_own_moved_changed} "
        "% of their labels with the position; the recipe is right on {moving_recipe_accuracy} %, and changes "
        "{moving_recipe_changed} %. With 50 images per class and tuned rates it loses nothing that ten seeds show "
        "({fashion_own_moved_accuracy_gain} points over all positions), and is right at all 25 positions for "
        "{fashion_own_moved_everywhere_gain} points more; on tiles of photographs {tiles_own_moved_accuracy_gain} and "
        "{tiles_own_moved_everywhere_gain}, on digits {digits_own_moved_accuracy_gain} and "
        "{digits_own_moved_everywhere_gain}.",
        "ResNet-18 on garments it loses {deep_fashion_gain} points at a learning rate of 0.002, at 0.0005 "
        "{deep_slow_accuracy_gain}, and is right at all positions for {deep_slow_everywhere_gain} more; on tiles "
        "{deep_tiles_gain} at 0.002. It takes {deep_fashion_cost} and {deep_tiles_cost} times",
        "over photographs, which fill the frame, the recipe loses {photographs_accuracy_gain} points, and "
        "{photographs_changed_gain} points more of its predictions change. [The",
        "`full` gains {few_full_5} points over original padding, `infinite` with an adaptive phase "
        "{few_infinite_adaptive_5}.\n",
        "32 pairs: original padding {patches_same} %, `full` as published {patches_full}, `full` with a descriptor of "
        "equal size {patches_full_128}. The",
        "is {actions_same_gap} points with original padding and {actions_full_gap} with `full`, but the test accuracy "
        "does not gain: {actions_gain} points.",
        "quartiles: `zero` {cost_zero}, `full` {cost_full}, `infinite` {cost_infinite}, with an adaptive phase "
        "{cost_adaptive}, with `reach=2` {cost_reach}.",
    ),
    "docs/how-to/finetune.md": (
        "recovered {finetune_infinite_middle} %, where original padding has {finetune_own_middle}, and 5 epochs "
        "{finetune5_infinite_middle}.\n",
        "right for {finetune_moved_worst} % at the worst edge position at no cost, and the converted network "
        "differs from that by {finetune_recipe_worst_gain} points",
        "at {finetune_reach1_cost} instead of {finetune_cost} times the multiply-adds",
    ),
    "docs/how-to/occlude.md": tuple(
        f"| {title} | {side:,} px | {windows} | {{hidden_{name}_{side}_{windows}}} | "
        f"{{hidden_macs_{name}_{side}_{windows}}} |"
        for title, name, side, windows in (
            ("BagNet-33", "bagnet33", 224, 169),
            ("ResNet-18", "resnet18", 1024, 196),
            ("ResNet-18", "resnet18", 1024, 25),
            ("ResNet-18", "resnet18", 224, 49),
            ("ResNet-50", "resnet50", 224, 49),
            ("DenseNet-121", "densenet121", 224, 25),
            ("DenseNet-121", "densenet121", 96, 25),
            ("EfficientNet-B0", "efficientnet_b0", 224, 25),
            ("EfficientNet-B0", "efficientnet_b0", 96, 25),
            ("MobileNetV3 small", "mobilenet_v3_small", 224, 25),
            ("MobileNetV3 small", "mobilenet_v3_small", 96, 25),
        )
    ),
    "docs/how-to/cluster.md": (
        *(
            f"{words} | {{hours_{network}_own}} | {{hours_{network}_full}} | {{hours_{network}_recipe}} |"
            for words, network in (
                ("ResNet-18, 90 epochs", "shifts_resnet18"),
                ("ResNet-34", "shifts_resnet34"),
                ("`shifts`, ResNet-50", "shifts_resnet50"),
                ("ResNet-101", "shifts_resnet101"),
                ("all five numbers of images", "data_efficiency_resnet50"),
            )
        ),
        "150 epochs | {hours_actions_resnet3d18_own} | {hours_actions_resnet3d18_full} | – |",
    ),
    "docs/how-to/which-border.md": (
        "digits: {place_own_everywhere_mean} over all positions, {place_own_everywhere_min} at the worst; "
        "{place_own_everywhere_changed} change |",
        "in one corner: {place_infinite_adaptive_min} at every position, original padding {place_own_mean} |",
        "garments, 10 images per class: {moving_recipe_changed} change, with random translations alone "
        "{moving_own_moved_changed}; right at all 25 positions {moving_recipe_everywhere_gain} points, mean over "
        "positions {moving_recipe_accuracy_gain} |",
        "garments {fashion_own_moved_accuracy_gain}, tiles of photographs {tiles_own_moved_accuracy_gain}, digits "
        "{digits_own_moved_accuracy_gain} points; right at all 25 positions {fashion_own_moved_everywhere_gain}, "
        "{tiles_own_moved_everywhere_gain}, {digits_own_moved_everywhere_gain}; {fashion_recipe_changed} change, with "
        "random translations alone {fashion_own_moved_changed}, {tiles_own_moved_changed}, "
        "{digits_own_moved_changed} |",
        "random translations alone, {moving_recipe_accuracy_gain} points over all positions; at the worst position the "
        "difference is {moving_recipe_worst_gain}, whose",
        "an image padded to equal cost it is {moving_recipe_equal_cost_accuracy_gain}. Measure",
        "garments in the left quarter: at the worst position {left_own_moved_worst_gain} points against random "
        "translations alone, {left_own_worst_gain} against original padding; over all positions "
        "{left_own_moved_accuracy_gain} and {left_own_accuracy_gain} |",
        "garments over photographs: the recipe is {photographs_accuracy_gain} points less accurate than random "
        "translations alone, and {photographs_changed_gain} points more of its predictions change |",
        "the recipe costs {deep_fashion_cost} and {deep_tiles_cost} times the multiply-adds; at a learning rate of "
        "0.002 {deep_fashion_gain} points on garments and {deep_tiles_gain} on tiles, on garments at 0.0005 "
        "{deep_slow_accuracy_gain}, and right at all 25 positions {deep_slow_everywhere_gain} |",
        "5 images per class: {few_infinite_adaptive_5} points over",
        "an adaptive phase is {shifts_infinite_adaptive_kayhan2020_gain} points less consistent, "
        "{shifts_infinite_adaptive_accuracy_gain} less accurate |",
        "| `reach=2` {finetune_gain_worst} points at the worst edge position and {finetune_gain_middle} in the middle, "
        "at {finetune_cost} times the multiply-adds; `reach=1` {finetune_reach1_gain_worst} and "
        "{finetune_reach1_gain_middle}, at {finetune_reach1_cost} |",
        "{finetune_moved_worst} at the worst edge position, {finetune_moved_middle} in the middle; the recipe with "
        "`reach=2` {finetune_recipe_worst_gain} and {finetune_recipe_middle_gain} points, at {finetune_cost} times the "
        "multiply-adds, with `reach=1` {finetune_reach1_recipe_gain_worst} and {finetune_reach1_recipe_gain_middle}, "
        "at {finetune_reach1_cost} |",
        "just converted {finetune_infinite_before_middle} in the middle, original padding {finetune_own_middle} |",
        *(
            f"| {words} | {{{name}_gain}} | {{{name}_seeds}} | {{{name}_settle}} |"
            for words, name in (
                ("garments, 10 images per class, worst position", "moving_recipe_worst"),
                ("garments, 50, all positions", "fashion_own_moved_accuracy"),
                ("garments, 1,000, all positions", "thousand_accuracy"),
                ("tiles of photographs, 20, all positions", "tiles_own_moved_accuracy"),
                ("digits, 50, all positions", "digits_own_moved_accuracy"),
                ("garments in training on the left, all positions", "left_own_moved_accuracy"),
                ("ResNet-18 at 0.0005, garments, 50, all positions", "deep_slow_accuracy"),
                ("fine-tuned EfficientNet-Lite0, `reach=2`, worst edge position", "finetune_recipe_worst"),
                ("the same, middle", "finetune_recipe_middle"),
                ("the same, share of predictions that change", "finetune_recipe_changed"),
            )
        ),
        "1,000 images per class {thousand_accuracy_gain} points over all positions, {thousand_worst_gain} at the "
        "worst, and {thousand_own_moved_changed} change with random translations alone |",
        "ResNet-50 takes {cost_infinite} times as long at 224 px on a CPU, {cost_reach} with",
    ),
    "docs/how-to/small-data.md": (
        "gained nothing ({few_full_5} points of",
        "which gained {few_infinite_adaptive_5} points with 5 images per class and {few_infinite_adaptive_50} with "
        "50. On",
        "lost {shifts_infinite_adaptive_accuracy_gain} points",
    ),
}


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
