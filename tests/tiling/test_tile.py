"""`bl.tile`: the model's own output on the whole image, whatever the image and the output are stored in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import borderless as bl
from support.tiled_networks import Decoder, Several, seeded

SIZE = (41, 53)
IMAGE = torch.rand(2, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def whole(model: nn.Module, image: Tensor = IMAGE) -> Any:
    with torch.no_grad():
        return model(image[None])


def error(found: Any, expected: Tensor) -> float:
    difference = torch.as_tensor(np.asarray(found)) - expected
    return float(difference.abs().max() / expected.abs().max())


@settings(max_examples=6)
@given(height=st.integers(5, 20), width=st.integers(5, 20), norm=st.sampled_from(["batch", "group"]))
def test_any_tile_gives_the_whole(height: int, width: int, norm: str) -> None:
    model = seeded(Decoder(norm))
    found = bl.tile(model, IMAGE, tile=(height, width))
    assert tuple(found.shape) == (4, *SIZE)
    assert error(found, whole(model)[0]) < 1e-12


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        (nn.Sequential(nn.Conv1d(2, 3, 9, 2, 4), nn.ReLU(), nn.ConvTranspose1d(3, 2, 4, 2, 1)), (61,)),
        (nn.Sequential(nn.Conv3d(2, 3, 5, padding=2), nn.MaxPool3d(2), nn.Conv3d(3, 2, 3, padding=1)), (13, 14, 15)),
    ],
    ids=["1-D", "3-D"],
)
def test_other_numbers_of_axes(model: nn.Module, sizes: tuple[int, ...]) -> None:
    model, image = seeded(model), torch.rand(2, *sizes, dtype=torch.float64)
    expected = whole(model, image)
    assert error(bl.tile(model, image, tile=5), expected[0]) < 1e-12
    assert error(bl.tile(model, image[None], tile=5), expected) < 1e-12


def test_half_of_float64_is_exact_enough() -> None:
    model = seeded(Decoder()).float()
    found = bl.tile(model, IMAGE.float(), tile=11)
    assert found.dtype is torch.float32
    assert error(found, whole(model, IMAGE.float())[0]) < 1e-5


def _h5py(folder: Path) -> tuple[Any, Any]:
    file = h5py.File(folder / "all.h5", "w")
    return file.create_dataset("in", data=IMAGE.numpy()), file.create_dataset("out", (4, *SIZE), "f8")


def _zarr(folder: Path) -> tuple[Any, Any]:
    image = zarr.create_array(folder / "in.zarr", data=IMAGE.numpy(), chunks=(2, 10, 10))
    return image, zarr.create_array(folder / "out.zarr", shape=(4, *SIZE), dtype="f8", chunks=(4, 16, 16))


def _memmap(folder: Path) -> tuple[Any, Any]:
    np.save(folder / "in.npy", IMAGE.numpy())
    out = np.lib.format.open_memmap(folder / "out.npy", mode="w+", dtype="f8", shape=(4, *SIZE))
    return np.load(folder / "in.npy", mmap_mode="r"), out


@pytest.mark.parametrize("stored", [_h5py, _zarr, _memmap])
def test_arrays_on_disk(stored: Callable[[Path], tuple[Any, Any]], tmp_path: Path) -> None:
    model = seeded(Decoder())
    image, out = stored(tmp_path)
    assert bl.tile(model, image, tile=12, out=out) is out
    assert error(out[:], whole(model)[0]) < 1e-12


def test_several_outputs() -> None:
    model = seeded(Several())
    expected = whole(model)
    found = bl.tile(model, IMAGE, tile=9)
    out = {"dense": torch.empty(3, *SIZE, dtype=torch.float64), "rest": [np.empty((2, 21, 27)), np.empty(2)]}
    bl.tile(model, IMAGE, tile=9, out=out)
    for one in (found, out):
        assert error(one["dense"], expected["dense"][0]) < 1e-12
        assert error(one["rest"][0], expected["rest"][0][0]) < 1e-12
        assert error(one["rest"][1], expected["rest"][1][0]) < 1e-12


def test_integers_are_prepared() -> None:
    model = seeded(Decoder())
    pixels = np.random.default_rng(0).integers(0, 2**16, (2, *SIZE), np.uint16)
    found = bl.tile(model, pixels, tile=16, prepare=lambda tile: tile.double() / 65535)
    assert error(found, whole(model, torch.from_numpy(pixels / 65535))[0]) < 1e-12


def test_a_converted_model() -> None:
    model = bl.convert(seeded(Decoder()), "infinite")
    assert error(bl.tile(model, IMAGE, tile=13), whole(model)[0]) < 1e-12


def test_progress_and_waiting_maps_in_files() -> None:
    model, calls = seeded(Decoder("group")), []
    found = bl.tile(model, IMAGE, tile=16, memory="10kB", progress=lambda *call: calls.append(call))
    assert calls == [(i, 12) for i in range(1, 13)]
    assert error(found, whole(model)[0]) < 1e-12


class Unreadable:
    shape, dtype = (2, *SIZE), np.dtype("f8")

    def __getitem__(self, index: Any) -> Any:
        if index[-1].start:
            raise OSError("the tape is torn")
        return IMAGE.numpy()[index]


@pytest.mark.parametrize(
    ("image", "options", "text"),
    [
        (IMAGE, {"tile": 0}, "Expected tile= to be a number of pixels, at least 1, or 2 of them"),
        (IMAGE, {"tile": (3, 3, 3)}, r"but got \(3, 3, 3\)"),
        (IMAGE, {"memory": "much"}, 'or such as "2GB" or "500MiB", but got \'much\''),
        (IMAGE, {"out": np.empty((4, 41, 52))}, r"out= of shape \(4, 41, 53\) and type float64 but got the shape"),
        (IMAGE, {"out": np.empty((4, *SIZE), "f4")}, "out= of a type that holds float64 but got float32"),
        (IMAGE, {"out": {"a": np.empty((4, *SIZE))}}, "to be an array of shape .* but got dict"),
        (
            (IMAGE * 255).byte(),
            {},
            "an image in floating point but got torch.uint8; .* prepare=lambda tile: tile / 255",
        ),
        (IMAGE.numpy().astype("f4"), {}, "tiles of torch.float64, as the model's weights, but got torch.float32"),
        (IMAGE[0, 0], {}, r"an image \(C, height, width\) or .* whose first convolution is 2-dimensional"),
        (IMAGE[:, :0], {}, "at least one pixel"),
        (IMAGE.tolist(), {}, "a tensor or an array .* but got list"),
        (Unreadable(), {}, r"to read the pixels \[0:9, 9:18\] of the image but got OSError: the tape is torn"),
        (IMAGE, {"prepare": lambda tile: tile[..., :1]}, "prepare to keep samples and size of a tile"),
    ],
    ids=lambda value: "",
)
def test_what_does_not_fit_is_named(image: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(bl.ImageError, match=text):
        bl.tile(seeded(Decoder()), image, **{"tile": 9, **options})


class Remembering(nn.Conv2d):
    """Keeps its last output, as many a model keeps its grids."""

    def forward(self, image: Tensor) -> Tensor:
        self.last = super().forward(image)
        return self.last


def test_outputs_are_checked_before_any_work() -> None:
    model = Remembering(2, 4, 3).double().eval()
    with pytest.raises(bl.ImageError, match=r"out= of shape \(4, 39, 51\)"):
        bl.tile(model, Unreadable(), out=np.empty((4, 41, 52)), tile=9)
    assert not hasattr(model, "last")


def test_an_adaptive_phase_is_refused() -> None:
    model = bl.convert(seeded(Decoder()), "infinite", phase="adaptive")
    with pytest.raises(bl.UnsupportedOperation, match="Expected a fixed phase"):
        bl.tile(model, IMAGE, tile=9)


def test_an_ambiguous_image() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Flatten(2), nn.Conv1d(2, 2, 3)).eval()
    with pytest.raises(bl.ImageError, match=r"one reading of an image of shape .* but got two"):
        bl.tile(model, torch.rand(2, 20, 20))


def test_training_mode_is_refused() -> None:
    with pytest.raises(bl.ConversionError, match=r"got one in training mode \(the model itself\)"):
        bl.tile(Decoder(), IMAGE)


def test_no_room_for_waiting_maps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from borderless.partition import spill

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spill, "_write", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(bl.StorageError, match=r"maps that wait in .* No space left on device"):
        bl.tile(seeded(Decoder("group")), IMAGE, tile=16, memory=1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("border", ["valid", ("infinite", "valid")])
def test_outputs_that_the_border_does_not_know_are_refused(border: Any) -> None:
    model = bl.convert(seeded(nn.Conv2d(2, 1, 3, padding=1)), border)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: whole(model),
        lambda: bl.tile(model, IMAGE, tile=16),
        lambda: bl.tile(model, IMAGE, tile=100),
        lambda: bl.tile(model, IMAGE, tile=16, out=np.full((1, *SIZE), 7.0)),
        lambda: bl.region(model, IMAGE[None], ((0, 20), (0, 20))),
    )
    for call in calls:
        with pytest.raises(bl.ImageError, match="known"):
            call()
