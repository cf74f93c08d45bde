"""The page in Gradio: what is read from its address, what visitors are told, and who may talk to it."""

import gc
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from borderless.errors import DataError

gradio = pytest.importorskip("gradio")

from borderless.playground import page, server  # noqa: E402

# Gradio leaves event loops and sockets to the garbage collector.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", "")  # which the application sets
        patch.setenv("GRADIO_ANALYTICS_ENABLED", "")
        folder = tmp_path_factory.mktemp("uploads")
        made = TestClient(server.application("127.0.0.1", folder), base_url="http://127.0.0.1:7860")
        made.headers["folder"] = str(folder)
        yield made


def test_it_is_served_to_its_own_page_only(client: TestClient) -> None:
    assert "borderless" in client.get("/").text
    assert client.get("/", headers={"host": "evil.example:7860"}).status_code == 400
    files = {"files": ("a.png", b"x")}
    foreign = client.post("/gradio_api/upload", files=files, headers={"origin": "http://evil.example"})
    assert foreign.status_code == 403
    folder = Path(client.headers["folder"])
    assert list(folder.rglob("*.png")) == []
    assert client.post("/gradio_api/upload", files=files).status_code == 200
    assert [path.name for path in folder.rglob("*.png")] == ["a.png"]
    assert client.post("/gradio_api/upload", files={"files": ("b.png", bytes(21_000_000))}).status_code == 413


@cache
def tabs_of_a_page() -> list[page.Wired]:
    wired = []
    with gradio.Blocks(), gradio.Tabs():
        for module in page.TABS:
            with gradio.Tab(module.TITLE, id=module.NAME):
                wired.append(page._tab(module))
    return wired


def restored(query: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """The tab and the controls' values, by tab and name, that a page with this address starts with."""
    wired = tabs_of_a_page()
    tabs, *values = page._restored(wired)(SimpleNamespace(query_params=query))
    names = [f"{each.name}.{name}" for each in wired for name in each.controls]
    return tabs.selected, dict(zip(names, values, strict=True))


def test_the_address_holds_the_state() -> None:
    tab, values = restored({"tab": "rook", "border": "full", "seed": "3", "epoch": "12"})
    assert tab == "rook"
    assert [values[f"rook.{name}"] for name in ("border", "seed", "epoch")] == ["full", 3, 12]
    assert values["shift.border"] == "zero"


def test_the_presets_name_what_there_is() -> None:
    for address in page.PRESETS.values():
        query = dict(part.split("=") for part in address.removeprefix("?").split("&"))
        tab, values = restored(query)
        assert tab == query.pop("tab")
        assert {name: str(values[f"{tab}.{name}"]).removesuffix(".0") for name in query} == query


def test_what_the_controls_do_not_offer_is_left_out() -> None:
    tab, values = restored({"tab": "shift", "border": "<b>", "shift": "99", "bias": "nan", "row": "x", "more": "1"})
    assert tab == "shift"
    assert [values[f"shift.{name}"] for name in ("border", "shift", "bias", "row")] == ["zero", 8, 0, 8]
    assert restored({"tab": "none"})[0] == "shift"


def test_visitors_are_told_what_is_wrong_without_markup_and_paths() -> None:
    def fail() -> None:
        raise DataError("cannot read '/srv/borderless/8fa3/<b>cat.png' of timm/resnet18 at C:\\temp\\x\\a.png")

    with pytest.raises(gradio.Error) as told:
        page.told(fail)
    assert told.value.message == "cannot read &#x27;&lt;b&gt;cat.png&#x27; of timm/resnet18 at a.png"
