"""What the playground shows are the library's numbers."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import borderless as bl
from borderless.data.drawings import LETTER
from borderless.data.photos import load_photo
from borderless.errors import DataError, ImageError
from borderless.playground import views
from borderless.playground.app import WORKER, audited

pytest.importorskip("skimage")


@pytest.mark.parametrize(
    ("border", "is_exact"), [("zero", False), ("valid", False), ("full", True), ("infinite", True)]
)
def test_both_orders_agree_where_the_border_keeps_everything(border: str, is_exact: bool) -> None:
    found = views.shift_and_convolve(border, "corner", 0.0, (8, 8), (8, 8))
    assert (found.difference < 1e-6) is is_exact
    assert found.picture.size[0] > 500


def test_a_bias_shows_the_frame_under_full_but_not_under_infinite() -> None:
    full, endless = (
        views.shift_and_convolve(border, "mean", 0.5, (0, 8), (8, -8)).difference for border in ("full", "infinite")
    )
    assert full > 0.05
    assert endless < 1e-6
    with pytest.raises(ImageError, match="stays in the image"):
        views.shift_and_convolve("zero", "mean", 0.0, (16, 8), (8, 0))


@pytest.mark.parametrize(("centre", "place"), [((0, 0), (0, 0)), ((12, 12), (8, 8)), ((23, 5), (16, 1))])
def test_clicks_near_the_edge_leave_the_object_whole(centre: tuple[int, int], place: tuple[int, int]) -> None:
    assert views.clamped(centre, 8, 24) == place
    assert (np.asarray(views.enlarged(place))[:, :, 0] > 0).sum() == LETTER.sum() * views.CELL_PX**2


def test_an_answer_is_that_of_the_canvas_run_whole() -> None:
    chosen = views.network("timm/test_resnet", "random")
    model, place = chosen.model, (10, 100)
    found = views.answer(chosen, "coffee", place)
    logits = []
    for row, column in (views.MIDDLE, place):
        canvas = torch.zeros(1, 3, 224, 224)
        pixels = load_photo("coffee", 96).permute(1, 2, 0).numpy()
        thing = (pixels - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
        canvas[0, :, row : row + 96, column : column + 96] = torch.from_numpy(thing).permute(2, 0, 1)
        logits.append(model(canvas)[0])
    middle, here = torch.stack(logits).softmax(1)
    assert found.middle == pytest.approx(float(middle.max()), rel=1e-4)
    assert found.here == pytest.approx(float(here[middle.argmax()]), rel=1e-4)


def test_the_map_grows_by_rows() -> None:
    model = views.network("timm/test_resnet", "random", "zero")
    maps = [found for found, _ in views.growing_map(model, "cat")]
    assert len(maps) == views.MAP_SIDE
    assert np.isnan(maps[0][1:]).all() and not np.isnan(maps[-1]).any()
    corner = views.answer(model, "cat", (0, 0))
    assert maps[-1][0, 0] == pytest.approx(corner.here, rel=1e-5)


def test_networks_are_ones_own() -> None:
    one, other = (views.network("timm/test_resnet", "random").model for _ in range(2))
    bl.convert_(one, "infinite")
    image = torch.rand(1, 3, 64, 64)
    assert not torch.allclose(one(image), other(image))
    assert torch.equal(next(one.parameters()), next(other.parameters()))


def test_uploads_are_bounded_and_read_safely(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "good.png")
    (tmp_path / "text.png").write_text("no picture")
    chosen = views.network("timm/test_resnet", "random")
    images, problems = views.uploaded([tmp_path / "good.png", tmp_path / "text.png"], 32, chosen)
    assert images.shape == (1, 3, 32, 32)
    assert "text.png: cannot be read" in problems[0]
    with pytest.raises(DataError, match="no image that can be read"):
        views.uploaded([tmp_path / "text.png"], 32, chosen)
    with pytest.raises(DataError, match="got 0 files"):
        views.uploaded([], 32, chosen)
    with pytest.raises(DataError, match="got 33 files"):
        views.uploaded([tmp_path / "good.png"] * 33, 32, chosen)


@pytest.mark.slow
def test_what_a_network_cannot_do_is_said() -> None:
    with pytest.raises(ImageError, match=r"cannot run on images of 3 × 224 × 224.*needed"):
        views.network("fconv_hardnet", "random")
    with pytest.raises(ImageError, match="needed: a border, or neither"):
        views.network("timm/test_resnet", "random", "own", "adaptive")
    assert views.network("resnet101", "random", "infinite", "fixed", 0).model
    with pytest.raises(ImageError, match=r"multiply-adds an image; needed: at most 20"):
        views.network("resnet101", "random", "infinite")


def test_the_packaged_network_is_shown_images_as_it_was_in_training() -> None:
    chosen = views.network("tf_efficientnet_lite0", "packaged")
    assert chosen.thing("cat").max() < 1.01  # (1 − 127/255) / (128/255)
    found = views.answer(chosen, "cat", views.MIDDLE)
    assert "cat" in found.name and found.middle > 0.5


@pytest.mark.slow
def test_an_audit_that_nobody_waits_for_ends() -> None:
    chosen = views.network("timm/test_resnet", "random")
    steps = audited(chosen.model, torch.randn(8, 3, 64, 64), "mine")
    assert next(steps)[3] is None
    while next(steps)[0] < 1:
        pass
    steps.close()
    for _ in range(100):
        if WORKER not in {thread.name for thread in threading.enumerate()}:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("the audit goes on")
    assert not chosen.model._forward_pre_hooks
