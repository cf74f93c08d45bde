"""The door of the playground: who may talk to it, and how much may be sent. An ASGI middleware; no Gradio here.

On a loopback address only pages that the playground itself served may talk to it: a foreign Host is a rebound name
(DNS rebinding), a foreign Origin is another web site, which can send files without being asked (a "simple" request).
"""

import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# Of requests that are no upload: they hold what a visitor chose, nothing more.
LARGEST_REQUEST_BYTES = 2**20
# Uploaded files are deleted when they are this old.
KEPT_S = 3600


def is_local(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    return host in _LOOPBACK or host.startswith("127.")


@dataclass(frozen=True)
class Limits:
    """Bounds of what is uploaded.

    Attributes:
        files: By one visitor (one address) within an hour.
        visitor_bytes: The same.
        all_files: Kept at a time.
        all_bytes: Kept at a time.
    """

    files: int = 200
    visitor_bytes: int = 512 * 2**20
    all_files: int = 1000
    all_bytes: int = 2**30


class Refused(Exception):
    """A request that is not let in: its status, and a sentence for whoever sent it."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass
class Door:
    """Refuse foreign requests and too many uploads; pass everything else on to `app`.

    Attributes:
        app: The application behind the door.
        host: The address that is listened to.
        folder: Where uploads are kept.
        limits: How much may be uploaded.
    """

    app: ASGIApp
    host: str
    folder: Path
    limits: Limits = Limits()
    # By address: when, how many files, how many bytes.
    _uploads: dict[str, deque[tuple[float, int, int]]] = field(default_factory=dict)
    _arriving_bytes: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        try:
            headers = Headers(scope=scope)
            self._check_sender(headers)
            if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
                await self.app(scope, receive, send)
            elif scope["path"].rstrip("/").endswith("/upload"):
                await self._upload(scope, receive, send, headers)
            else:
                _length(headers, LARGEST_REQUEST_BYTES)
                await self.app(scope, receive, send)
        except Refused as refused:
            await PlainTextResponse(str(refused), refused.status)(scope, receive, send)
        except ClientDisconnect:  # while its files were arriving: nobody waits for a response
            return

    def _check_sender(self, headers: Headers) -> None:
        if not is_local(self.host):
            return
        host = headers.get("host", "")
        if _name(f"//{host}") not in _LOOPBACK | {self.host}:
            raise Refused(400, "Expected the address of this machine but got another Host. Open the printed address.")
        origin = headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc != host
        if foreign or (headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"):
            raise Refused(403, "Expected a request from the playground's own page but got one from another site.")

    async def _upload(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        """Let files in once all of a request has arrived and is within the limits: what is refused leaves nothing."""
        visitor = (scope.get("client") or ("",))[0]
        length = _length(headers, self.limits.visitor_bytes)
        self._check_room(visitor, length, 0)
        boundary = headers.get("content-type", "").partition("boundary=")[2].strip().strip('"').encode()
        if not boundary:
            raise Refused(400, "Expected files of a form but got no boundary between them.")
        self._arriving_bytes += length
        try:
            with tempfile.TemporaryFile(dir=self.folder) as body:
                files, tail = 0, b""
                async for chunk in Request(scope, receive).stream():
                    body.write(chunk)
                    files += (tail + chunk).count(b"--" + boundary)
                    tail = (tail + chunk)[-len(boundary) - 1 :]
                files = max(files - 1, 0)  # the last one ends the form
                self._check_room(visitor, 0, files)
                self._uploads.setdefault(visitor, deque()).append((time.monotonic(), files, length))
                body.seek(0)

                async def replay() -> Message:
                    part = body.read(2**18)
                    if not part and length:
                        return await receive()
                    return {"type": "http.request", "body": part, "more_body": body.tell() < length}

                await self.app(scope, replay, send)
        finally:
            self._arriving_bytes -= length

    def _check_room(self, visitor: str, length: int, files: int) -> None:
        self._forget()
        own = self._uploads.get(visitor, ())
        sent = sum(upload[1] for upload in own) + files
        if sent > self.limits.files or sum(upload[2] for upload in own) + length > self.limits.visitor_bytes:
            raise Refused(
                413,
                f"Expected at most {self.limits.files} files and {self.limits.visitor_bytes >> 20} MiB an hour but got "
                "more. Send fewer, or wait.",
            )
        kept = [path.stat().st_size for path in self.folder.rglob("*") if path.is_file()]
        if len(kept) + files > self.limits.all_files or (
            sum(kept) + self._arriving_bytes + length > self.limits.all_bytes
        ):
            raise Refused(507, "Expected room for the files but others have taken it. Try again in an hour.")

    def _forget(self) -> None:
        """Drop what was sent so long ago that it has been deleted."""
        past = time.monotonic() - KEPT_S
        for visitor in list(self._uploads):
            own = self._uploads[visitor]
            while own and own[0][0] < past:
                own.popleft()
            if not own:
                del self._uploads[visitor]


def _length(headers: Headers, largest: int) -> int:
    text = headers.get("content-length", "")
    if not text.isdigit():
        if "transfer-encoding" in headers:
            raise Refused(411, "Expected the length of the request but got none.")
        return 0
    if int(text) > largest:
        raise Refused(413, f"Expected at most {largest >> 20} MiB but got {int(text) >> 20}. Send less.")
    return int(text)


def _name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:  # an unclosed bracket
        return ""
