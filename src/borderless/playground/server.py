"""Serve the playground until Ctrl-C or SIGTERM, and leave nothing behind: no file, no audit under way."""

import os
import signal
import socket
import threading
import webbrowser
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from borderless.errors import ConfigError, MissingPackage
from borderless.playground.door import Door, Limits
from borderless.playground.folder import own_folder

if TYPE_CHECKING:
    from collections.abc import Generator

    import uvicorn

LOCAL = "127.0.0.1"
FIRST_PORT, PORTS_TRIED, LARGEST_PORT = 7860, 100, 65535
# At the end: for open connections, for the server, and for audits to see that nobody waits for them.
_GRACE_S = 3


def serve(host: str = LOCAL, port: int | None = None, *, browse: bool = False, say: Callable[[str], Any]) -> int:
    """Serve the playground until a signal ends it, and return the exit status: 130 after Ctrl-C, 143 after SIGTERM.

    Threads may still be inside PyTorch then, where an ordinary exit of Python aborts: end the process by `os._exit`.

    Args:
        host: The address to listen on.
        port: The port; None for a free one from 7860 on.
        browse: Whether to open the page in a browser.
        say: Called with the page's address once it can be opened.

    Raises:
        ConfigError: It cannot listen on this address and port.
        MissingPackage: Gradio is not installed.
    """
    with listening(host, port) as listener, own_folder() as folder, _signals() as ended:
        import uvicorn

        config = uvicorn.Config(
            application(host, folder), log_level="critical", timeout_graceful_shutdown=1, ws="none", lifespan="on"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while thread.is_alive() and not (server.started or ended.status):
            ended.event.wait(0.05)
        if not thread.is_alive():
            raise ConfigError("Expected the server to start but it ended. See what is printed above.")
        if not ended.status:
            address = _address(*listener.getsockname()[:2])
            say(address)
            if browse:
                webbrowser.open(address)
        while not ended.event.wait(1):  # a wait without an end hears no signal on Windows
            pass
        _end(server, thread)
    return ended.status


def application(host: str, folder: Path, limits: Limits | None = None) -> Door:
    """Return the whole application for an address, with what is uploaded below `folder`.

    Raises:
        MissingPackage: Gradio is not installed.
    """
    # Read by Gradio when it is imported and when the page is built.
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise MissingPackage(
            "Expected the package gradio, which serves the playground, but it is not installed. Install it with: "
            'pip install "borderless[playground]"'
        ) from error
    from borderless.playground.page import mounted

    return Door(mounted(), host, folder, limits or Limits())


@contextmanager
def listening(host: str, port: int | None) -> "Generator[socket.socket]":
    """Open a socket that listens.

    Raises:
        ConfigError: There is no such address or port, or it is taken.
    """
    if port is not None and not 0 <= port <= LARGEST_PORT:
        raise ConfigError(f"Expected a port from 0 to {LARGEST_PORT} but got {port}. Leave --port out for a free one.")
    is_number = not set(host) - set("0123456789.:")  # then no name server is asked, which can take long
    try:
        found = socket.getaddrinfo(
            host or LOCAL, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST if is_number else 0
        )
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"Expected an address of this machine but got --host {host!r}, which is none. Try {LOCAL}, or 0.0.0.0 to "
            "be reached from other machines."
        ) from error
    family, address = found[0][0], found[0][4][0]
    listener = socket.socket(family)
    try:
        if os.name != "nt":  # where it would let two servers listen on one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(listener, str(address), (port,) if port is not None else range(FIRST_PORT, FIRST_PORT + PORTS_TRIED))
        yield listener
    finally:
        listener.close()


def _bind(listener: socket.socket, address: str, ports: "tuple[int] | range") -> None:
    for port in ports:
        try:
            listener.bind((address, port))
            listener.listen(128)
        except OSError as error:
            if port == ports[-1] or error.errno is None:
                asked = f"port {port}" if len(ports) == 1 else f"a free port from {ports[0]} to {port}"
                raise ConfigError(
                    f"Expected {asked} on {address} but got: {error.strerror}. Choose another: borderless playground "
                    "--port 0"
                ) from error
        else:
            return


class _Ended:
    """A signal that ends the server, and the exit status that it asks for."""

    def __init__(self) -> None:
        self.event, self.status = threading.Event(), 0

    def __call__(self, number: int, _: Any) -> None:
        self.status = 128 + number
        self.event.set()


@contextmanager
def _signals() -> "Generator[_Ended]":
    """Note Ctrl-C and SIGTERM instead of ending at once; a second one changes nothing while things are put away."""
    ended = _Ended()
    before = {number: signal.signal(number, ended) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(server: "uvicorn.Server", thread: threading.Thread) -> None:
    from borderless.playground.audits import stop_all

    server.should_exit = True
    stop_all(_GRACE_S)
    thread.join(_GRACE_S)


def _address(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
