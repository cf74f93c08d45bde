"""The playground: place an object by clicking and watch what a border makes of it, in the browser, on this machine."""

from borderless.playground.app import launch

__all__ = ["launch"]
