"""The audit's page in a browser: nothing loaded, nothing wider than a phone, every figure there."""

import dataclasses
import html
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import borderless as bl
from borderless.auditing.result import Origin
from support.planted import network

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def read(page: str) -> str:
    """Return what a reader sees, on one line."""
    return " ".join(re.sub("<[^>]+>", "", page).replace("\u00a0", " ").split())


@pytest.fixture(scope="module")
def audited() -> bl.Audit:
    images = torch.randn(8, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    return bl.audit(network(), images, torch.arange(8) % 3, name="planted")


@pytest.fixture(scope="module")
def page(audited: bl.Audit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return audited.save(tmp_path_factory.mktemp("audit"))


def test_the_page_stands_alone_and_fits_a_phone(page: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for width, scheme in ((390, "light"), (1200, "dark")):
            tab = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
            requests, messages = [], []
            tab.on("request", lambda request, seen=requests: seen.append(request.url))
            tab.on("console", lambda message, seen=messages: seen.append(message.text))
            tab.goto(page.as_uri())
            tab.wait_for_timeout(200)
            assert [url for url in requests if not url.startswith("data:")] == [page.as_uri()]
            assert messages == []
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            pictures = tab.evaluate(
                "[...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight, i.alt.length])"
            )
            assert len(pictures) == 7
            assert all(done and wide > 300 and high > 100 and text > 40 for done, wide, high, text in pictures)
            colour = tab.evaluate("getComputedStyle(document.body).backgroundColor")
            assert colour == ("rgb(255, 254, 251)" if scheme == "light" else "rgb(23, 23, 26)")
        browser.close()


def test_a_figure_holds_more_than_its_background(page: Path) -> None:
    from PIL import Image

    for name in ("example", "positions", "everywhere", "causes", "depth", "maps", "reach"):
        with Image.open(page.parent / f"{name}.png") as picture:
            assert len(picture.convert("RGB").getcolors(10_000_000) or []) > 50, name


def test_the_record_is_there_even_if_the_page_cannot_be_drawn(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    found = bl.audit(network(), images, parts=["layout"])

    def fail(*_: object) -> None:
        raise RuntimeError("no fonts")

    monkeypatch.setattr("borderless.auditing.page.write", fail)
    with pytest.raises(RuntimeError, match="no fonts"):
        found.save(tmp_path)
    assert json.loads((tmp_path / "audit.json").read_text())["schema"] == 3


def test_each_effect_has_its_own_number_of_objects_and_positions(page: Path) -> None:
    text = page.read_text().replace("\u00a0", " ")
    for head in ("the network as it is", "converted, not fine-tuned, on an empty canvas"):
        assert f'{head}</th><th scope="col" class="number">objects × positions</th>' in text
    for row, counts in (("on photographs", "8 × 24"), ("infinite, whole strides apart (control)", "4 × 4")):
        assert f'<td>{row}</td><td class="number">{counts}</td>' in text


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (
            Origin(network="resnet18", command="borderless audit resnet18"),
            "borderless finetune resnet18 --data PHOTOS --border infinite --phase adaptive --reach 2",
        ),
        (
            Origin(network="resnet18 --weights random", is_random=True),  # there is nothing to fine-tune
            "borderless explain resnet18 --border infinite",
        ),
        (Origin(), None),
    ],
)
def test_the_first_screen_ends_with_the_command_to_run_next(
    audited: bl.Audit, origin: Origin, command: str | None, tmp_path: Path
) -> None:
    enough = tuple(dataclasses.replace(point, is_enough=point.reach == 2) for point in audited.reach)
    results = {name: audited.results[name] for name in ("layout", "sensitivity")} | {"reach": enough}
    text = dataclasses.replace(audited, origin=origin, results=results).save(tmp_path).read_text()
    card = html.unescape(read(text.split('<div class="card">')[1].split('<p class="lead')[0]))
    assert ("borderless " in card) is (command is not None)
    assert command is None or card.endswith(command)


def test_a_border_that_changes_every_cell_is_said_to_reach_everywhere(tmp_path: Path) -> None:
    images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    layers = [nn.Conv2d(3 if i == 0 else 4, 4, 3, padding=1) for i in range(12)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    text = bl.audit(model, images, parts=["border_error"]).save(tmp_path).read_text()
    assert text.count("<td>everywhere</td>") == 6
    assert "In 6 of 12 feature maps, from 6 on (receptive field 15 px), the border changes every cell" in read(text)
    assert "Half of the receptive field is on each side of a cell." in read(text)


def test_weights_preprocessing_and_names_are_on_the_page(tmp_path: Path) -> None:
    images = torch.randn(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    origin = Origin(
        network="resnet18 --weights random",
        weights="random, drawn with seed 0",
        is_random=True,
        preprocessing="middle of 24 × 24 px",
        names=("a.png", "bad\udcff.png"),
        command="borderless audit resnet18 --weights random",
    )
    found = bl.audit(network(), images, parts=["layout"], name="mine", origin=origin)
    text = found.save(tmp_path).read_text()
    assert "<h1>Audit of mine (RANDOM WEIGHTS)</h1>" in text
    assert "Whether mine (RANDOM WEIGHTS) depends on position could not be measured" in str(found)
    for word in (
        "random, drawn with seed 0",
        "middle of 24 × 24 px",
        r"bad\udcff.png",
        "--weights random",
    ):
        assert word in read(text)
    assert found.to_dict()["model"]["has_random_weights"] is True


def test_the_first_screen_has_the_number_with_its_interval_the_pictures_and_a_command(page: Path) -> None:
    text = page.read_text()
    card = text.split('<div class="card">')[1].split("<nav")[0]
    assert "(95 % interval 0–0 %, 8 objects × 24 positions)" in read(card)
    assert card.count("<img ") == 2
    assert '<span class="badge">Warning</span>' in card
    # Effects of converted networks are in a table of their own.
    assert "the network as it is" in text
    assert "converted, not fine-tuned, on an empty canvas" in text
    assert text.index("Against the border") < text.index("Which border should I use?"), "where advice is, more is named"
