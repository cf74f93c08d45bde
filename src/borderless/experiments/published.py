"""The paper's own numbers, to be shown beside ours: Kayhan and van Gemert, CVPR 2020 (arXiv 2003.07064).

Each table names its source. Numbers marked `read_off` were read off a plot and are only about right.

>>> RED_GREEN.text("circular", "similar")
'73.7 ± 1.0'
>>> QUADRANT.text("BagNet-33", "random", 16)
'≈ 79.5'
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

PAPER = "Kayhan and van Gemert, CVPR 2020"
CODE = "public code (oskyhn/CNNs-Without-Borders)"


@dataclass(frozen=True)
class Number:
    """A published value, its spread over seeds if given, and whether it was read off a plot."""

    value: float
    spread: float | None = None
    read_off: bool = False


@dataclass(frozen=True)
class Published:
    """A table of the paper. axes: what the parts of a key mean, in order. digits: decimals that the paper gives."""

    title: str
    source: str
    unit: str
    axes: tuple[str, ...]
    digits: int
    numbers: Mapping[tuple[str | int, ...], Number]

    def __getitem__(self, key: tuple[str | int, ...] | str | int) -> Number:
        key = key if isinstance(key, tuple) else (key,)
        if key not in self.numbers:
            known = ["/".join(map(str, k)) for k in self.numbers]
            raise KeyError(
                f"got {key}; {self.title!r} is keyed by ({', '.join(self.axes)}) and holds {', '.join(known)}"
            )
        return self.numbers[key]

    def __iter__(self) -> Iterator[tuple[str | int, ...]]:
        return iter(self.numbers)

    def text(self, *key: str | int, missing: str = "–") -> str:
        """The number as a table shows it; `missing` where the paper has none."""
        number = self.numbers.get(key)
        if number is None:
            return missing
        spread = "" if number.spread is None else f" ± {number.spread:.{self.digits}f}"
        return f"{'≈ ' if number.read_off else ''}{number.value:.{self.digits}f}{spread}"


def _grid(
    rows: Mapping[str, Mapping[str | int, float]], *, read_off: bool = False
) -> Mapping[tuple[str | int, ...], Number]:
    """Keys (row, column)."""
    return MappingProxyType(
        {
            (row, column): Number(value, read_off=read_off)
            for row, values in rows.items()
            for column, value in values.items()
        }
    )


ROOK = Published(
    title="Rook: accuracy after 100 epochs",
    source=f"{PAPER}, figure 1; {CODE}, Exp1_image_boundary/chess.ipynb, 5 seeds",
    unit="%",
    axes=("border",),
    digits=1,
    numbers=MappingProxyType({("zero",): Number(100.0, spread=0.0)}),
)

BORDER_SIZES_PX = (0, 16, 32, 64, 128, 256, 512)

_QUADRANT = {
    ("BagNet-33", "random"): (99, 79.5, 50, 50, 50, 50, 50),
    ("BagNet-33", "pretrained"): (99, 96.5, 50, 50, 50, 50, 50),
    ("BagNet-33", "scratch"): (100, 100, 50, 50, 50, 50, 50),
    ("ResNet-18", "random"): (100, 100, 100, 80.5, 51.5, 50, 50),
    ("ResNet-18", "pretrained"): (98.8, 97, 96.3, 97.2, 94, 50, 50),
    ("ResNet-18", "scratch"): (100, 100, 100, 100, 100, 100, 50),
    ("DenseNet-121", "random"): (100, 100, 100, 100, 95.7, 50, 50),
    ("DenseNet-121", "pretrained"): (99.5, 99.5, 99.5, 99.5, 99.5, 87.5, 50),
    ("DenseNet-121", "scratch"): (100, 100, 100, 100, 100, 100, 50),
}
QUADRANT = Published(
    title="Four-quadrant ImageNet: test accuracy against the border's size",
    source=f"{PAPER}, the plots of the four-quadrant experiment; {CODE}, images/4QI_results.png",
    unit="%",
    axes=("network", "weights", "border size in pixels"),
    digits=1,
    numbers=MappingProxyType(
        {
            (*key, size): Number(value, read_off=True)
            for key, values in _QUADRANT.items()
            for size, value in zip(BORDER_SIZES_PX, values, strict=True)
        }
    ),
)

RED_GREEN = Published(
    title="Red-Green: accuracy where location agrees with training, and where it contradicts it",
    source=f"{PAPER}, table of the Red-Green experiment; {CODE}, README section 2, 10 seeds",
    unit="%",
    axes=("border", "test set"),
    digits=1,
    numbers=MappingProxyType(
        {
            ("valid", "similar"): Number(100.0, 0.0),
            ("valid", "dissimilar"): Number(0.2, 0.1),
            ("zero", "similar"): Number(99.8, 0.1),
            ("zero", "dissimilar"): Number(8.4, 0.7),
            ("circular", "similar"): Number(73.7, 1.0),
            ("circular", "dissimilar"): Number(73.7, 1.0),
            ("full", "similar"): Number(89.7, 0.5),
            ("full", "dissimilar"): Number(89.7, 0.5),
        }
    ),
)

DIAGONAL = Published(
    title="Image shifts: top-1 accuracy over diagonal crops",
    source=f"{PAPER}, table of the image-shift experiment; {CODE}, README section 3, Diagonal Shift",
    unit="%",
    axes=("network", "type"),
    digits=2,
    numbers=_grid(
        {
            "ResNet-18": {"S": 79.43, "F": 82.74, "S+Blur": 81.96, "F+Blur": 83.95},
            "ResNet-34": {"S": 82.06, "F": 85.66, "S+Blur": 83.73, "F+Blur": 86.91},
            "ResNet-50": {"S": 86.36, "F": 87.92, "S+Blur": 87.50, "F+Blur": 88.93},
            "ResNet-101": {"S": 86.95, "F": 87.78, "S+Blur": 88.22, "F+Blur": 88.73},
        }
    ),
)

CONSISTENCY = Published(
    title="Image shifts: share of equal top-1 answers to two crops",
    source=f"{PAPER}, table of the image-shift experiment; {CODE}, README section 3, Consistency",
    unit="%",
    axes=("network", "type"),
    digits=2,
    numbers=_grid(
        {
            "ResNet-18": {"S": 86.43, "F": 88.38, "S+Blur": 88.32, "F+Blur": 90.03},
            "ResNet-34": {"S": 87.62, "F": 90.12, "S+Blur": 89.21, "F+Blur": 91.53},
            "ResNet-50": {"S": 90.21, "F": 91.36, "S+Blur": 91.68, "F+Blur": 92.75},
            "ResNet-101": {"S": 90.76, "F": 91.71, "S+Blur": 92.36, "F+Blur": 92.86},
        }
    ),
)

IMAGENET_SUBSETS = Published(
    title="Data efficiency, classification: ResNet-50 on ImageNet with n images a class, same convolution",
    source=f"{PAPER}, plot of data efficiency on ImageNet, numbers printed in it; {CODE}, images/data_eff.png",
    unit="%",
    axes=("images a class",),
    digits=2,
    numbers=MappingProxyType(
        {
            ("all",): Number(75.75),
            (500,): Number(68.82),
            (250,): Number(59.67),
            (100,): Number(43.99),
            (50,): Number(26.39),
        }
    ),
)

IMAGENET_SUBSETS_GAIN = Published(
    title="Data efficiency, classification: full minus same convolution",
    source=f"{PAPER}, plot of data efficiency on ImageNet; {CODE}, images/data_eff.png",
    unit="percentage points",
    axes=("images a class",),
    digits=1,
    numbers=MappingProxyType(
        {(n,): Number(gain, read_off=True) for n, gain in {"all": 0.0, 500: 1.3, 250: 3.2, 100: 3.4, 50: 4.8}.items()}
    ),
)

PATCH_MATCHING = Published(
    title="Data efficiency, patch matching: false positive rate at 95 % recall, same convolution",
    source=f"{PAPER}, plot of data efficiency on the Brown patches, numbers printed in it; {CODE}, images/data_eff.png",
    unit="FPR95, in [0, 1]",
    axes=("training triplets",),
    digits=3,
    numbers=MappingProxyType(
        {
            (n,): Number(rate)
            for n, rate in {500_000: 0.020, 250_000: 0.023, 100_000: 0.038, 50_000: 0.084, 25_000: 0.145}.items()
        }
    ),
)

PATCH_MATCHING_CHANGE = Published(
    title="Data efficiency, patch matching: full minus same convolution (less is better)",
    source=f"{PAPER}, plot of data efficiency on the Brown patches; {CODE}, images/data_eff.png",
    unit="FPR95, in [0, 1]",
    axes=("training triplets",),
    digits=4,
    numbers=MappingProxyType(
        {
            (n,): Number(change, read_off=True)
            for n, change in {
                500_000: 0.0005,
                250_000: -0.0004,
                100_000: -0.009,
                50_000: -0.041,
                25_000: -0.0625,
            }.items()
        }
    ),
)

ACTION_RECOGNITION = Published(
    title="Action recognition: test accuracy of 3D ResNets from scratch, split 1",
    source=f"{PAPER}, table of action recognition; {CODE}, README section 5",
    unit="%",
    axes=("data set", "network", "type"),
    digits=1,
    numbers=MappingProxyType(
        {
            ("UCF101", "ResNet-18", "S"): Number(38.6),
            ("UCF101", "ResNet-18", "F"): Number(40.6),
            ("UCF101", "ResNet-18", "F + temporal"): Number(42.2),
            ("UCF101", "ResNet-34", "S"): Number(37.0),
            ("UCF101", "ResNet-34", "F"): Number(46.9),
            ("UCF101", "ResNet-50", "S"): Number(36.2),
            ("UCF101", "ResNet-50", "F"): Number(44.1),
            ("HMDB51", "ResNet-18", "S"): Number(16.1),
            ("HMDB51", "ResNet-18", "F"): Number(19.3),
            ("HMDB51", "ResNet-34", "S"): Number(15.2),
            ("HMDB51", "ResNet-34", "F"): Number(18.3),
            ("HMDB51", "ResNet-50", "S"): Number(14.3),
            ("HMDB51", "ResNet-50", "F"): Number(19.0),
        }
    ),
)

ACTION_TRAINING = Published(
    title="Action recognition: final training accuracy of ResNet-18 on UCF101",
    source=f"{PAPER}, training curves; {CODE}, images/action_training_curves.png",
    unit="%",
    axes=("type",),
    digits=0,
    numbers=MappingProxyType({("S",): Number(87, read_off=True), ("F",): Number(74, read_off=True)}),
)

TABLES = (
    ROOK,
    QUADRANT,
    RED_GREEN,
    DIAGONAL,
    CONSISTENCY,
    IMAGENET_SUBSETS,
    IMAGENET_SUBSETS_GAIN,
    PATCH_MATCHING,
    PATCH_MATCHING_CHANGE,
    ACTION_RECOGNITION,
    ACTION_TRAINING,
)
