"""`borderless tile` and what it is made of: image files, output files, runs that are killed, bands on Ray."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from PIL import Image

from borderless.cli.main import main
from borderless.errors import ImageError, RunError, StorageError
from borderless.partition import output_files
from borderless.partition.image_files import open_image
from borderless.partition.output_files import OutputFile
from borderless.partition.outputs import output_of_whole
from borderless.partition.resume import tile_to_file
from borderless.partition.runner import Grid, Runner
from borderless.partition.sources import tiled_image
from support.dying import run_and_die
from support.tiled_networks import Decoder, Several, seeded

SIZE = (61, 53)
PIXELS = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def run(out: Path, seed: int = 0, kill_at: int = -1) -> list[int]:
    """Run a network on in.npy tile after tile, into `out`; die at a tile. How many were done at each call."""
    model = seeded(Decoder(), seed)
    image = tiled_image(model, np.load(out.parent / "in.npy", mmap_mode="r"))
    calls: list[int] = []

    def progress(done: int, count: int) -> None:
        calls.append(done)
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    file = OutputFile(out, output_of_whole(model, image, (), {}))
    tile_to_file(Runner(model), image, Grid.regular(image.size, (9, 20)), file, {}, progress)
    return calls


def content(out: Path) -> dict[str, bytes]:
    """The bytes of a file, or of all files in a folder."""
    files = [path for path in out.rglob("*") if path.is_file()] if out.is_dir() else [out]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["zarr", "npy"])
def test_a_run_that_is_killed_twice_gives_the_same_bytes(ending: str, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.random.default_rng(0).random((2, *SIZE)))
    undisturbed, killed = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    assert run(undisturbed) == list(range(22))
    run_and_die(__file__, f"killed.run(Path({str(killed)!r}), kill_at=5)")
    with pytest.raises(RunError, match=r"Expected the same network as in the unfinished run of .* but got another"):
        run(killed, seed=1)
    run_and_die(__file__, f"killed.run(Path({str(killed)!r}), kill_at=13)")
    assert run(killed) == list(range(12, 22))
    assert content(killed) == content(undisturbed)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["in.npy", undisturbed.name, killed.name])
    expected = seeded(Decoder())(torch.from_numpy(np.load(tmp_path / "in.npy"))[None])[0].detach().numpy()
    found = zarr.open(killed)[:] if ending == "zarr" else np.load(killed)
    assert np.abs(found - expected).max() < 1e-12 * np.abs(expected).max()
    with pytest.raises(RunError, match="Expected a new file but got"):
        run(killed)


def write(name: str, folder: Path) -> Path:
    path = folder / name
    if name.endswith(".npy"):
        np.save(path, PIXELS.transpose(2, 0, 1))
    elif name.endswith(".zarr"):
        zarr.create_array(path, data=PIXELS.transpose(2, 0, 1), chunks=(3, 16, 16))
    elif name.startswith("tiled"):
        tifffile.imwrite(path, PIXELS, photometric="rgb", compression="zlib", tile=(16, 16))
    elif name.startswith("planar"):
        tifffile.imwrite(path, PIXELS.transpose(2, 0, 1), photometric="minisblack", metadata={"axes": "CYX"})
    elif name.endswith(".tif"):
        tifffile.imwrite(path, PIXELS, photometric="rgb")
    else:
        Image.fromarray(PIXELS).save(path)
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.zarr", "a.tif", "tiled.tif", "planar.tif", "a.png"])
def test_images_are_read_in_boxes(name: str, tmp_path: Path) -> None:
    image = open_image(write(name, tmp_path))
    assert image.shape == (3, *SIZE)
    found = np.asarray(image[0:2, 10:20, 30:53])
    np.testing.assert_array_equal(found, PIXELS.transpose(2, 0, 1)[0:2, 10:20, 30:53])


def test_a_gray_image_has_one_channel(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "a.png")
    image = open_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image[:, 3:5, 7:9], PIXELS[None, 3:5, 7:9, 0])


def test_images_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"Expected an image in .*a.png but got UnidentifiedImageError"):
        open_image(tmp_path / "a.png")
    with pytest.raises(ImageError, match="where there is none"):
        open_image(tmp_path / "b.png")
    zarr.open_group(tmp_path / "c.zarr", mode="w").create_array("0", shape=(3, 4, 4), dtype="u1")
    with pytest.raises(ImageError, match="a group of 0; give the path of one"):
        open_image(tmp_path / "c.zarr")
    assert open_image(tmp_path / "c.zarr" / "0").shape == (3, 4, 4)


@pytest.mark.parametrize("name", ["a.npy", "a.tif", "a.zarr"])
def test_outputs_are_written(name: str, tmp_path: Path) -> None:
    model = seeded(Decoder())
    pixels = torch.rand(2, *SIZE, dtype=torch.float64)
    image = tiled_image(model, pixels)
    with torch.no_grad():
        expected = model(pixels[None])
    path = tmp_path / name
    tile_to_file(Runner(model), image, Grid.regular(SIZE, (20, 20)), OutputFile(path, expected), {}, lambda *_: None)
    found = np.asarray(open_image(path)[:, :, :])
    np.testing.assert_allclose(found, expected[0].numpy(), rtol=1e-12, atol=1e-13)
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_several_outputs_are_arrays_of_a_group(tmp_path: Path) -> None:
    model = seeded(Several())
    pixels = torch.rand(2, *SIZE, dtype=torch.float64)
    with torch.no_grad():
        expected = model(pixels[None])
    with pytest.raises(ImageError, match=r"one output for a.tif but got 3: 'dense', 'rest/0', 'rest/1'"):
        OutputFile(tmp_path / "a.tif", expected)
    out = OutputFile(tmp_path / "a.zarr", expected)
    grid = Grid.regular(SIZE, (20, 20))
    tile_to_file(Runner(model), tiled_image(model, pixels), grid, out, {}, lambda *_: None)
    found = zarr.open_group(tmp_path / "a.zarr", mode="r")
    np.testing.assert_allclose(found["dense"][:], expected["dense"][0], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found["rest/1"][:], expected["rest"][1][0], rtol=1e-12)


def test_a_full_disk_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output_files.os, "posix_fallocate", full)
    out = OutputFile(tmp_path / "a.npy", torch.empty(1, 3, 4, 4))
    with pytest.raises(StorageError, match=r"Expected room for .*a.npy but got: .*No space left"):
        out.create()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "text"),
    [
        ("a.jpg", (1, 3, 4, 4), torch.uint8, r"ends in .zarr, .tif, .tiff, .npy, .png but got"),
        ("a.png", (1, 21, 4, 4), torch.float32, r"8-bit values .* but got float32 of shape \(21, 4, 4\)"),
        ("a.npy", (1, 3, 4, 4), torch.bfloat16, "got bfloat16"),
    ],
)
def test_outputs_that_a_file_does_not_hold(
    name: str, shape: tuple[int, ...], dtype: torch.dtype, text: str, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match=text):
        OutputFile(tmp_path / name, torch.empty(shape, dtype=dtype))


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = write("a.tif", tmp_path)
    words = ["tile", "lraspp_mobilenet_v3_large", str(image), str(tmp_path / "labels.png"), "--weights", "random"]
    assert main([*words, "--values", "labels", "--tile", "40", "--memory", "1MB"]) == 0, capsys.readouterr().err
    from borderless.models.preprocessing import normalization
    from borderless.models.request import NetworkRequest

    network = NetworkRequest("lraspp_mobilenet_v3_large", weights="random").load()
    mean, deviation = (torch.tensor(v).reshape(3, 1, 1) for v in normalization("lraspp_mobilenet_v3_large"))
    with torch.no_grad():
        expected = network(((torch.from_numpy(PIXELS.transpose(2, 0, 1)) / 255 - mean) / deviation)[None])["out"]
    found = np.asarray(Image.open(tmp_path / "labels.png"))
    assert np.mean(found == expected.argmax(1)[0].numpy()) > 0.99  # of equal logits the first, but for rounding
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "labels.png"]
    assert main([*words, "--values", "labels"]) == 2
    assert "which exists; choose another, or delete it" in capsys.readouterr().err
    assert main([*words[:3], str(tmp_path / "b.zarr"), *words[4:], "--output", "x"]) == 2
    assert "Expected" in capsys.readouterr().err
    assert main(["tile", "resnet18", str(image)]) == 2
    assert "write: borderless tile resnet18 image.tif output.zarr" in capsys.readouterr().err
