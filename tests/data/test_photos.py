import dataclasses
import sys

import pytest
import torch
from torch.nn import functional as F

from borderless.data import photos
from borderless.data.photos import PHOTOS, load_photo, load_photos
from borderless.errors import MissingPackage
from borderless.models.packaged import MEAN, class_names, load_packaged, normalize


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_has_its_size_and_range(name: str) -> None:
    photo = load_photo(name, 96)
    assert photo.shape == (3, 96, 96)
    assert photo.dtype == torch.float32
    assert 0 <= photo.min() < 0.2
    assert 0.8 < photo.max() <= 1


def test_photos_are_stacked_and_gray_ones_have_equal_channels() -> None:
    both = load_photos(["tripod", "cat"], 32)
    assert both.shape == (2, 3, 32, 32)
    assert torch.equal(both[0, 0], both[0, 2])
    assert not torch.equal(both[1, 0], both[1, 2])


def test_right_classes_have_their_names() -> None:
    for photo in PHOTOS.values():
        assert {index: class_names()[index] for index in photo.right} == photo.right


def test_each_photo_is_recognized_in_the_middle_of_an_empty_canvas() -> None:
    model, images = load_packaged(), load_photos(PHOTOS, 96)
    for brightness in (0.0, MEAN):
        canvases = F.pad(images - brightness, (64, 64, 64, 64)) + brightness
        with torch.inference_mode():
            first = model(normalize(canvases)).argmax(1).tolist()
        for (name, photo), answer in zip(PHOTOS.items(), first, strict=True):
            assert answer in photo.right, f"{name} on {brightness}: {class_names()[answer]}"


def test_an_unknown_photo_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"Expected a photograph out of cat, coffee.* but got 'dog'"):
        load_photo("dog", 96)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingPackage, match=r"scikit-image.*pip install \"borderless\[demo\]\""):
        load_photo("cat", 96)


def test_a_source_of_another_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    too_large = dataclasses.replace(PHOTOS["cat"], square=(15, 138, 400))
    monkeypatch.setitem(photos.PHOTOS, "cat", too_large)
    with pytest.raises(ValueError, match=r"of 'cat' but got 'chelsea' of \(300, 451\) pixels"):
        load_photo("cat", 96)
