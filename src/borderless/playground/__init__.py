"""The playground: move an object, choose a border, and watch, in the browser, on this machine."""

from borderless.playground.server import serve

__all__ = ["serve"]
