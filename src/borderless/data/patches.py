"""Gray patches of 32 px in pairs that show the same point of a scene, and others: to train and to test descriptors.

From the photographs inside scikit-image: a square at random position and scale, and the same square after a random
homography, blur and change of brightness (kornia); training, validation and test have different photographs. Or the
Brown patches (PhotoTour) from a local folder, read by torchvision: training on one scene, testing on another.

Shapes: patches (n, 1, 32, 32) in [0, 1].
"""

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from borderless.data.items import DrawnByEpoch
from borderless.data.photos import scikit_image
from borderless.data.quadrant import SOURCES
from borderless.errors import DataError, MissingPackage

PATCH_PX = 32
SCENES = ("yosemite", "notredame", "liberty")
_SMALLEST_PX, _LARGEST_PX = 28, 64
# How far a corner moves, in sides of the square; the largest blur, in pixels of the patch; brightness and contrast.
_CORNER, _BLUR_PX, _BRIGHTNESS, _CONTRAST = 0.15, 1.2, 0.15, (0.7, 1.3)
_SHARES = (0.5, 0.2)


@dataclass
class Pairs(DrawnByEpoch, Dataset[tuple[Tensor, Tensor]]):
    """Two views of each point; if it `turns`, both are turned and mirrored alike, by seed, epoch and item."""

    anchors: Tensor
    positives: Tensor
    turns: bool = True

    def __len__(self) -> int:
        return len(self.anchors)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not self.turns:
            return self.anchors[index], self.positives[index]
        draw = random.Random(self.item_seed(index))
        turns, mirrored = draw.randrange(4), draw.random() < 0.5

        def seen(patch: Tensor) -> Tensor:
            patch = patch.rot90(turns, (1, 2))
            return (patch.flip(2) if mirrored else patch).contiguous()

        return seen(self.anchors[index]), seen(self.positives[index])


@dataclass(frozen=True)
class Matches:
    """Pairs of patches, and whether they show the same point."""

    first: Tensor
    second: Tensor
    is_match: np.ndarray

    def __len__(self) -> int:
        return len(self.is_match)


@dataclass(frozen=True)
class Patches:
    """Pairs to learn from, and matching and other pairs to validate and to test on."""

    train: Pairs
    validation: Matches
    test: Matches


