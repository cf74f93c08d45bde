"""Figures on dark screens: what is drawn changes its lightness, what is seen in images and color bars stays."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from borderless.report import Card, Figure, Note, Section, Table, plots, write
from borderless.report.numbers import safe


def test_a_figure_has_a_second_picture_with_its_images_as_they_are(tmp_path: Path) -> None:
    fig, axes = plots.new_figure(1, 2, (2, 2.5))
    plots.heat_map(axes[0, 0], np.full((3, 3), 50.0), title="white", vmin=0, vmax=50, cmap="gray")
    axes[0, 1].plot([0, 1], color="#c43c2a", linewidth=30)
    path = plots.save(fig, tmp_path / "figure.png")
    page = write([Section("A", figures=[Figure(path, "c", "a")])], tmp_path / "r.html", "t", "l").read_text()
    data = page.split('<source srcset="data:image/webp;base64,')[1].split('"')[0]
    light = np.asarray(Image.open(path).convert("RGB"))
    dark = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert light.shape == dark.shape
    height, width = light.shape[:2]
    # White paper becomes the page's dark one; the white cells of the image, at its middle, stay white.
    assert (light[2, 2] == 255).all() and (dark[2, 2] == (23, 23, 26)).all()
    middle = height // 2, int(0.2 * width)
    assert (light[middle] == 255).all() and (dark[middle] == 255).all()
    # Red stays red.
    red = np.argwhere((light == (196, 60, 42)).all(2))
    assert len(red) > 100
    r, g, b = dark[tuple(red[len(red) // 2])].astype(int)
    assert r > g + 60 and r > b + 60


def test_the_boxes_of_images_are_where_the_images_are_saved(tmp_path: Path) -> None:
    fig, axes = plots.new_figure(1, 2, (2.9, 3.6))
    for ax in axes[0]:
        plots.heat_map(ax, np.zeros((5, 5)), title="dark", vmin=0, vmax=30, extent=(0, 128, 128, 0), label="%")
        ax.set(xlabel="column of the object, px", ylabel="row, px")
    path = plots.save(fig, tmp_path / "figure.png")
    page = write([Section("A", figures=[Figure(path, "c", "a")])], tmp_path / "r.html", "t", "l").read_text()
    data = base64.b64decode(page.split('<source srcset="data:image/webp;base64,')[1].split('"')[0])
    pictures = [Image.open(path), Image.open(io.BytesIO(data))]
    light, dark = ((np.asarray(one.convert("RGB"))[280] == (68, 1, 84)).all(1) for one in pictures)
    assert light.sum() > 800
    assert (light & dark).sum() >= light.sum() - 4, "the left and right edges of two images"


def test_pictures_of_other_programs_keep_a_light_box(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    page = write([Section("A", figures=[Figure(tmp_path / "a.png", "c", "a")])], tmp_path / "r.html", "t", "l")
    assert "<source" not in page.read_text()
    assert 'class="box plain"' in page.read_text()


def test_what_is_wider_than_a_phone_says_that_it_scrolls(tmp_path: Path) -> None:
    Image.new("RGB", (900, 300)).save(tmp_path / "wide.png", dpi=(96, 96))
    Image.new("RGB", (350, 250)).save(tmp_path / "narrow.png", dpi=(96, 96))
    narrow = [Figure(tmp_path / "narrow.png", "c", "a")], [Table(["a", "b"], [["1", "2"]])]
    wide = [Figure(tmp_path / "wide.png", "c", "a")], [Table(["a", "b", "c"], [["word " * 5, "word " * 5, "x" * 9]])]
    for (figures, tables), hints in ((narrow, 0), (wide, 2)):
        page = write([Section("A", figures=figures, tables=tables)], tmp_path / "r.html", "t", "l").read_text()
        assert page.count('<p class="hint"') == hints


def test_badges_results_and_commands(tmp_path: Path) -> None:
    notes = [Note(level, f"text of {level}") for level in ("fail", "warning", "pass", "info")]
    card = Card(Note("fail", "Head"), "45 %", "of predictions", ["fact"], [], "Next:", "borderless audit <x>")
    second = Section("Two", notes=[Note("info", "t", ["a", "b"])])
    sections = [Section("One", notes=notes, result="What was found"), second]
    page = write(sections, tmp_path / "r.html", "Title", "Lead", card=card).read_text()
    for badge in ("Fail", "Warning", "Pass", "Info"):
        assert f'<span class="badge">{badge}</span>' in page
    assert page.count("What was found") == 2  # in the list of contents and under its heading
    assert "<pre><code>a\nb</code></pre>" in page
    assert "<pre><code>borderless audit &lt;x&gt;</code></pre>" in page
    assert page.index("45 %") < page.index("Lead") < page.index("<nav")


def test_names_cannot_turn_the_text_around() -> None:
    assert safe("a\u202egpj.exe") == "a\\u202egpj.exe"


def test_an_animation_needs_no_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "film.partial.gif").mkdir()  # as another process may have one
    first = Image.new("RGB", (20, 20), "red")
    first.paste("blue", (0, 0, 5, 5))
    pictures = [first, first.transpose(Image.Transpose.ROTATE_180)]
    with Image.open(plots.save_animation(pictures, tmp_path / "film.gif", 100, 300)) as film:
        assert film.n_frames == 2
