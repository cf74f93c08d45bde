"""The playground in a browser: every tab, its numbers, cancelling, bad uploads, many visitors, who can reach it."""

import concurrent.futures
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from borderless.playground import views

pytestmark = pytest.mark.slow
pytest.importorskip("gradio")
sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TINY = "timm/test_resnet"
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "borderless", "playground", "--no-open", "--port", str(port)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert "The playground is at" in line, line
            yield line.split()[4]
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    tab = browser.new_page(viewport={"width": 1100, "height": 900})
    tab.set_default_timeout(WAIT_MS)
    requests, errors = [], []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(address)
    tab.wait_for_function("document.querySelector('#difference textarea')?.value")
    yield tab
    assert errors == []
    assert all(url.startswith((address, "blob:", "data:")) for url in requests), requests
    tab.close()


def value(page: Any, name: str) -> str:
    return page.input_value(f"#{name} textarea, #{name} input")


def wait_for(page: Any, name: str, part: str) -> str:
    page.wait_for_function(f"document.querySelector('#{name} textarea, #{name} input')?.value.includes({part!r})")
    return value(page, name)


def click_image(page: Any, down: float, right: float) -> None:
    """At a share of the height and width of the first picture in sight."""
    image = page.locator("button img:visible, [data-testid='image'] img:visible, .image-frame img:visible").first
    box = image.bounding_box()
    page.mouse.click(box["x"] + right * box["width"], box["y"] + down * box["height"])


def test_equivariance_shows_the_librarys_numbers(page: Any) -> None:
    shown = float(value(page, "difference"))
    assert shown == pytest.approx(views.shift_and_convolve("zero", "corner", 0.0, (8, 8), (8, 8)).difference, rel=0.01)
    page.get_by_label("infinite").first.check()
    page.wait_for_function("Number(document.querySelector('#difference textarea').value) < 1e-6")


def test_a_click_moves_the_object(page: Any) -> None:
    page.get_by_label("shift down, px").first.fill("0")
    page.get_by_label("shift right, px").first.fill("0")
    page.keyboard.press("Tab")
    page.wait_for_function("Number(document.querySelector('#difference textarea').value) === 0")
    page.get_by_label("shift down, px").first.fill("8")
    page.keyboard.press("Tab")
    click_image(page, 0.02, 0.02)
    expected = views.shift_and_convolve("zero", "corner", 0.0, (0, 0), (8, 0)).difference
    assert wait_for(page, "difference", f"{expected:.3g}") == f"{expected:.3g}"


def test_the_rook_trains_and_can_be_cancelled(page: Any) -> None:
    page.get_by_role("tab", name="Rook").click()
    page.click("#train")
    wait_for(page, "rook-accuracy", "100 of 100")
    assert value(page, "rook-accuracy").startswith("100 %")
    page.click("#train")
    wait_for(page, "rook-accuracy", "8 of 100")
    page.click("#stop-training")
    wait_for(page, "rook-accuracy", "cancelled")
    time.sleep(2)
    assert value(page, "rook-accuracy") == "cancelled"


def test_a_network_is_asked_and_its_map_grows(page: Any) -> None:
    page.get_by_role("tab", name="Your network").click()
    tab = page.get_by_role("tabpanel").filter(has=page.locator("#ask"))
    tab.locator("#network textarea, #network input").fill(TINY)
    tab.get_by_label("random").check()
    page.click("#ask")
    wait_for(page, "here", "%")
    expected = views.answer(views.network(TINY, "random"), "cat", views.MIDDLE)
    assert value(page, "here") == value(page, "middle") == f"{100 * expected.middle:.2f} %"
    assert value(page, "answers") == f"{expected.name}; {expected.answer_here}"
    page.click("#grow")
    wait_for(page, "map-state", f"{views.MAP_SIDE} of {views.MAP_SIDE} rows")
    tab.locator("#network textarea, #network input").fill("resnettt")
    page.click("#ask")
    page.get_by_text("did you mean").first.wait_for()


def upload(page: Any, files: list[Path]) -> None:
    """Choose files, and wait until all are listed."""
    page.locator("#images").get_by_text("Click to Upload").wait_for()
    page.set_input_files("#images input[type=file]", files)
    page.wait_for_function(f"document.querySelectorAll('#images tr').length >= {len(files)}")


def bomb(path: Path) -> Path:
    """A PNG of 200 megapixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 20_000, 10_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(10_000 * (1 + 20_000 // 8)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def test_an_audit_of_uploads_some_of_which_are_bad(page: Any, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    page.get_by_role("tab", name="Audit").click()
    tab = page.get_by_role("tabpanel").filter(has=page.locator("#audit"))
    tab.locator("#network textarea, #network input").fill(TINY)
    tab.get_by_label("random").check()
    tab.locator("input[type=number]").fill("32")
    page.keyboard.press("Tab")
    upload(page, [*photographs.iterdir(), tmp_path / "text.png", bomb(tmp_path / "b.png")])
    page.click("#audit")
    done = wait_for(page, "audit-state", "done, 7 images")
    assert "text.png: cannot be read as an image" in done
    assert "b.png: too large for safe reading" in done
    assert "without its own" not in page.inner_text("#verdict")
    assert TINY in page.inner_text("#verdict") or "location" in page.inner_text("#verdict")
    with page.expect_download() as download:
        page.locator("a[download]").last.click()
    assert b"Audit of" in Path(download.value.path()).read_bytes()


def test_an_audit_can_be_cancelled(page: Any, photographs: Path) -> None:
    page.get_by_role("tab", name="Audit").click()
    upload(page, [*photographs.iterdir()])
    page.click("#audit")
    wait_for(page, "audit-state", "parts")
    page.click("#stop-audit")
    wait_for(page, "audit-state", "cancelled")
    time.sleep(2)
    assert value(page, "audit-state") == "cancelled"


def test_many_requests_leave_it_answering(address: str) -> None:
    def get(_: int) -> int:
        with urllib.request.urlopen(address, timeout=60) as answer:
            return answer.status

    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        assert set(pool.map(get, range(50))) == {200}


def test_fifty_questions_at_once_leave_it_answering(address: str) -> None:
    from gradio_client import Client

    expected = f"{views.shift_and_convolve('zero', 'corner', 0.0, (8, 8), (8, 8)).difference:.3g}"
    client = Client(address, verbose=False)
    jobs = [client.submit("zero", "corner", 0, 8, 8, api_name="/compare") for _ in range(50)]
    texts = []
    for job in jobs:
        try:
            texts.append(job.result(timeout=120)[0])
        except Exception as error:  # told that all places are taken
            texts.append(str(error))
    assert any(text == expected for text in texts)
    assert client.predict("zero", "corner", 0, 8, 8, api_name="/compare")[0] == expected


def test_only_this_machine_is_listened_to(address: str) -> None:
    port = int(address.rstrip("/").rpartition(":")[2])
    listening = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            where, state = line.split()[1], line.split()[3]
            if state == "0A" and int(where.split(":")[1], 16) == port:
                listening.append(where.split(":")[0])
    assert listening == ["0100007F"]
