"""What the tabs show are the library's numbers, and the programs that they offer print the same."""

import contextlib
import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from borderless.data.photos import load_photo
from borderless.errors import DataError, ImageError
from borderless.playground import audit_tab, audits, network_tab, networks, rook_tab, shift_tab, tiles_tab
from borderless.playground.networks import NetworkChoice, prepare
from borderless.playground.panels import Lines

pytest.importorskip("skimage")
TINY = ("timm/test_resnet", "random", "fixed", "2")
SHIFT = ("↖", 8, "corner", 0.0, 8, 8)
NETWORK = ("cat", "infinite", 12, 40, *TINY)


def printed(program: str) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        exec(compile(program, "program", "exec"), {})
    return text.getvalue()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training of a few epochs."""
    monkeypatch.setattr(rook_tab, "EPOCHS", 3)
    monkeypatch.setattr(rook_tab, "_PLAYED", (0, 3))
    rook_tab.history.cache_clear()


@pytest.mark.parametrize("border", ["valid", "zero", "full", "infinite"])
def test_both_orders_agree_where_the_border_keeps_everything(border: str) -> None:
    found = shift_tab.compare(border, *SHIFT)
    assert (found.difference < 1e-6) is (border in ("full", "infinite"))
    assert found.shift == (-8, -8)


def test_the_first_view_shows_a_large_effect() -> None:
    assert shift_tab.compare("zero", *SHIFT).difference > 0.9
    assert "96 %" in shift_tab.shown("zero", *SHIFT).sentence


def test_a_bias_shows_the_frame_under_full_but_not_under_infinite() -> None:
    full, infinite = (shift_tab.compare(b, "↗", 8, "mean", 0.5, 8, 0).difference for b in ("full", "infinite"))
    assert full > 0.05 and infinite < 1e-6


@pytest.mark.parametrize(
    ("direction", "position", "shift"),
    [("↖", (0, 0), (16, 16)), ("↘", (12, 3), (4, 13)), ("↑", (5, 9), (-5, 0)), ("→", (0, 16), (0, -16))],
)
def test_a_shift_ends_at_the_edge_of_the_image(
    direction: str, position: tuple[int, int], shift: tuple[int, int]
) -> None:
    assert shift_tab.compare("zero", direction, 16, "mean", 0.0, *position).shift == shift
    assert shift_tab.shown("zero", direction, 16, "mean", 0.0, *position).rows


@pytest.mark.parametrize(
    ("click", "letter", "photo"),
    [((0.0, 0.0), (0, 0), (0, 0)), ((0.5, 0.5), (8, 8), (64, 64)), ((1.0, 0.2), (16, 1), (128, 0))],
)
def test_a_click_moves_the_object_and_leaves_it_whole(
    click: tuple[float, float], letter: tuple[int, int], photo: tuple[int, int]
) -> None:
    assert tuple(shift_tab.clicked(*click).values()) == letter
    assert tuple(network_tab.clicked(*click).values()) == photo


def test_the_program_of_the_first_tab_prints_its_number() -> None:
    for border in ("zero", "infinite"):
        values: Any = (border, "↗", 7, "mean", 0.25, 8, 5)
        assert float(printed(shift_tab.code(*values))) == pytest.approx(
            shift_tab.compare(*values).difference, rel=2e-3, abs=1e-6
        )


def test_the_program_of_the_rook_prints_its_accuracies(short: None) -> None:
    last = rook_tab.history("full", 1)[3]
    expected = f"full: {100 * last.accuracy:.0f} %, loss {last.loss:.3f}"
    assert printed(rook_tab.code("full", 1, 3)).splitlines()[1] == expected
    assert [moved["epoch"] for moved, _ in rook_tab.frames("full", 1, 0)] == [0, 3]
    assert "2 under zero" in rook_tab.shown("full", 1, 3).sentence


def test_the_rook_tab_shows_both_images_the_loss_and_what_each_map_is(short: None) -> None:
    shown = rook_tab.shown("infinite", 0, 3)
    images, *networks = shown.rows
    assert [panel.title for panel in images.panels] == ["Class 1: upper left", "Class 2: lower right", "Loss by epoch"]
    loss = images.panels[2]
    assert isinstance(loss, Lines) and loss.at == 3
    assert {name: len(values) for name, values in loss.lines.items()} == {"zero": 4, "infinite": 4}
    assert [row.heading for row in networks] == ["zero", "infinite"]
    for row in networks:
        moment = rook_tab.history(row.heading, 0)[3]
        maxima = [f"maximum {float(values.max()):.3f}" for values in moment.maps]
        assert [panel.note for panel in row.panels] == [f"accuracy {100 * moment.accuracy:.0f} %", *maxima]
    html = shown.html()
    assert all(html.count(f"<figcaption>{panel.title}") for row in shown.rows for panel in row.panels)


def test_predictions_are_those_of_the_canvas_run_whole() -> None:
    chosen = prepare(NetworkChoice(*TINY[:2]))
    position = (10, 100)
    whole = torch.zeros(2, 3, 224, 224)
    pixels = load_photo("coffee", 96)
    thing = (pixels - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    for canvas, (row, column) in zip(whole, (network_tab.MIDDLE, position), strict=True):
        canvas[:, row : row + 96, column : column + 96] = thing
    expected = chosen.model(whole).double().softmax(1)
    torch.testing.assert_close(
        chosen.probabilities("coffee", [network_tab.MIDDLE, position]), expected, rtol=1e-4, atol=1e-7
    )


def test_visitors_who_ask_at_once_all_get_what_one_alone_gets() -> None:
    network = prepare(network_tab.choices("infinite", *TINY)[1])
    asked = [(at, 40) for at in range(8)]
    alone = [network.probabilities("coffee", [at]) for at in asked]
    with ThreadPoolExecutor(max_workers=4) as pool:
        together = list(pool.map(lambda at: network.probabilities("coffee", [at]), asked))
    torch.testing.assert_close(together, alone)


def test_the_program_of_the_network_prints_its_probabilities() -> None:
    both = network_tab.choices("infinite", *TINY)
    label = network_tab.label_of("cat", both[0])
    assert label.classes == (281, 282, 285)
    lines = printed(network_tab.code(*NETWORK)).splitlines()
    for line, choice in zip(lines, both, strict=True):
        shares = [label.share(p) for p in prepare(choice).probabilities("cat", [network_tab.MIDDLE, (12, 40)])]
        assert [float(number) for number in line[8:-2].split(",")] == pytest.approx(shares, rel=1e-2)


def test_maps_grow_row_by_row_and_hold_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_tab, "MAP_SIDE", 2)
    monkeypatch.setattr(network_tab, "OFFSETS", (0, 128))
    monkeypatch.setattr(network_tab, "_MAPS", {})
    assert len(network_tab.shown(*NETWORK).rows) == 1
    steps = network_tab.growing_maps("cat", "infinite", *TINY)
    assert next(steps) == 1
    both = network_tab.choices("infinite", *TINY)
    maps = [network_tab._MAPS[choice, "cat"] for choice in both]
    assert all(np.isnan(found[1]).all() and not np.isnan(found[0]).any() for found in maps)
    assert list(steps) == [2]
    label = network_tab.label_of("cat", both[0])
    assert maps[1][1, 0] == pytest.approx(label.share(prepare(both[1]).probabilities("cat", [(128, 0)])[0]))
    assert len(network_tab.shown(*NETWORK).rows) == 2


def test_the_occlusion_map_says_what_hiding_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_tab, "_HIDDEN", {})
    before = len(network_tab.shown(*NETWORK).rows[0].panels)
    network_tab.hide(*NETWORK)
    panel = network_tab.shown(*NETWORK).rows[0].panels[-1]
    assert len(network_tab.shown(*NETWORK).rows[0].panels) == before + 1 and panel.title.startswith("Occlusion map")
    original, _ = network_tab.choices("infinite", *TINY)
    heat, network = network_tab._HIDDEN[original, "cat", (12, 40)], prepare(original)
    found = network.hidden("cat", (12, 40))
    canvas = torch.zeros(1, 3, networks.CANVAS_PX, networks.CANVAS_PX)
    canvas[0, :, 12:108, 40:136] = (load_photo("cat", 96) - network.mean) / network.deviation
    canvas[0, :, 24:48, 64:88] = 0
    expected = network.model(canvas).double().softmax(1)[0]
    assert (found.rows[1], found.columns[2]) == (24, 64)
    torch.testing.assert_close(found.outputs[1, 2], expected, rtol=1e-4, atol=1e-7)
    classes = list(network_tab.label_of("cat", original).classes)
    corner = found.whole[classes].sum() - found.outputs[0, 0, classes].sum()
    assert heat[12, 40] == pytest.approx(float(corner)) and np.isnan(heat[:12]).all() and np.isnan(heat[108:]).all()


def test_tiles_have_seams_that_bl_tile_has_not() -> None:
    found = tiles_tab.differences("coffee", 256, "half", 2)
    alone, blended, ours = found.values()
    assert alone.shape == (128, 128) and alone[63:65].min() > 1e-3 and alone[:40, :40].max() < 1e-5
    assert 1e-5 < blended.max() < alone.max()
    assert ours.max() < 1e-5
    assert found.keys() == tiles_tab.differences("coffee", 256, "none", 2).keys()
    printed_ones = [float(line) for line in printed(tiles_tab.code("coffee", "256", "half", 2)).splitlines()]
    assert printed_ones[0] == pytest.approx(alone.max(), rel=1e-2) and printed_ones[1] < 1e-5
    shown = tiles_tab.shown("coffee", "256", "half", 2)
    assert shown.sentence.startswith("Tiles of 256 px differ") and len(shown.rows[0].panels) == 4
    assert [moved["stages"] for moved, _ in tiles_tab.frames("coffee", "256", "half", 2)] == [1, 2, 3, 4]


def test_the_photograph_plays_from_edge_to_edge() -> None:
    moved = [values["column"] for values, _ in network_tab.frames(*NETWORK)]
    assert moved[0] == 0 and moved[-1] == network_tab.ROOM_PX


def test_networks_that_are_too_large_are_refused_before_they_are_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "MOST_PARAMETERS", 1e5)
    loaded = []
    monkeypatch.setattr(networks, "seeded", lambda seed: loaded.append(seed))
    with pytest.raises(ImageError, match=r"Expected at most 0 million parameters but got 1 million for timm/test_vit4"):
        networks._loaded.__wrapped__("timm/test_vit4", "random")
    assert loaded == []


def test_what_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "MOST_MACS", 1e6)
    with pytest.raises(ImageError, match=r"multiply-adds per image but got .* Choose a smaller network"):
        prepare.__wrapped__(NetworkChoice(*TINY[:2]))


def test_uploads_are_read_safely_and_named_without_their_folder(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "good.png")
    (tmp_path / "<b>.png").write_text("no picture")
    files = [tmp_path / "good.png", tmp_path / "<b>.png"]
    chosen = prepare(NetworkChoice(*TINY[:2]))
    images, problems = audit_tab.read(files, 32, chosen)
    assert images.shape == (1, 3, 32, 32) and problems[0].startswith("<b>.png: ")
    shown = audit_tab.thumbnails(files)
    assert shown.count("<img") == 1 and "<b>.png" not in shown and str(tmp_path) not in shown
    with pytest.raises(DataError, match="Expected an image that can be read but got"):
        audit_tab.read(files[1:], 32, chosen)
    with pytest.raises(DataError, match="Expected at most 32 images but got 33"):
        audit_tab.read(files[:1] * 33, 32, chosen)


def test_the_report_is_framed_without_scripts_and_cannot_leave_its_frame() -> None:
    framed = audit_tab.framed('<p class="a">1 & 2</p></iframe><script>')
    assert framed.count("<") == 2 and "allow-scripts" not in framed and "allow-same-origin" not in framed


def test_pictures_to_save_hold_all_panels(short: None) -> None:
    picture = rook_tab.shown("full", 0, 3).picture()
    assert picture.width > 3 * 240 and picture.height > 3 * 240
    assert len(picture.getcolors(1 << 24) or []) > 50


@pytest.mark.nightly
def test_an_audit_without_files_takes_the_photographs_and_can_be_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_tab, "PHOTOGRAPHS", audit_tab.PHOTOGRAPHS[:4])
    steps = list(audit_tab.run([], *TINY[:2], 32))
    assert steps[-1][0] == "done: 4 images" and "<iframe" in steps[-1][1]
    leaving = audit_tab.run([], *TINY[:2], 32)
    while "waiting" in next(leaving)[0]:
        pass
    leaving.close()
    until = time.monotonic() + 20
    while audits._RUNNING and time.monotonic() < until:
        time.sleep(0.1)
    assert not audits._RUNNING
    assert not prepare(NetworkChoice(*TINY[:2])).model._forward_pre_hooks


@pytest.mark.nightly
def test_the_program_of_the_audit_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = audit_tab.code("timm/test_resnet", "random", 32)
    assert "timm/test_resnet" in printed(program)
    assert (tmp_path / "runs/audit/report.html").is_file()
