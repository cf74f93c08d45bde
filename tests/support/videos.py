"""Small data sets of videos in the formats of UCF101 and HMDB51."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_video(path: Path, *grays: int, size: tuple[int, int] = (48, 64)) -> None:
    """An encoded video of frames of one gray each; of one gray, twenty frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for gray in grays if len(grays) > 1 else 20 * grays:
            pixels = np.full((*size, 3), gray, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def write_ucf101(root: Path, groups: int = 4) -> None:
    """Two classes; groups of two videos; the last group is for testing."""
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for number, name in enumerate(("Archery", "Bowling"), 1):
        for group in range(1, groups + 1):
            for clip in (1, 2):
                video = f"v_{name}_g{group:02d}_c{clip:02d}.avi"
                write_video(root / "videos" / name / video, 100 * number)
                if group < groups:
                    lists["train"].append(f"{name}/{video} {number}")
                else:
                    lists["test"].append(f"{name}/{video}")
    (root / "ucfTrainTestlist").mkdir()
    for part, lines in lists.items():
        (root / "ucfTrainTestlist" / f"{part}list01.txt").write_text("\n".join(lines) + "\n")


def write_hmdb51(root: Path) -> None:
    folder = root / "testTrainMulti_7030_splits"
    folder.mkdir(parents=True)
    for name in ("clap", "wave"):
        lines = []
        for i, part in enumerate("1112120"):
            write_video(root / "videos" / name / f"{name}_{i}.avi", 60)
            lines.append(f"{name}_{i}.avi {part} ")
        (folder / f"{name}_test_split1.txt").write_text("\n".join(lines))
