"""`borderless playground`: place objects by clicking, in the browser, on this machine."""

import socket
import sys
import threading

from borderless.cli.options import PlaygroundOptions, UsageError
from borderless.cli.parsing import parse

USAGE = """\
Usage: borderless playground [options]

Place objects by clicking and watch, train the rook, ask a network, audit it: in the browser, on this machine."""


def execute(words: list[str]) -> None:
    """Serve the playground until Ctrl-C."""
    options = parse(PlaygroundOptions, words, USAGE, ("host", "port", "open"))
    _check_address(options.host)
    if options.host not in ("127.0.0.1", "localhost", "::1"):
        print(
            f"borderless: {options.host} can be reached from other machines, and asks for no password", file=sys.stderr
        )
    # Not before the options are read: PyTorch and gradio take seconds.
    from borderless.playground import launch

    try:
        _, address, _ = launch(options.host, options.port, options.open, blocks=False)
    except OSError as error:
        raise UsageError(
            f"Expected a free port but got none ({error}); choose another: borderless playground --port 7870"
        ) from error
    print(f"The playground is at {address} (Ctrl-C ends it)", flush=True)
    threading.Event().wait()


def _check_address(host: str) -> None:
    """Raise UsageError for an address that this machine cannot listen on: a server would try port after port."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
        with socket.socket(found[0][0], socket.SOCK_STREAM) as listener:
            listener.bind(found[0][4])
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"Expected --host to be an address of this machine but got {host!r} ({error}); leave it out for this "
            "machine alone, or give 0.0.0.0 for all its addresses"
        ) from error
