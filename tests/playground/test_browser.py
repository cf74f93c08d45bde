"""The playground in Chromium: the first action of each tab, the address, and other web sites."""

import functools
import http.server
import io
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from playground.test_server import Playground

pytestmark = pytest.mark.slow
pytest.importorskip("gradio")
sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REBOUND = "evil.example"
TINY = "network=timm/test_resnet&weights=random"
WAIT_MS = 90_000


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    started = Playground(tmp_path_factory.mktemp("temporary"))
    yield started
    started.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with sync_api.sync_playwright() as playwright:
        rebound = f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", rebound])
        yield opened
        opened.close()


@pytest.fixture
def tab(browser: Any, playground: Playground) -> Iterator[Any]:
    opened = browser.new_page(viewport={"width": 390, "height": 844})
    opened.set_default_timeout(WAIT_MS)
    requests, errors = [], []
    opened.on("request", lambda request: requests.append(request.url))
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    assert errors == []
    assert all(url.startswith((playground.address, "blob:", "data:", "about:")) for url in requests), requests
    opened.close()


def wait_for(tab: Any, name: str, text: str) -> str:
    tab.wait_for_function(f"document.querySelector('#{name}-shown .sentence')?.innerText.includes({text!r})")
    return tab.inner_text(f"#{name}-shown .sentence")


def test_the_first_actions_of_the_tabs_work_and_the_address_brings_them_back(
    tab: Any, playground: Playground, tmp_path: Path
) -> None:
    tab.goto(playground.address)
    wait_for(tab, "shift", "differ by 96 %")
    names = [each.inner_text() for each in tab.get_by_role("tab").all() if each.is_visible()]
    assert names == ["Shift", "Rook", "Network", "Tiles", "Audit"], "all at the width of a phone"
    box = tab.locator("#shift-shown img.scene").bounding_box()
    tab.mouse.click(box["x"] + 2, box["y"] + 2)
    tab.wait_for_url("**row=0&column=0**")
    tab.get_by_label("infinite").first.check()
    wait_for(tab, "shift", "agree")
    with tab.expect_download() as download:
        tab.click("#shift-gif")
    assert Path(download.value.path()).read_bytes().startswith(b"GIF89a")

    tab.get_by_role("tab", name="Rook").click()
    wait_for(tab, "rook", "Epoch 100")
    tab.click("#rook-play")
    wait_for(tab, "rook", "Epoch 4 ")
    tab.click("#rook-stop")

    tab.goto(f"{playground.address}/?tab=network&{TINY}&row=12&column=40")
    assert "cat" in wait_for(tab, "network", "in the middle")
    assert "row 12, column 40" in tab.inner_text("#network-shown")
    tab.click("#maps")
    tab.wait_for_function("document.querySelectorAll('#network-shown img').length === 3")
    tab.click("#network-play")
    tab.wait_for_function("document.querySelector('#network-shown .note').innerText.match(/column (?!40)\\d/)")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390


def white_share(png: bytes) -> float:
    """The share of pixels that are white, or nearly so."""
    with Image.open(io.BytesIO(png)) as picture:
        return float((np.asarray(picture.convert("RGB")).min(2) > 240).mean())


def test_nothing_that_is_shown_is_a_white_block_in_the_dark(browser: Any, playground: Playground) -> None:
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(WAIT_MS)
    # Not the first tab, whose feature maps are white where they are 0.
    for scheme, name, query in (
        ("dark", "rook", "tab=rook"),
        ("dark", "network", f"tab=network&{TINY}"),
        ("light", "rook", "tab=rook"),
    ):
        page.emulate_media(color_scheme=scheme)
        page.goto(f"{playground.address}/?{query}")
        wait_for(page, name, "Epoch 100" if name == "rook" else "in the middle")
        shown = page.locator(f"#{name}-shown")
        figures = shown.locator("figure").all()
        assert len(figures) >= 3
        shares = [white_share(part.screenshot()) for part in (shown, *figures)]
        assert max(shares) < 0.1 if scheme == "dark" else shares[0] > 0.3, (scheme, name, shares)
    page.close()


@pytest.mark.nightly
def test_an_audit_ends_with_its_report_in_the_page(tab: Any, playground: Playground, photographs: Path) -> None:
    tab.goto(f"{playground.address}/?tab=audit&{TINY}&size=32")
    (photographs / "text.png").write_text("not a picture")
    tab.set_input_files("#images input[type=file]", sorted(photographs.iterdir()))
    tab.wait_for_function("document.querySelectorAll('.thumbnails img').length === 7")
    tab.click("#audit")
    tab.wait_for_selector("#report iframe")
    assert "text.png: cannot be read as an image" in tab.input_value("#audit-state textarea, #audit-state input")
    report = tab.frame_locator("#report iframe").locator("h1")
    report.wait_for()
    assert "timm/test_resnet" in report.inner_text()
    with tab.expect_download() as download:
        tab.click("#audit-save")
    assert b"timm/test_resnet" in Path(download.value.path()).read_bytes()
    tab.click("#audit")
    tab.wait_for_function("document.querySelector('#audit-state textarea, #audit-state input').value.includes('done')")
    tab.click("#audit-stop")
    tab.wait_for_function("document.querySelector('#audit-state textarea, #audit-state input').value == 'canceled'")


def test_another_web_site_cannot_upload_and_a_rebound_name_reaches_nothing(
    browser: Any, playground: Playground, tmp_path: Path
) -> None:
    (tmp_path / "index.html").write_text("<p>another site</p>")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        page = browser.new_page()
        statuses: list[int] = []
        page.on("response", lambda response: statuses.append(response.status) if "upload" in response.url else None)
        page.goto(f"http://localhost:{other.server_address[1]}/")
        page.evaluate(
            """async (address) => {
              const form = new FormData();
              form.append("files", new File(["x"], "planted.png"));
              await fetch(address, {method: "POST", body: form, mode: "no-cors"});
            }""",
            f"{playground.address}/gradio_api/upload",
        )
        page.wait_for_timeout(500)
        assert statuses == [403]
        port = playground.address.rpartition(":")[2]
        found = page.goto(f"http://{REBOUND}:{port}/")
        assert found.status == 400 and "Expected the address of this machine" in page.content()
        other.shutdown()
        page.close()
