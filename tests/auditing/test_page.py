"""The audit's page in a browser: nothing loaded, nothing wider than a phone, every figure there."""

import shutil
from pathlib import Path

import pytest
import torch

import borderless as bl
from support.planted import network

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    images = torch.randn(8, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    return bl.audit(network(), images, torch.arange(8) % 3, name="planted").save(folder)


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
