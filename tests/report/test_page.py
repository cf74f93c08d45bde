"""The page: nothing from outside, nothing unescaped, every picture described; files whole or absent."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from borderless.report import Figure, Section, Table, limited_html, plain_text, plots, write
from borderless.runtime.files import write_atomically, write_csv


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def page(tmp_path: Path) -> str:
    still, film = tmp_path / "still.png", tmp_path / "film.gif"
    Image.new("RGB", (200, 100), "red").save(still, dpi=(192, 192))
    Image.new("P", (30, 30)).save(film, save_all=True, append_images=[Image.new("P", (30, 30), 1)])
    sections = [
        Section(
            "One <b>title</b>",
            ["Plain & <em>stressed</em> <script>alert(1)</script>", '<a href="https://example.org/a">read</a>'],
            [Figure(still, "A <code>caption</code>", 'alt "text"'), Figure(film, "moving", "a film")],
            [Table(["border", "error"], [["zero", 0.123456], ["full <x>", 0.0]], "note")],
        ),
        Section("Two"),
    ]
    return write(sections, tmp_path / "report.html", "Title", "Lead", "torch 2").read_text(encoding="utf-8")


def test_the_page_asks_the_network_for_nothing(page: str) -> None:
    for tag, attributes in Elements(page).found:
        assert tag not in ("script", "iframe", "object", "embed", "base")
        for name in ("src", "srcset", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:")
        if tag == "link":
            assert attributes["href"] == "data:,"
    assert not re.search(r"url\(|@import", page)
    assert "default-src 'none'; img-src data:" in page


def test_every_picture_is_inside_and_described(page: str) -> None:
    pictures = [attributes for tag, attributes in Elements(page).found if tag == "img"]
    assert [picture["alt"] for picture in pictures] == ['alt "text"', "a film"]
    assert [(picture["src"] or "")[:15] for picture in pictures] == ["data:image/png;", "data:image/gif;"]
    assert (pictures[0]["width"], pictures[0]["height"]) == ("100", "50")  # 192 dots an inch, shown at 96


def test_texts_are_escaped_but_for_the_allowed_tags(page: str) -> None:
    assert "Plain &amp; <em>stressed</em> &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert '<a href="https://example.org/a">read</a>' in page
    assert "One &lt;b&gt;title&lt;/b&gt;" in page
    assert "full &lt;x&gt;" in page
    assert "0.1235" in page


def test_the_page_has_what_phones_dark_screens_and_readers_need(page: str) -> None:
    assert '<html lang="en">' in page
    assert 'name="viewport" content="width=device-width' in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert '<a href="#section-2">Two</a>' in page
    assert "torch 2</p></footer>" in page


def test_the_same_sections_give_the_same_page(tmp_path: Path) -> None:
    sections = [Section("A", ["text"])]
    first = write(sections, tmp_path / "a.html", "t", "l").read_bytes()
    assert write(sections, tmp_path / "b.html", "t", "l").read_bytes() == first


def test_limited_html_refuses_what_would_not_close() -> None:
    with pytest.raises(ValueError, match="Expected every tag to be closed"):
        limited_html("<em>open")
    with pytest.raises(ValueError, match="Expected an open <em>"):
        limited_html("<b>crossed</em>")
    assert limited_html('<a href="javascript:x">y') == "&lt;a href=&quot;javascript:x&quot;&gt;y"
    assert plain_text("<b>1</b> < 2 &") == "1 < 2 &"


def test_figures_and_tables_say_what_they_lack(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"alternative text for the figure a\.png"):
        Figure(tmp_path / "a.png", "caption", " ")
    with pytest.raises(FileNotFoundError, match="draw it before"):
        write([Section("A", figures=[Figure(tmp_path / "a.png", "c", "a")])], tmp_path / "r.html", "t", "l")
    with pytest.raises(ValueError, match="save it as PNG"):
        write([Section("A", figures=[Figure(tmp_path / "a.bmp", "c", "a")])], tmp_path / "r.html", "t", "l")
    with pytest.raises(ValueError, match="Expected 2 cells"):
        Table(["a", "b"], [["1"]])
    assert not (tmp_path / "r.html").exists()


def test_numbers_are_set_flush_right() -> None:
    table = Table(["name", "value", "mixed"], [["zero", "98.5 ± 0.3", 1], ["full", "≈ 3.1×", "none"], ["-", "–", 2.5]])
    assert table.numeric_columns() == [False, True, False]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    write_atomically(path, "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_csv_keeps_all_digits(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ["a", "b"], [["x, y", 1 / 3]])
    assert (tmp_path / "t.csv").read_text() == f'a,b\n"x, y",{1 / 3}\n'


def test_drawing_leaves_the_callers_matplotlib_alone(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    fig, axes = plots.new_figure(1, 2, (2, 2.5))
    plots.heat_map(axes[0, 0], np.eye(3), title="heat", vmin=0, vmax=1, annotate="{:.0f}")
    shown = plots.feature_map(axes[0, 1], np.ones((4, 6)), vmin=0, vmax=1, start=(-1, -2), frame=(2, 2))
    assert shown.get_extent() == [-2, 4, 3, -1]
    with Image.open(plots.save(fig, tmp_path / "f.png", width_px=640)) as picture:
        assert picture.size == (640, 256)
    assert plots.to_image(fig).size == (480, 192)
    assert dict(matplotlib.rcParams) == before
    assert axes[0, 0].texts[0].get_text() == "1"
