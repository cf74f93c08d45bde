"""Anyone's folder: what can be in it, and what becomes of it."""

import os
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from borderless.data import imagenet, pictures
from borderless.errors import DataError


def save(folder: Path, name: str, image: Image.Image, **options: object) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def colours(size: tuple[int, int] = (40, 30)) -> Image.Image:
    draw = np.random.default_rng(0)
    return Image.fromarray(draw.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def test_every_kind_of_picture_is_read_and_counted(tmp_path: Path) -> None:
    save(tmp_path, "plain.jpg", colours())
    save(tmp_path, "grey.png", colours().convert("L"))
    save(tmp_path, "deep.png", Image.fromarray(np.full((30, 40), 65535, np.uint16)))
    save(tmp_path, "print.jpg", colours().convert("CMYK"))
    save(tmp_path, "clear.png", Image.new("RGBA", (40, 30), (255, 255, 255, 0)))
    save(
        tmp_path,
        "moving.gif",
        colours(),
        save_all=True,
        append_images=[colours().rotate(180), colours().transpose(Image.Transpose.FLIP_LEFT_RIGHT)],
    )
    save(tmp_path, "one.png", Image.new("RGB", (1, 1)))
    (tmp_path / "broken.jpg").write_bytes((tmp_path / "plain.jpg").read_bytes()[:200])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "notes.txt").write_text("not asked for")
    found = pictures.from_folder(tmp_path, 20, 16)
    assert found == pictures.from_folder(tmp_path, 20, 16, workers=3)
    assert len(found) == 6
    assert {image.shape for image in found} == {(3, 16, 16)}
    assert found.drawn_from == 9
    assert found.labels is None
    assert found.kinds == {
        "gray": 1,
        "16 bits or more": 1,
        "CMYK": 1,
        "transparent (on black)": 1,
        "animated (first frame)": 1,
    }
    reasons = " ".join(found.skipped)
    assert len(found.skipped) == 3
    for part in ("one.png: 1 × 1 pixels", "broken.jpg: cannot be read", "text.png: cannot be read"):
        assert part in reasons
    by_name = dict(zip(found.names, found, strict=True))
    white = (1 - torch.tensor(imagenet.MEAN)) / torch.tensor(imagenet.DEVIATION)
    black = -torch.tensor(imagenet.MEAN) / torch.tensor(imagenet.DEVIATION)
    assert torch.allclose(by_name["deep.png"].mean((1, 2)), white, atol=1e-5)
    assert torch.allclose(by_name["clear.png"].mean((1, 2)), black, atol=1e-5)


def test_a_picture_of_absurd_size_is_not_unpacked(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )
    (tmp_path / "bomb.png").write_bytes(bomb)
    save(tmp_path, "fine.png", colours())
    found = pictures.from_folder(tmp_path, 5, 16)
    assert found.skipped == ("bomb.png: too large for safe reading",)


