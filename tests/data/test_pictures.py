"""Anyone's folder: what can be in it, and what becomes of it."""

import struct
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
        "grey": 1,
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
    with pytest.raises(DataError, match="which is no folder"):
        pictures.from_folder(tmp_path / "missing", 3, 16)
    with pytest.raises(DataError, match="holds no images"):
        pictures.from_folder(tmp_path, 3, 16)
    (tmp_path / "a.png").write_text("no")
    with pytest.raises(DataError, match=r"none can be used \(a\.png: cannot be read"):
        pictures.from_folder(tmp_path, 3, 16)


def test_the_photographs_inside_the_package() -> None:
    pytest.importorskip("skimage")
    found = pictures.photographs(32)
    assert {image.shape for image in found} == {(3, 32, 32)}
    assert len({image.sum().item() for image in found}) == 16
