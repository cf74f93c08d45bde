"""Images with classes: any folder of class folders, Fashion-MNIST and CIFAR-10.

Everything is read from local files; nothing is downloaded. A split is drawn by its seed within each class. Random
transforms take their numbers from the seed, the epoch and the item, so that a training which resumes, or which several
processes share, sees the very images of one that runs alone.

Shapes: items are (image (C, H, W) in float, label).
"""

import gzip
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from borderless.data.items import IMAGE_SUFFIXES, ClassSplit, DrawnByEpoch
from borderless.errors import DataError
from borderless.runtime.evaluation import seeded
from borderless.runtime.image_files import open_safely

Kind = Literal["folder", "fashion-mnist", "cifar10"]
KINDS: tuple[str, ...] = get_args(Kind)
# Of a class's images, where a data set has no split of its own; the rest is for training.
VALIDATION_SHARE, TEST_SHARE = 0.15, 0.15
# Of the training images, where there is a test set only.
_VALIDATION_OF_TRAIN = 0.1
Transform = Callable[[Any], Tensor]


@dataclass
class Labeled(DrawnByEpoch, Dataset[tuple[Tensor, int]]):
    """Images with labels and a transform.

    Args:
        images: Paths, arrays (height, width[, 3]) in uint8, or tensors, in anything that can be indexed.
        labels: The class of each.
        transform: Function from a Pillow image, or a tensor, to a tensor.
        is_random: Whether it draws from PyTorch's generator, which then starts from seed, epoch and item.
    """

    images: Any
    labels: Sequence[int]
    transform: Transform | None = None
    is_random: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = _opened(self.images[index])
        if self.transform is None:
            return image, self.labels[index]
        if not self.is_random:
            return self.transform(image), self.labels[index]
        with seeded(self.item_seed(index)):
            return self.transform(image), self.labels[index]

    def through(self, transform: Transform, is_random: bool = False) -> "Labeled":
        """Return the same images with another transform."""
        return replace(self, transform=transform, is_random=is_random)

    def few(self, per_class: int, seed: int) -> "Labeled":
        """Return `per_class` images of each class, drawn by `seed`; a larger number holds what a smaller one holds."""
        labels = np.asarray(self.labels)
        draw = np.random.default_rng(seed)
        chosen = []
        for label in np.unique(labels):
            of_class = draw.permutation(np.flatnonzero(labels == label))
            if len(of_class) < per_class:
                raise DataError(
                    f"Expected {per_class} training images per class but got {len(of_class)} of class {label}; ask for "
                    "fewer per class"
                )
            chosen.extend(of_class[:per_class].tolist())
        return self._at(sorted(chosen))

    def some(self, count: int, seed: int) -> "Labeled":
        """Return `count` of the images, or all if there are fewer, drawn by `seed`."""
        return self._at(sorted(np.random.default_rng(seed).permutation(len(self))[:count].tolist()))

    def _at(self, indices: Sequence[int]) -> "Labeled":
        return replace(self, images=_taken(self.images, indices), labels=[self.labels[i] for i in indices])


LabeledSplit = ClassSplit[Labeled]