def test_class_folders_are_labels_and_the_draw_follows_the_seed(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        for i in range(4):
            save(tmp_path, f"{name}/{i}.png", colours())
    found = pictures.from_folder(tmp_path, 5, 16, seed=1)
    assert found.classes == ("cats", "dogs")
    assert found.labels is not None
    assert [name.split("/")[0] == "dogs" for name in found.names] == found.labels.bool().tolist()
    assert pictures.from_folder(tmp_path, 5, 16, seed=1).names == found.names
    assert pictures.from_folder(tmp_path, 5, 16, seed=2).names != found.names
    assert len(set(found.names)) == 5


def test_only_what_is_drawn_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(30):
        save(tmp_path, f"{i}.png", colours())
    seen = []
    opened = pictures._opened
    monkeypatch.setattr(pictures, "_opened", lambda path: seen.append(path) or opened(path))
    assert len(pictures.from_folder(tmp_path, 3, 16)) == 3
    assert len(seen) == 3


def test_folders_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Expected a folder of images"):
        pictures.from_folder(tmp_path / "missing", 3, 16)
    with pytest.raises(DataError, match=r"Expected files .* but got none"):
        pictures.from_folder(tmp_path, 3, 16)
    (tmp_path / "a.png").write_text("no")
    with pytest.raises(DataError, match=r"cannot be used \(a\.png: cannot be read"):
        pictures.from_folder(tmp_path, 3, 16)


def test_the_photographs_inside_the_package() -> None:
    pytest.importorskip("skimage")
    found = pictures.photographs(32)
    assert {image.shape for image in found} == {(3, 32, 32)}
    assert len({image.sum().item() for image in found}) == 16


def test_a_pipe_is_skipped_with_its_reason(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    save(tmp_path, "fine.png", colours())
    found = pictures.from_folder(tmp_path, 5, 16)
    assert found.skipped == ("pipe.png: no ordinary file",)


def test_formats_that_start_programs_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\nshowpage\n")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises(DataError, match="cannot be read as an image"):
        pictures.opened(tmp_path / "script.png")


def test_a_reason_does_not_tell_the_folder(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no")
    with pytest.raises(DataError) as found:
        pictures.opened(tmp_path / "text.png")
    assert "text.png" in str(found.value)
    assert str(tmp_path) not in str(found.value)


def many_pages(path: Path, count: int) -> None:
    """Write a TIFF whose pages all point at one strip of 16 × 16 gray pixels."""
    tags = [(256, 16), (257, 16), (258, 8), (259, 1), (262, 1), (273, 8), (278, 16), (279, 256)]
    size = 2 + 12 * len(tags) + 4
    pages, start = [], 8 + 256
    for i in range(count):
        entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
        following = 0 if i == count - 1 else start + (i + 1) * size
        pages.append(struct.pack("<H", len(tags)) + entries + struct.pack("<I", following))
    path.write_bytes(b"II*\0" + struct.pack("<I", start) + bytes(256) + b"".join(pages))


def test_a_tiff_of_many_pages_takes_no_longer_than_one_of_two(tmp_path: Path) -> None:
    many_pages(tmp_path / "many.tif", 16_000)
    start = time.process_time()
    image, kinds = pictures.opened(tmp_path / "many.tif")
    assert time.process_time() - start < 0.5  # counting the pages takes seconds
    assert image.size == (16, 16)
    assert kinds == ["animated (first frame)", "gray"]


def test_deep_pictures_are_scaled_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = np.arange(1000 * 1000, dtype=np.uint32).reshape(1000, 1000) % 65536
    deep[0, :2] = 0, 65535
    save(tmp_path, "deep.png", Image.fromarray(deep.astype(np.uint16)))
    tracemalloc.start()
    image, _ = pictures.opened(tmp_path / "deep.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(np.asarray(image)[..., 0], (deep / 257).round())
    monkeypatch.setattr(pictures, "_BLOCK_PX", 10_000)
    tracemalloc.start()
    again, _ = pictures.opened(tmp_path / "deep.png")
    assert tracemalloc.get_traced_memory()[1] < peak / 2
    tracemalloc.stop()
    assert again == image


def test_pixels_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((30, 40)).astype(np.float32)
    save(tmp_path, "real.tif", Image.fromarray(values))
    assert np.ptp(np.asarray(pictures.opened(tmp_path / "real.tif")[0])) == 255
    values[3, 3] = np.nan
    save(tmp_path, "nan.tif", Image.fromarray(values))
    with pytest.raises(DataError, match="no numbers"):
        pictures.opened(tmp_path / "nan.tif")


def test_lab_is_not_transparent(tmp_path: Path) -> None:
    save(tmp_path, "lab.tif", colours().convert("LAB"))
    assert pictures.opened(tmp_path / "lab.tif")[1] == ["LAB"]


def test_names_that_are_not_utf_8_are_shown_with_escapes(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.png")).write_text("junk")
    save(tmp_path, "fine.png", colours())
    (skipped,) = pictures.from_folder(tmp_path, 5, 16).skipped
    assert skipped.startswith(r"bad\xff.png: cannot be read")
    skipped.encode("utf-8")
