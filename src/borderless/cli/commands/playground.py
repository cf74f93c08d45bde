"""`borderless playground`: place objects by clicking, in the browser, on this machine."""

import os
import sys

from borderless.cli.options import PlaygroundOptions
from borderless.cli.parsing import parse

USAGE = """\
Usage: borderless playground [options]

Place objects by clicking and watch, train the rook, ask a network, audit it: in the browser, on this machine."""


def execute(words: list[str]) -> None:
    """Serve the playground until Ctrl-C."""
    options = parse(PlaygroundOptions, words, USAGE, ("host", "port", "open"))
    # Not before the options are read: PyTorch and gradio take seconds.
    from borderless.playground.door import is_local
    from borderless.playground.server import serve

    if not is_local(options.host):
        print(
            f"borderless: {options.host} can be reached from other machines, and asks for no password", file=sys.stderr
        )

    def say(address: str) -> None:
        print(f"The playground is at {address} (Ctrl-C ends it)", flush=True)

    status = serve(options.host, options.port, browse=options.open, say=say)
    print("\nstopped", file=sys.stderr, flush=True)
    os._exit(status)  # threads may still be inside PyTorch, where an ordinary exit aborts
