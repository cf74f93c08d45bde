"""The playground as a process: where it listens, and what it leaves behind when it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from borderless.cli.main import main
from borderless.errors import ConfigError
from borderless.playground.server import FIRST_PORT, listening


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--port", "-1"], "Expected a port from 0 to 65535 but got -1."),
        (["--port", "99999999"], "Expected a port from 0 to 65535 but got 99999999."),
        (["--host", "999.999.1.1"], "Expected an address of this machine but got --host '999.999.1.1'"),
        (["--host", "203.0.113.7", "--port", "0"], "Expected port 0 on 203.0.113.7 but got"),
    ],
)
def test_where_it_cannot_listen_is_said_at_once(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["playground", "--no-open", *words]) == 2
    told = capsys.readouterr()
    assert text in told.err.splitlines()[-1] and told.out == ""


def test_a_taken_port_is_refused_or_passed_over() -> None:
    with listening("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigError, match=f"Expected port {port} on 127.0.0.1 but got"), listening("", port):
            pass
    with listening("127.0.0.1", None) as one, listening("127.0.0.1", None) as other:
        assert FIRST_PORT <= one.getsockname()[1] < other.getsockname()[1]


class Playground:
    """A process that serves the playground."""

    def __init__(self, temporary: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "borderless", "playground", "--no-open", "--port", str(port)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary)}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None and self.process.stderr is not None
        line = self.process.stdout.readline()
        assert "The playground is at" in line, self.process.stderr.read()
        self.address = line.split()[4]

    def upload(self, path: Path) -> dict[str, object]:
        with path.open("rb") as file:
            found = httpx.post(f"{self.address}/gradio_api/upload", files={"files": (path.name, file)}, timeout=60)
        return {"path": found.json()[0], "meta": {"_type": "gradio.FileData"}}

    def end(self, number: int) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@pytest.mark.nightly
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_nothing_is_left_behind_however_it_ends(tmp_path: Path, photographs: Path) -> None:
    gradio_client = pytest.importorskip("gradio_client")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    for number, status in ((signal.SIGTERM, 143), (signal.SIGKILL, -9), (signal.SIGINT, 130)):
        playground = Playground(temporary)
        client = gradio_client.Client(playground.address, verbose=False)
        files = [playground.upload(path) for path in sorted(photographs.iterdir())]
        assert len(list(temporary.rglob("*.png"))) == len(files)  # the next start has cleared what a kill left
        audit = client.submit(files, "timm/test_resnet", "random", 96, api_name="/audit")
        until = time.monotonic() + 120
        while (
            not any("now: " in step[0] and "waiting" not in step[0] for step in audit.outputs())
            and time.monotonic() < until
        ):
            time.sleep(0.1)
        found, errors = playground.end(number)
        assert found == status, errors
        if number != signal.SIGKILL:
            assert errors.strip() == "stopped"
            assert list(temporary.glob("borderless*")) == []
