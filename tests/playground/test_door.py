"""The door: foreign requests are refused, uploads are bounded, and what is refused leaves nothing behind."""

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from borderless.playground.door import LARGEST_REQUEST_BYTES, Door, Limits

LOCAL = "http://127.0.0.1:7860"
UPLOAD = f"{LOCAL}/gradio_api/upload"


async def saving(scope: Any, receive: Any, send: Any) -> None:
    """An application that keeps the files of a form."""
    request = Request(scope, receive)
    sizes = {}
    if request.method == "POST" and "form" in request.headers.get("content-type", ""):
        async with request.form() as form:
            for _, file in form.multi_items():
                content = await file.read()
                sizes[file.filename] = len(content)
                (Path(request.headers["folder"]) / file.filename).write_bytes(content)
    await JSONResponse(sizes)(scope, receive, send)


def client(folder: Path, host: str = "127.0.0.1", limits: Limits | None = None) -> TestClient:
    return TestClient(Door(saving, host, folder, limits or Limits()), base_url=LOCAL, headers={"folder": str(folder)})


def pictures(count: int, size: int = 100) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (f"{i}.png", bytes(size))) for i in range(count)]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:7860"}, 200),
        ({"host": "[::1]:7860"}, 200),
        ({"host": "127.0.0.1:7860", "origin": LOCAL, "sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),  # a link on another page
        ({"host": "evil.example:7860"}, 400),
        ({"host": "evil.example:7860", "origin": "http://evil.example:7860"}, 400),
        ({"host": "127.0.0.1.evil.example"}, 400),
        ({"host": "[::1"}, 400),
        ({"host": ""}, 400),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8000"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
    ],
)
def test_only_its_own_page_may_talk_to_it(headers: dict[str, str], status: int, tmp_path: Path) -> None:
    assert client(tmp_path).get("/", headers=headers).status_code == status
    uploaded = client(tmp_path).post(UPLOAD, files=pictures(1), headers=headers)
    assert uploaded.status_code == status
    assert len(list(tmp_path.iterdir())) == (status == 200)


def test_other_machines_are_served_where_that_was_asked_for(tmp_path: Path) -> None:
    headers = {"host": "lab.example:7860", "origin": "http://lab.example:7860"}
    assert client(tmp_path, "0.0.0.0").get("/", headers=headers).status_code == 200


def test_uploads_arrive_whole(tmp_path: Path) -> None:
    large = bytes(range(256)) * 3000  # more than one part of the body
    found = client(tmp_path).post(UPLOAD, files=[("files", ("a.png", large)), ("files", ("b.png", b"x"))])
    assert json.loads(found.text) == {"a.png": len(large), "b.png": 1}
    assert (tmp_path / "a.png").read_bytes() == large


@pytest.mark.parametrize(
    ("limits", "first", "status", "second"),
    [
        (Limits(files=3), 4, 413, 0),
        (Limits(files=3), 2, 413, 2),
        (Limits(visitor_bytes=2000), 1, 413, 20),
        (Limits(all_files=3), 2, 507, 2),
        (Limits(all_bytes=2500), 1, 507, 20),
    ],
)
def test_uploads_are_bounded_for_one_and_for_all(
    limits: Limits, first: int, status: int, second: int, tmp_path: Path
) -> None:
    door = client(tmp_path, limits=limits)
    responses = [door.post(UPLOAD, files=pictures(count)) for count in (first, second) if count]
    assert [response.status_code for response in responses[:-1]] == [200] * (len(responses) - 1)
    assert responses[-1].status_code == status and responses[-1].text.startswith("Expected")
    assert len(list(tmp_path.iterdir())) == (first if second else 0)


def test_other_requests_are_small_and_say_how_long_they_are(tmp_path: Path) -> None:
    door = client(tmp_path)
    assert door.post("/gradio_api/queue/join", json={}).status_code == 200
    assert door.post("/gradio_api/queue/join", content=bytes(LARGEST_REQUEST_BYTES + 1)).status_code == 413
    assert door.post("/gradio_api/queue/join", content=iter([b"{}"])).status_code == 411
    assert door.post(UPLOAD, content=b"no form").status_code == 400
