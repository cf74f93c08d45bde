"""Videos with classes: UCF101 and HMDB51, read with PyAV, each once, and kept as JPEG; split by their official files.

Random choices follow from seed, epoch and item.

Shapes: clips (3, frames, height, width) in float; a frame of a video (height, width, 3) in bytes.
"""

import contextlib
import hashlib
import io
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from borderless.data.items import ClipSplit, DrawnByEpoch
from borderless.errors import DataError, MissingPackage
from borderless.runtime.files import write_atomically

FRAMES, SIDE_PX = 16, 112
# Of ActivityNet's frames, in bytes, as the published code subtracts it (Hara's 3D-ResNets).
MEAN = (114.7748, 107.7354, 99.4750)
# Sides of the training crops, in shorter sides of the frame: 1 to one half in four steps, at a corner or the middle.
_SCALES = tuple(2 ** (-k / 4) for k in range(5))
_CORNERS = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (0.5, 0.5))
_CACHED_SIDE_PX = 128
_JPEG_QUALITY = 92
_VALIDATION_SHARE = 0.1


@dataclass
class Videos(DrawnByEpoch, Dataset[tuple[Tensor, int]]):
    """Clips of 16 frames, 112 × 112 px: at random position and time in training, else from the middle."""

    files: Sequence[Path]
    labels: Sequence[int]
    cache: Path
    is_training: bool = False

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        frames = frames_of(self.files[index], self.cache)
        if not self.is_training:
            first = max(0, (len(frames) - FRAMES) // 2)
            return _clip(frames, first, *_middle(frames)), self.labels[index]
        draw = random.Random(self.item_seed(index))
        first = draw.randrange(max(1, len(frames) - FRAMES + 1))
        side = round(draw.choice(_SCALES) * min(frames.size))
        corner = draw.choice(_CORNERS)
        top, left = (round(c * (n - side)) for c, n in zip(corner, frames.size, strict=True))
        clip = _clip(frames, first, top, left, side)
        return (clip.flip(3) if draw.random() < 0.5 else clip), self.labels[index]

    def clips(self, index: int) -> Tensor:
        """Return a whole video as clips that follow each other: (clips, 3, 16, 112, 112)."""
        frames = frames_of(self.files[index], self.cache)
        starts = range(0, max(1, len(frames) - FRAMES + 1), FRAMES)
        return torch.stack([_clip(frames, first, *_middle(frames)) for first in starts])


def from_videos(root: Path | str, splits: Path | str | None, split: int, seed: int, cache: Path | str) -> ClipSplit:
    """Read UCF101 or HMDB51.

    Args:
        root: The folder of videos, CLASS/VIDEO.
        splits: The folder of the official split files, by default looked for near root: of UCF101 trainlist01.txt and
            testlist01.txt, of HMDB51 CLASS_test_split1.txt for every class.
        split: Number of the official split.
        seed: Seed of the tenth of the training videos that is for validation: in UCF101, whose videos come in groups of
            one scene, whole groups.
        cache: A folder for decoded frames.

    Raises:
        DataError: Something is missing or does not fit together.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(
            f"Expected a folder with a folder of videos for each class but got {str(root)!r}, which is no folder"
        )
    lists = _split_folder(root, splits, split)
    if (lists / f"trainlist{split:02d}.txt").is_file():
        train, test = (_ucf_list(lists / f"{part}list{split:02d}.txt") for part in ("train", "test"))
    else:
        train, test = _hmdb_lists(lists, split)
    classes = tuple(sorted({name for name, _ in train}))
    if len(classes) < 2 or {name for name, _ in test} != set(classes):
        raise DataError(
            f"Expected the same classes to train and to test on but got {len(classes)} and {len({n for n, _ in test})}"
        )
    chosen = _validation_groups(train, seed)
    kept = [entry for entry in train if _group(entry) not in chosen]
    validation = [entry for entry in train if _group(entry) in chosen]
    made = []
    for part in (kept, validation, test):
        files = [root / name / video for name, video in part]
        missing = next((file for file in files if not file.is_file()), None)
        if missing is not None:
            raise DataError(
                f"Expected every video of the split but got no {str(missing)!r}, which {str(lists)!r} names"
            )
        made.append(Videos(files, [classes.index(name) for name, _ in part], Path(cache), seed=seed))
    return ClipSplit(replace(made[0], is_training=True), made[1], made[2], classes)


@dataclass(frozen=True)
class Frames:
    """A video's frames, the shorter side 128 px, each kept as JPEG (as the published code keeps them, in files).

    jpeg: the bytes of all, one after the other. ends: where each ends. size: height and width.
    """

    jpeg: np.ndarray
    ends: np.ndarray
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one frame: (height, width, 3) in bytes."""
        start = self.ends[index - 1] if index else 0
        return np.asarray(Image.open(io.BytesIO(self.jpeg[start : self.ends[index]].tobytes()), formats=["JPEG"]))


def frames_of(file: Path, cache: Path) -> Frames:
    """Return all frames of a video, decoded once, then read from `cache`."""
    kept = cache / f"{file.stem}-{hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]}.npz"
    if kept.is_file() and kept.stat().st_mtime >= file.stat().st_mtime:
        with contextlib.suppress(ValueError, KeyError, EOFError, BadZipFile):  # a damaged one is made anew
            found = np.load(io.BytesIO(kept.read_bytes()))
            return Frames(found["jpeg"], found["ends"], found["size"])
    frames = _decoded(file)
    data = io.BytesIO()
    np.savez(data, jpeg=frames.jpeg, ends=frames.ends, size=frames.size)
    write_atomically(kept, data.getvalue())
    return frames


def _decoded(file: Path) -> Frames:
    try:
        import av
    except ImportError as error:
        raise MissingPackage(
            'Expected the package av but got none; install it with: pip install "borderless[video]"'
        ) from error
    jpeg, ends = io.BytesIO(), []
    try:
        with av.open(str(file)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            shorter = min(stream.width, stream.height)
            width, height = (round(n * _CACHED_SIDE_PX / shorter) for n in (stream.width, stream.height))
            for frame in container.decode(stream):
                pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
                Image.fromarray(pixels).save(jpeg, "JPEG", quality=_JPEG_QUALITY)
                ends.append(jpeg.tell())
    except (av.FFmpegError, IndexError, ValueError, ZeroDivisionError) as error:
        raise DataError(
            f"Expected a whole video but got {file}, which cannot be decoded ({error}); replace or remove it"
        ) from error
    if not ends:
        raise DataError(f"Expected a video of at least one frame but got {file}, which has none; replace or remove it")
    return Frames(np.frombuffer(jpeg.getvalue(), np.uint8), np.array(ends), np.array([height, width]))


def _clip(frames: Frames, first: int, top: int, left: int, side: int) -> Tensor:
    """Return 16 frames from `first` on, beginning again at the end of a short video, of a square."""
    chosen = [frames[(first + i) % len(frames)][top : top + side, left : left + side] for i in range(FRAMES)]
    clip = torch.from_numpy(np.stack(chosen)).permute(0, 3, 1, 2).float()
    clip = F.interpolate(clip, (SIDE_PX, SIDE_PX), mode="bilinear", align_corners=False)
    return (clip - torch.tensor(MEAN)[:, None, None]).transpose(0, 1).contiguous()


def _middle(frames: Frames) -> tuple[int, int, int]:
    height, width = (int(n) for n in frames.size)
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side


def _split_folder(root: Path, splits: Path | str | None, split: int) -> Path:
    candidates = (
        [Path(splits)]
        if splits is not None
        else [
            folder / name
            for folder in (root, root.parent)
            for name in ("ucfTrainTestlist", "testTrainMulti_7030_splits", "splits", ".")
        ]
    )
    for folder in candidates:
        if (folder / f"trainlist{split:02d}.txt").is_file() or any(folder.glob(f"*_test_split{split}.txt")):
            return folder
    raise DataError(
        f"Expected UCF101's trainlist{split:02d}.txt and testlist{split:02d}.txt, or HMDB51's "
        f"CLASS_test_split{split}.txt, but got none of them in {', '.join(repr(str(folder)) for folder in candidates)}"
    )


def _ucf_list(path: Path) -> list[tuple[str, str]]:
    """Return (class, video) of each line "CLASS/VIDEO" or "CLASS/VIDEO NUMBER"."""
    if not path.is_file():
        raise DataError(f"Expected both files of the split but got no {str(path)!r}")
    entries = [line.split()[0].split("/") for line in path.read_text().splitlines() if line.strip()]
    wrong = next((entry for entry in entries if len(entry) != 2), None)
    if wrong is not None or not entries:
        raise DataError(f"Expected lines CLASS/VIDEO in {str(path)!r} but got {'/'.join(wrong or [''])!r}")
    return [(name, video) for name, video in entries]


def _hmdb_lists(lists: Path, split: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the videos of lines "VIDEO 1" (training) and "VIDEO 2" (testing); "VIDEO 0" is in neither."""
    parts: dict[str, list[tuple[str, str]]] = {"1": [], "2": [], "0": []}
    for path in sorted(lists.glob(f"*_test_split{split}.txt")):
        name = path.name.removesuffix(f"_test_split{split}.txt")
        for line in path.read_text().splitlines():
            words = line.split()
            if words and (len(words) != 2 or words[1] not in parts):
                raise DataError(f"Expected lines of VIDEO and 0, 1 or 2 in {str(path)!r} but got {line!r}")
            if words:
                parts[words[1]].append((name, words[0]))
    return parts["1"], parts["2"]


def _group(entry: tuple[str, str]) -> tuple[str, str]:
    """Return the class and the scene of a video: UCF101's number of the group, else the video itself."""
    name, video = entry
    found = re.search(r"_g\d+", video)
    return name, found.group() if found else video


def _validation_groups(entries: list[tuple[str, str]], seed: int) -> set[tuple[str, str]]:
    draw, chosen = random.Random(seed), set()
    for name in sorted({name for name, _ in entries}):
        groups = sorted({_group(entry) for entry in entries if entry[0] == name})
        if len(groups) < 2:
            raise DataError(
                "Expected at least two training videos (or groups of them) per class, one of them to validate on, but "
                f"got {len(groups)} of the class {name!r}"
            )
        chosen.update(draw.sample(groups, max(1, round(_VALIDATION_SHARE * len(groups)))))
    return chosen
