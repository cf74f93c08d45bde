"""Clips: what a motion is, real encoded videos in the layouts of UCF101 and HMDB51, and what is wrong with them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from borderless.data.clips import MEAN, MEAN_GROUND, MOTIONS, Generated, from_videos, generated
from borderless.errors import DataError
from support.videos import write_hmdb51, write_ucf101, write_video


def centre(frames: torch.Tensor) -> torch.Tensor:
    """(row, column) of the bright part of each frame, in pixels: (frames, 2)."""
    light = (frames.max(0).values - frames.max(0).values.median()).clamp(min=0.1) - 0.1
    places = torch.arange(light.shape[1], dtype=torch.float32)
    total = light.sum((1, 2)).clamp(min=1e-6)
    return torch.stack([(light.sum(2) @ places) / total, (light.sum(1) @ places) / total], 1)


def test_a_motion_is_what_its_name_says() -> None:
    data = Generated(160, seed=0, frames=8, size_px=48)
    moved = {name: [] for name in MOTIONS}
    for index in range(len(data)):
        clip, label = data[index]
        assert clip.shape == (3, 8, 48, 48) and label == index % 8
        at = centre(clip + MEAN_GROUND)
        moved[MOTIONS[label]].append((at[-1] - at[0]).tolist())
    median = {name: np.median(steps, axis=0) for name, steps in moved.items()}
    assert median["left"][1] < -4 and median["right"][1] > 4 and median["up"][0] < -4 and median["down"][0] > 4
    for name in ("clockwise", "counterclockwise", "growing", "shrinking"):
        assert np.abs(median[name]).max() < 2


def turned(clip: torch.Tensor) -> float:
    """How far the patch turned, by the long axis of what is lit: in radians, clockwise positive (rows go down)."""
    light = clip.max(0).values
    light = (light - light.flatten(1).median(1).values[:, None, None] > 0.15).float()
    rows, columns = (torch.arange(n, dtype=torch.float32) for n in light.shape[1:])
    total, axes = light.sum((1, 2)), []
    for t in range(len(light)):
        y = rows[:, None] - (light[t].sum(1) @ rows) / total[t]
        x = columns - (light[t].sum(0) @ columns) / total[t]
        axes.append(0.5 * torch.atan2((2 * light[t] * x * y).sum(), (light[t] * (x**2 - y**2)).sum()).item())
    half = np.pi / 2
    return float(((np.diff(axes) + half) % np.pi - half).sum())  # an axis has no sign, and turns little in a frame


def test_what_turns_turns_and_what_grows_grows() -> None:
    data = Generated(400, seed=0, frames=8, size_px=48)
    measured = {name: ([], []) for name in MOTIONS}
    for index in range(len(data)):
        clip, label = data[index]
        area = [(clip[:, t].max(0).values > clip[:, t].max(0).values.median() + 0.15).sum().item() for t in (0, -1)]
        measured[MOTIONS[label]][0].append(turned(clip))
        measured[MOTIONS[label]][1].append(area[1] > area[0])
    turn = {name: float(np.median(turns)) for name, (turns, _) in measured.items()}
    grown = {name: float(np.mean(areas)) for name, (_, areas) in measured.items()}
    assert turn.pop("clockwise") > 0.5 and turn.pop("counterclockwise") < -0.5
    assert max(abs(value) for value in turn.values()) < 0.3, turn
    assert grown["growing"] > 0.8 and grown["shrinking"] < 0.2


def test_the_seed_draws_the_clips() -> None:
    split, again = generated(16, 8, seed=1), generated(16, 8, seed=1)
    assert len(split.train) == 16 and split.classes == MOTIONS
    assert torch.equal(split.train[3][0], again.train[3][0])
    assert not torch.equal(split.train[3][0], split.test[3][0])


def test_ucf101_is_split_by_its_files_and_validated_on_whole_groups(tmp_path: Path) -> None:
    write_ucf101(tmp_path)
    split = from_videos(tmp_path / "videos", None, 1, seed=0, cache=tmp_path / "cache")
    assert split.classes == ("Archery", "Bowling")
    assert (len(split.train), len(split.validation), len(split.test)) == (8, 4, 4)
    groups = [{file.name[:-8] for file in part.files} for part in (split.train, split.validation, split.test)]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    clip, label = split.train[0]
    assert clip.shape == (3, 16, 112, 112) and label == 0
    assert (clip[0] + MEAN[0]).mean() == pytest.approx(100, abs=4)
    assert split.test.clips(3).shape == (1, 3, 16, 112, 112)
    again = split.train[0][0]
    assert torch.equal(clip, again), "the same numbers, from the kept frames"
    kept = sorted((tmp_path / "cache").glob("*.npz"))
    assert len(kept) == 2
    for path in kept:
        path.write_bytes(path.read_bytes()[:-40])
    assert torch.equal(clip, split.train[0][0]), "a damaged one is decoded anew"


def test_hmdb51_is_split_by_its_files(tmp_path: Path) -> None:
    write_hmdb51(tmp_path)
    split = from_videos(tmp_path / "videos", tmp_path / "testTrainMulti_7030_splits", 1, 0, tmp_path / "cache")
    assert split.classes == ("clap", "wave")
    assert (len(split.train), len(split.validation), len(split.test)) == (6, 2, 4)
    assert {file.name for file in split.test.files} == {f"{name}_{i}.avi" for name in ("clap", "wave") for i in (3, 5)}


def test_training_clips_change_with_the_epoch_and_short_videos_begin_again(tmp_path: Path) -> None:
    write_ucf101(tmp_path)
    split = from_videos(tmp_path / "videos", None, 1, seed=0, cache=tmp_path / "cache")
    file = split.train.files[0]
    write_video(file, *range(20, 220, 40))
    seen = split.test.__class__([file], [0], tmp_path / "cache")[0][0][0].mean((1, 2)) + MEAN[0]
    assert seen.tolist() == pytest.approx([20 + 40 * (i % 5) for i in range(16)], abs=6)
    firsts = set()
    write_video(file, *range(0, 200, 2))
    for epoch in range(12):
        split.train.set_epoch(epoch)
        firsts.add(round(float(split.train[0][0][0, 0].mean() + MEAN[0]) / 2))
    assert len(firsts) > 5 and max(firsts) <= 84 + 3


def broken_video(root: Path) -> None:
    write_ucf101(root)
    (root / "videos" / "Archery" / "v_Archery_g04_c01.avi").write_bytes(b"no video" * 100)


def without(name: str):
    def prepare(root: Path) -> None:
        write_ucf101(root)
        (root / name).unlink()

    return prepare


def bad_line(root: Path) -> None:
    write_ucf101(root)
    (root / "ucfTrainTestlist" / "testlist01.txt").write_text("Archery\n")


def one_group(root: Path) -> None:
    write_ucf101(root, groups=2)


@pytest.mark.parametrize(
    ("prepare", "text"),
    [
        (lambda root: None, "which is no folder"),
        (lambda root: (root / "videos").mkdir(), "got no split files of split 1"),
        (without("ucfTrainTestlist/testlist01.txt"), r"got no .*testlist01\.txt.*both files"),
        (without("videos/Bowling/v_Bowling_g01_c01.avi"), r"got no .*v_Bowling_g01_c01\.avi"),
        (bad_line, "got the line 'Archery'"),
        (one_group, "two at least, one of them to validate on"),
        (broken_video, r"v_Archery_g04_c01\.avi, which cannot be decoded as a video"),
    ],
)
def test_what_is_missing_or_broken_is_named(prepare, text: str, tmp_path: Path) -> None:
    prepare(tmp_path)

    def read() -> None:
        split = from_videos(tmp_path / "videos", None, 1, seed=0, cache=tmp_path / "cache")
        for index in range(len(split.test)):
            split.test[index]

    with pytest.raises(DataError, match=text):
        read()
