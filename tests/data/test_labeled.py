"""Images with classes, from files of the real formats, which the tests write."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from borderless.data import imagenet_a
from borderless.data.labeled import Labeled, load_labeled
from borderless.errors import DataError
from support.labeled_images import write_fashion_mnist, write_folder

TO_TENSOR = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


def test_folders_are_split_within_each_class(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "birds", {"owl": 20, "crow": 10})
    split = load_labeled(root, seed=3)
    assert split.classes == ("crow", "owl")
    parts = (split.train, split.validation, split.test)
    assert [len(part) for part in parts] == [20, 5, 5]
    files = [set(part.images) for part in parts]
    assert len(set.union(*files)) == 30
    for part in parts:
        assert all(
            path.parent.name == split.classes[label] for path, label in zip(part.images, part.labels, strict=True)
        )
        assert set(part.labels) == {0, 1}
    assert load_labeled(root, seed=3).test.images == split.test.images != load_labeled(root, seed=4).test.images
    image, label = split.train.through(TO_TENSOR)[0]
    assert image.shape == (3, 16, 20) and image.dtype == torch.float32 and label == 0


def test_a_folder_with_train_and_val_keeps_its_split(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", {"a": 20, "b": 20, "c": 5})
    write_folder(tmp_path / "val", {"a": 4, "b": 3, "c": 2})
    split = load_labeled(tmp_path)
    assert (len(split.train), len(split.validation), len(split.test)) == (40, 5, 9)
    assert all(path.is_relative_to(tmp_path / "val") for path in split.test.images)
    some = load_labeled(tmp_path, only=["c", "a"])
    assert some.classes == ("a", "c") and set(some.test.labels) == {0, 1} and len(some.test) == 6


@pytest.mark.parametrize(("packed", "under"), [(True, "."), (False, "FashionMNIST/raw")])
def test_fashion_mnist_is_read_from_its_files(packed: bool, under: str, tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path / under, {"train": 200, "t10k": 30}, packed)
    split = load_labeled(tmp_path, "fashion-mnist")
    assert (len(split.train), len(split.validation), len(split.test)) == (180, 20, 30)
    assert split.classes[9] == "Ankle boot"
    expected = np.random.default_rng(0).integers(0, 256, (200, 28, 28), dtype=np.uint8)
    found = {np.asarray(image).tobytes() for part in (split.train, split.validation) for image in part.images}
    assert found == {image.tobytes() for image in expected}
    assert split.test.through(TO_TENSOR)[3][0].shape == (1, 28, 28) and split.test[3][1] == 3
    if packed:
        assert load_labeled(tmp_path).classes == split.classes, "told from what lies there"


def test_cifar10_is_read_from_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        batch = {"data": draw.integers(0, 256, (20, 3072), dtype=np.uint8), "labels": [i % 10 for i in range(20)]}
        (folder / name).write_bytes(pickle.dumps(batch))
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    with pytest.raises(DataError, match="CIFAR-10 is missing or damaged"):
        load_labeled(tmp_path)  # the files are not CIFAR-10's own: their sums differ
    monkeypatch.setattr("torchvision.datasets.CIFAR10._check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    split = load_labeled(tmp_path)
    assert (len(split.train), len(split.validation), len(split.test)) == (90, 10, 20)
    assert split.classes == tuple(names)
    assert split.test.through(TO_TENSOR)[0][0].shape == (3, 32, 32)


def test_few_images_a_class_hold_fewer() -> None:
    data = Labeled(torch.arange(60.0).reshape(60, 1, 1, 1), [i % 3 for i in range(60)])
    five, ten = data.few(5, seed=0), data.few(10, seed=0)
    assert sorted(five.labels) == [0] * 5 + [1] * 5 + [2] * 5
    assert set(five.images.flatten().tolist()) < set(ten.images.flatten().tolist())
    assert five.images.flatten().tolist() != data.few(5, seed=1).images.flatten().tolist()
    with pytest.raises(DataError, match="Expected 21 training images per class but got 20 of class 0"):
        data.few(21, seed=0)
    assert len(data.some(7, seed=0)) == 7 and len(data.some(100, seed=0)) == 60


def test_random_transforms_follow_seed_epoch_and_item_alone() -> None:
    data = Labeled(torch.rand(5, 1, 12, 12), [0] * 5).through(v2.RandomCrop(6), is_random=True)
    torch.manual_seed(0)
    first = [data[i][0] for i in (3, 1)]
    torch.rand(7)
    assert torch.equal(data[1][0], first[1]) and torch.equal(data[3][0], first[0])
    state = torch.get_rng_state()
    crops = set()
    for epoch in range(20):
        data.set_epoch(epoch)
        crops.add(tuple(data[1][0].flatten().tolist()))
    assert len(crops) > 5
    data.set_epoch(0)
    assert any(not torch.equal(data[i][0], replace(data, seed=1)[i][0]) for i in range(5))
    assert torch.equal(torch.get_rng_state(), state), "the caller's random state is left alone"


def test_imagenet_a() -> None:
    names = [f"n{i:08d}" for i in range(1000)]
    found = imagenet_a.folders_of(names[::-1])
    assert len(found) == len(set(found)) == 200 and found[:3] == ["n00000006", "n00000011", "n00000013"]
    with pytest.raises(DataError, match=r"Expected all 1000 class folders .* but got 999"):
        imagenet_a.folders_of(names[1:])


def broken_idx(root: Path) -> None:
    write_fashion_mnist(root, {"train": 20, "t10k": 10}, packed=False)
    path = root / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])


def broken_gzip(root: Path) -> None:
    write_fashion_mnist(root, {"train": 20, "t10k": 10}, packed=True)
    path = root / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("prepare", "kind", "text"),
    [
        (lambda root: root.rmdir(), None, "which is no folder"),
        (lambda root: None, None, "folders of images.*but got 0"),
        (lambda root: write_folder(root, {"one": 3}), None, "two or more folders.*but got 1"),
        (lambda root: (root / "train").mkdir(), None, "no folder val beside it"),
        (lambda root: write_folder(root, {"a": 9, "b": 2}), None, "but got 2 of the class 'b'"),
        (lambda root: write_folder(root, {"a": 9, "b": 0}), None, "got no images in .*b"),
        (lambda root: None, "fashion-mnist", r"got no train-images-idx3-ubyte or train-images-idx3-ubyte\.gz"),
        (broken_idx, None, "Expected an idx file"),
        (broken_gzip, None, "cannot be unpacked"),
        (lambda root: None, "cifar10", "Expected the folder cifar-10-batches-py"),
    ],
)
def test_what_is_missing_or_broken_is_named(prepare, kind, text: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    prepare(root)
    with pytest.raises(DataError, match=text):
        load_labeled(root, kind)


def test_classes_that_are_not_there_and_an_image_that_is_none(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"a": 9, "b": 9})
    with pytest.raises(DataError, match="without zebra"):
        load_labeled(root, only=["a", "zebra"])
    (root / "a" / "a_0.JPEG").write_text("no image")
    split = load_labeled(root)
    kept = next(part for part in (split.train, split.validation, split.test) if root / "a" / "a_0.JPEG" in part.images)
    index = list(kept.images).index(root / "a" / "a_0.JPEG")
    with pytest.raises(DataError, match=r"a_0\.JPEG, which cannot be read"):
        kept.through(TO_TENSOR)[index]
