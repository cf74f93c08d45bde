"""Quadrant data. Oracles: the sources that are named, and images that the test writes itself."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from borderless.data import imagenet, quadrant
from borderless.data.photos import scikit_image
from borderless.errors import DataError


def assert_disjoint(data: quadrant.Quadrant) -> None:
    sources = [set(split.sources) for split in data.splits.values()]
    assert all(sources)
    assert not (sources[0] & sources[1] or sources[0] & sources[2] or sources[1] & sources[2])
    pictures = [{bytes(p.numpy()) for p in split.pictures} for split in data.splits.values()]
    assert not (pictures[0] & pictures[1] or pictures[0] & pictures[2] or pictures[1] & pictures[2])


def test_photographs_are_split_by_photograph() -> None:
    pytest.importorskip("skimage")
    data = quadrant.from_photographs(30, seed=3)
    assert_disjoint(data)
    for split in data.splits.values():
        assert split.pictures.shape == (30, 3, 56, 56) and len(split) == 30
        assert set(split.sources) <= set(quadrant.SOURCES)
        assert len({bytes(p.numpy()) for p in split.pictures}) == 30, "two pictures are the same"
    again, other = quadrant.from_photographs(30, seed=3), quadrant.from_photographs(30, seed=4)
    assert torch.equal(data.test.pictures, again.test.pictures) and data.test.sources == again.test.sources
    assert set(other.test.sources) != set(data.test.sources)


def test_pictures_are_cuts_of_their_photographs_normalized() -> None:
    pytest.importorskip("skimage")
    split = quadrant.from_photographs(6, seed=0).train
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in (imagenet.MEAN, imagenet.DEVIATION))
    for picture, source in zip(split.pictures, split.sources, strict=True):
        pixels = getattr(scikit_image(), source)()
        pixels = np.asarray(pixels[0] if isinstance(pixels, tuple) else pixels)
        values = picture * deviation + mean
        assert values.min() >= -1e-5 and values.max() <= 1 + 1e-5
        low, high = pixels.min() / 255, pixels.max() / 255
        assert low - 0.1 <= values.min() and values.max() <= high + 0.1


def test_the_published_protocol_gives_every_split_the_same_pictures() -> None:
    pytest.importorskip("skimage")
    data = quadrant.from_photographs(20, seed=0, protocol="published")
    assert torch.equal(data.train.pictures, data.test.pictures)
    assert data.train.sources == data.validation.sources == data.test.sources


def write_images(folder: Path, count: int) -> dict[str, Image.Image]:
    generator = np.random.default_rng(0)
    images = {}
    for i in range(count):
        size = (300 + 10 * i, 260) if i % 2 else (240, 320)
        blocks = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)
        name = f"class{i % 3}/image{i}.png"
        (folder / name).parent.mkdir(exist_ok=True)
        (image.convert("L") if i == 1 else image).save(folder / name)
        images[name] = image
    return images


def test_a_folder_is_split_by_image_and_treated_as_in_the_paper(tmp_path: Path) -> None:
    images = write_images(tmp_path, 12)
    (tmp_path / "notes.txt").write_text("no image")
    data = quadrant.from_folder(tmp_path, 4, seed=1)
    assert_disjoint(data)
    assert set().union(*(split.sources for split in data.splits.values())) == set(images)
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in (imagenet.MEAN, imagenet.DEVIATION))
    for split in data.splits.values():
        for picture, name in zip(split.pictures, split.sources, strict=True):
            if name != "class1/image1.png":
                assert (picture * deviation + mean - by_hand(images[name])).abs().mean() < 0.02


def by_hand(image: Image.Image) -> Tensor:
    """Shorter side 256, the middle 224, then 56, with Pillow alone."""
    scale = 256 / min(image.size)
    large = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (large.width - 224) // 2, (large.height - 224) // 2
    cut = large.crop((left, top, left + 224, top + 224)).resize((56, 56), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(cut)).permute(2, 0, 1).float() / 255


def test_a_broken_image_is_named_skipped_and_counted(tmp_path: Path) -> None:
    write_images(tmp_path, 7)
    whole = (tmp_path / "class0/image0.png").read_bytes()
    (tmp_path / "class0/image0.png").write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UserWarning, match=r"got class0/image0.png, which cannot be read.*left out"):
        data = quadrant.from_folder(tmp_path, 2, seed=0)
    assert data.skipped == ("class0/image0.png",)
    assert_disjoint(data)
    (tmp_path / "class1/image1.png").write_bytes(b"not an image")
    with (
        pytest.warns(UserWarning, match=r"cannot be read"),
        pytest.raises(
            DataError, match=r"Expected 6 images for 2 pictures a split .* got 5 under .*; 2 could not be read, first "
        ),
    ):
        quadrant.from_folder(tmp_path, 2, seed=0)


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"got .*nowhere.*, which does not exist"):
        quadrant.from_folder(tmp_path / "nowhere", 1, seed=0)
    with pytest.raises(DataError, match=r"Expected 3 images for 1 pictures a split .* got 0 under"):
        quadrant.from_folder(tmp_path, 1, seed=0)
    with pytest.raises(DataError, match=r"Expected at least 1 picture a split but got 0"):
        quadrant.from_folder(tmp_path, 0, seed=0)
    with pytest.raises(DataError, match=r"one of split, published but got 'leaky'"):
        quadrant.from_photographs(1, seed=0, protocol="leaky")


def test_where_the_pictures_stand() -> None:
    assert quadrant.positions(0) == [(0, 0), (64, 64)]
    assert quadrant.positions(512) == [(512, 512), (576, 576)]
    assert quadrant.canvas_px(512) == (1144, 1144)
