"""`borderless playground`: place objects by clicking, in the browser, on this machine."""

import sys
import threading

import tyro

from borderless.cli.options import PlaygroundOptions, UsageError


def execute(words: list[str]) -> None:
    """Serve the playground until Ctrl-C."""
    options = tyro.cli(PlaygroundOptions, args=words, prog="borderless playground")
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
            f"got no port to listen on ({error}); choose another: borderless playground --port 7870"
        ) from error
    print(f"The playground is at {address} (Ctrl-C ends it)", flush=True)
    threading.Event().wait()