def from_photographs(train: int, test: int, seed: int) -> Patches:
    """Return `train` pairs, and `test` matches with as many others for testing; a quarter of that for validation.

    A smaller number of training pairs is the beginning of a larger one.

    Raises:
        MissingPackage: scikit-image or kornia is not installed.
    """
    draw = random.Random(seed)
    names = draw.sample(SOURCES, len(SOURCES))
    first = round(_SHARES[0] * len(names))
    second = first + round(_SHARES[1] * len(names))
    anchors, positives = _views(names[:first], train, random.Random(draw.random()))
    validation, tested = (
        _matches(names[part], count, random.Random(draw.random()))
        for part, count in ((slice(first, second), max(8, test // 4)), (slice(second, None), test))
    )
    return Patches(Pairs(anchors, positives, seed=seed), validation, tested)


def from_phototour(
    root: Path | str, train: int, seed: int, scene: str = "yosemite", tested: Sequence[str] = ("notredame", "liberty")
) -> Patches:
    """Read pairs and matches of the PhotoTour data set; pairs are not turned, as in the published runs.

    Args:
        root: A folder with the folders yosemite, notredame and liberty as the data set's archives unpack.
        train: Number of pairs to draw.
        seed: Seed of the draw.
        scene: Scene of the pairs.
        tested: The scenes of the match lists to validate on, the first, and to test on, the last.

    Raises:
        DataError: A file is missing.
    """
    pairs = _phototour(root, scene, is_train=True)
    draw = np.random.default_rng(seed)
    points, starts = np.unique(np.sort(pairs.labels), return_index=True)
    order = np.argsort(pairs.labels, kind="stable")
    groups = [group for group in np.split(order, starts[1:]) if len(group) > 1]
    if not groups:
        raise DataError(f"Expected points with two patches but got {len(points)} points of {scene} with one patch each")
    chosen = [draw.choice(groups[draw.integers(len(groups))], 2, replace=False) for _ in range(train)]
    first, second = np.array(chosen).T
    lists = [_phototour(root, name, is_train=False) for name in tested]
    found = [
        Matches(_small(part.data[part.matches[:, 0]]), _small(part.data[part.matches[:, 1]]), part.matches[:, 2] == 1)
        for part in lists
    ]
    return Patches(Pairs(_small(pairs.data[first]), _small(pairs.data[second]), turns=False), found[0], found[-1])


@dataclass(frozen=True)
class _Scene:
    data: np.ndarray
    labels: np.ndarray
    matches: np.ndarray


def _phototour(root: Path | str, scene: str, is_train: bool) -> _Scene:
    from torchvision.datasets import PhotoTour

    if not (Path(root) / scene).is_dir() and not (Path(root) / f"{scene}.pt").is_file():
        raise DataError(
            f"Expected the folders {', '.join(SCENES)} of the Brown patches, with their bmp files, info.txt and "
            f"m50_100000_100000_0.txt, but got {str(root)!r} without {scene}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of Pillow, for torchvision to mend
            found = PhotoTour(str(root), scene, train=is_train)
    except (OSError, RuntimeError, ValueError, IndexError) as error:
        raise DataError(
            f"Expected Brown patches but got {str(Path(root) / scene)!r}, which cannot be read ({error})"
        ) from error
    return _Scene(np.asarray(found.data), np.asarray(found.labels), np.asarray(found.matches))


def _small(patches: np.ndarray) -> Tensor:
    """Return patches of 64 px in bytes as 32 px in [0, 1]."""
    parts = torch.as_tensor(patches)[:, None].split(10_000)
    return torch.cat([F.avg_pool2d(part.float() / 255, 2) for part in parts])


def _matches(names: Sequence[str], count: int, draw: random.Random) -> Matches:
    """Return each pair once as it is, and once with the second patch of another point of the same photograph."""
    anchors, positives = _views(names, count, draw)
    photographs = np.arange(count) % len(names)
    other = np.arange(count)
    for photograph in range(len(names)):
        here = np.flatnonzero(photographs == photograph)
        other[here] = np.roll(here, 1)
    if (other == np.arange(count)).any():
        raise DataError(f"Expected at least two test pairs per photograph but got {count} for {len(names)} photographs")
    first, second = torch.cat([anchors, anchors]), torch.cat([positives, positives[other]])
    return Matches(first, second, np.arange(2 * count) < count)


def _views(names: Sequence[str], count: int, draw: random.Random) -> tuple[Tensor, Tensor]:
    """Return two views of `count` points, from the photographs in turn."""
    anchors, positives = torch.empty(count, 1, PATCH_PX, PATCH_PX), torch.empty(count, 1, PATCH_PX, PATCH_PX)
    for i, name in enumerate(names):
        here = range(i, count, len(names))
        if here:
            own = random.Random(draw.random())  # so that more spots begin with the same ones
            anchors[here.start :: here.step], positives[here.start :: here.step] = _of(_gray(name), len(here), own)
    return anchors, positives


def _of(photograph: Tensor, count: int, draw: random.Random) -> tuple[Tensor, Tensor]:
    try:
        from kornia.filters import gaussian_blur2d
        from kornia.geometry.transform import get_perspective_transform, warp_perspective
    except ImportError as error:
        raise MissingPackage(
            'Expected the package kornia but got none; install it with: pip install "borderless[patches]", or give '
            "--data"
        ) from error
    height, width = photograph.shape[1:]
    target = torch.tensor([[0.0, 0], [PATCH_PX, 0], [PATCH_PX, PATCH_PX], [0, PATCH_PX]])
    squares, moved, blurs, lights = [], [], [], []
    for _ in range(count):
        side = draw.uniform(_SMALLEST_PX, min(_LARGEST_PX, height / 1.5, width / 1.5))
        room = _CORNER * side
        left, top = draw.uniform(room, width - side - room), draw.uniform(room, height - side - room)
        square = torch.tensor([[left, top], [left + side, top], [left + side, top + side], [left, top + side]])
        squares.append(square)
        moved.append(square + torch.tensor([[draw.uniform(-room, room) for _ in range(2)] for _ in range(4)]))
        blurs.append([draw.uniform(0.2, _BLUR_PX)] * 2)
        lights.append([draw.uniform(*_CONTRAST), draw.uniform(-_BRIGHTNESS, _BRIGHTNESS)])

    def cut(corners: list[Tensor]) -> Tensor:
        transform = get_perspective_transform(torch.stack(corners), target.expand(count, -1, -1))
        return warp_perspective(photograph.expand(count, -1, -1, -1), transform, (PATCH_PX, PATCH_PX))

    contrast, brightness = torch.tensor(lights).T[:, :, None, None, None]
    positives = gaussian_blur2d(cut(moved), (5, 5), torch.tensor(blurs))
    positives = ((positives - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)
    return cut(squares), positives


def _gray(name: str) -> Tensor:
    """Return a photograph, (1, height, width) in [0, 1]."""
    pixels = getattr(scikit_image(), name)()
    pixels = np.asarray(pixels[0] if isinstance(pixels, tuple) else pixels)
    gray = pixels[..., :3].mean(2) if pixels.ndim == 3 else pixels
    return torch.as_tensor(gray / 255, dtype=torch.float32)[None]