def load_labeled(root: Path | str, kind: Kind | None = None, seed: int = 0, only: Sequence[str] = ()) -> LabeledSplit:
    """Read the data set in the folder `root`.

    Args:
        root: Images in root/train/CLASS/… and root/val/CLASS/… (val is for testing, a tenth of train for validation),
            or in root/CLASS/…, of which 15 % each are for validation and testing. For Fashion-MNIST: the four idx
            files,
            gzipped or not. For CIFAR-10: the folder that holds cifar-10-batches-py.
        kind: Which of the three it is; by default the one that its files look like.
        seed: Seed of the split and of random transforms.
        only: Names of the classes to keep.

    Raises:
        DataError: It is missing, cannot be read, or has too few images.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"Expected a folder that holds a data set but got {str(root)!r}, which is no folder")
    found = _loaded(root, kind or _told(root), seed, only)
    return _seeded(found, seed)


def _seeded(split: LabeledSplit, seed: int) -> LabeledSplit:
    """Return the split with `seed` for random transforms, too."""
    parts = (replace(part, seed=seed) for part in (split.train, split.validation, split.test))
    return LabeledSplit(*parts, classes=split.classes)


def _loaded(root: Path, kind: str, seed: int, only: Sequence[str]) -> LabeledSplit:
    if kind == "fashion-mnist":
        return _with_test(*_fashion_mnist(root), seed, only)
    if kind == "cifar10":
        return _with_test(*_cifar10(root), seed, only)
    if (root / "train").is_dir():
        test = next((root / name for name in ("val", "test", "validation") if (root / name).is_dir()), None)
        if test is None:
            raise DataError(
                f"Expected root/train/CLASS/… and root/val/CLASS/… but got {str(root / 'train')!r} and no folder val "
                "beside it"
            )
        classes = _class_folders(root / "train", only)
        return _with_test(_from_folders(root / "train", classes), _from_folders(test, classes), classes, seed, ())
    classes = _class_folders(root, only)
    return _split(_from_folders(root, classes), classes, seed)


def _opened(image: Any) -> Any:
    if not isinstance(image, Path):
        return image if isinstance(image, Tensor) else Image.fromarray(image)
    try:
        with open_safely(image) as opened:
            return opened.convert("RGB")
    except Exception as error:  # Pillow raises all sorts of errors for damaged files
        raise DataError(
            f"Expected a whole image but got {image}, which cannot be read ({error}); replace or remove it"
        ) from error


def _told(root: Path) -> Kind:
    if (root / "cifar-10-batches-py").is_dir():
        return "cifar10"
    if _idx(root, "t10k-labels-idx1-ubyte") is not None:
        return "fashion-mnist"
    return "folder"


def _class_folders(root: Path, only: Sequence[str]) -> tuple[str, ...]:
    found = sorted(folder.name for folder in root.iterdir() if folder.is_dir())
    missing = sorted(set(only) - set(found))
    classes = tuple(name for name in found if name in only) if only else tuple(found)
    if missing or len(classes) < 2:
        raise DataError(
            f"Expected two or more folders of images, one per class, but got {len(found)} in {str(root)!r}"
            + (f", without {', '.join(missing[:5])}" if missing else "")
        )
    return classes


def _from_folders(root: Path, classes: Sequence[str]) -> Labeled:
    images, labels = [], []
    for label, name in enumerate(classes):
        files = sorted(f for f in (root / name).rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file())
        if not files:
            raise DataError(
                f"Expected some of {', '.join(IMAGE_SUFFIXES)} for every class but got no images in "
                f"{str(root / name)!r}"
            )
        images += files
        labels += [label] * len(files)
    return Labeled(images, labels)


def _with_test(train: Labeled, test: Labeled, classes: tuple[str, ...], seed: int, only: Sequence[str]) -> LabeledSplit:
    if only:
        raise DataError(
            f"Expected no choice of classes for a data set whose classes are fixed but got {len(only)}; leave it out"
        )
    kept, validation = _parted(train, (_VALIDATION_OF_TRAIN,), classes, seed)
    return LabeledSplit(kept, validation, test, classes)


def _split(all_of_them: Labeled, classes: tuple[str, ...], seed: int) -> LabeledSplit:
    train, validation, test = _parted(all_of_them, (VALIDATION_SHARE, TEST_SHARE), classes, seed)
    return LabeledSplit(train, validation, test, classes)


def _parted(data: Labeled, shares: tuple[float, ...], classes: Sequence[str], seed: int) -> list[Labeled]:
    """Return the remaining images, then a part for each share, with at least one image of every class."""
    labels, draw = np.asarray(data.labels), np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in range(len(shares) + 1)]
    for label, name in enumerate(classes):
        of_class = draw.permutation(np.flatnonzero(labels == label)).tolist()
        if len(of_class) <= len(shares):
            raise DataError(
                f"Expected at least {len(shares) + 1} images per class, one for each part of the split, but got "
                f"{len(of_class)} of the class {name!r}"
            )
        for part, share in zip(parts[1:], shares, strict=True):
            count = max(1, round(share * (labels == label).sum()))
            part += of_class[:count]
            of_class = of_class[count:]
        if not of_class:
            raise DataError(
                f"Expected an image of every class for training but got too few of the class {name!r}; add some"
            )
        parts[0] += of_class
    return [data._at(sorted(part)) for part in parts]


def _taken(images: Any, indices: Sequence[int]) -> Any:
    if isinstance(images, np.ndarray | Tensor):
        return images[list(indices)]
    return [images[i] for i in indices]


def _idx(root: Path, name: str) -> Path | None:
    """Return the path of a file in MNIST's format, under any of its usual names."""
    folders = (root, root / "raw", root / "FashionMNIST" / "raw")
    candidates = [folder / f"{name}{suffix}" for folder in folders for suffix in ("", ".gz")]
    return next((path for path in candidates if path.is_file()), None)


def _fashion_mnist(root: Path) -> tuple[Labeled, Labeled, tuple[str, ...]]:
    from torchvision.datasets import FashionMNIST

    def part(prefix: str) -> Labeled:
        images = _read_idx(root, f"{prefix}-images-idx3-ubyte", 3)
        labels = _read_idx(root, f"{prefix}-labels-idx1-ubyte", 1)
        if len(images) != len(labels):
            raise DataError(
                f"Expected as many labels as images but got {len(images)} images and {len(labels)} labels in "
                f"{str(root)!r}"
            )
        return Labeled(images, labels.tolist())

    return part("train"), part("t10k"), tuple(FashionMNIST.classes)


def _read_idx(root: Path, name: str, axes: int) -> np.ndarray:
    """Return the unsigned bytes of a file: two zeros, the type 8, the number of axes, their sizes, the cells."""
    path = _idx(root, name)
    if path is None:
        raise DataError(f"Expected the four idx files of Fashion-MNIST but got no {name} or {name}.gz in {str(root)!r}")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"Expected a whole file but got {path}, which cannot be unpacked ({error}); download it again"
        ) from error
    head = 4 + 4 * axes
    shape = np.frombuffer(data[4:head], ">u4") if len(data) >= head and data[:4] == bytes([0, 0, 8, axes]) else None
    if shape is None or len(data) != head + int(np.prod(shape)):
        raise DataError(
            f"Expected an idx file of {axes} axes in bytes but got {path}, of {len(data)} bytes, which is none, or cut "
            "short; download it again"
        )
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape.tolist())


def _cifar10(root: Path) -> tuple[Labeled, Labeled, tuple[str, ...]]:
    from torchvision.datasets import CIFAR10

    try:
        train, test = (CIFAR10(str(root), train=is_train) for is_train in (True, False))
    except (RuntimeError, OSError, EOFError) as error:
        raise DataError(
            f"Expected the folder cifar-10-batches-py as its archive unpacks it but got {str(root)!r}, where CIFAR-10 "
            f"is missing or damaged ({error})"
        ) from error
    return Labeled(train.data, train.targets), Labeled(test.data, test.targets), tuple(train.classes)
