"""Real encoded videos in the layouts of UCF101 and HMDB51, and what is wrong with them."""

from pathlib import Path

import pytest
import torch

from borderless.data.videos import MEAN, from_videos
from borderless.errors import DataError
from support.videos import write_hmdb51, write_ucf101, write_video


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
        (lambda root: (root / "videos").mkdir(), "got none of them"),
        (without("ucfTrainTestlist/testlist01.txt"), r"both files of the split but got no .*testlist01\.txt"),
        (without("videos/Bowling/v_Bowling_g01_c01.avi"), r"got no .*v_Bowling_g01_c01\.avi"),
        (bad_line, "but got 'Archery'"),
        (one_group, "at least two training videos"),
        (broken_video, r"v_Archery_g04_c01\.avi, which cannot be decoded"),
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
