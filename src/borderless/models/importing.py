"""Callables that a command line names as `package.module:name`: they build a network, or preprocess a picture.

Their code runs, as that of any program that somebody starts. So only commands read such names; `load` does not, which
also gets names from visitors of the playground.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from borderless.errors import ConfigError, UnknownName
from borderless.runtime.did_you_mean import unknown

_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def is_import_path(name: str) -> bool:
    """Return whether `name` has the form `package.module:name`.

    >>> is_import_path("nets.unet:build"), is_import_path("timm/resnet18"), is_import_path("C:/weights.pt")
    (True, False, False)
    """
    return _PATH.fullmatch(name) is not None


def imported(path: str) -> Callable[..., Any]:
    """Return the callable that `path`, `package.module:name`, names; from the current folder, or installed.

    Raises:
        UnknownName: There is no such module, or nothing of that name in it.
        ConfigError: The module cannot be imported for another reason, or what it has is not callable.
    """
    if not is_import_path(path):
        raise UnknownName(f"Expected package.module:name but got {path!r}; name a function or a class in a module.")
    module_name, _, names = path.partition(":")
    found = _module(module_name)
    for name in names.split("."):
        if not hasattr(found, name):
            known = [other for other in vars(found) if not other.startswith("_")]
            raise UnknownName(
                unknown("name", name, known, f"{getattr(found, '__file__', module_name)} has no such name")
            )
        found = getattr(found, name)
    if not callable(found):
        raise ConfigError(
            f"Expected a function or a class at {path} but got {type(found).__name__}; name one, for example a "
            "function that returns it."
        )
    return found


def _module(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # for good: what is imported may itself import later
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UnknownName(
                f"Expected a module that can be imported but got {name}, of which there is no {error.name} in the "
                "current folder or among the installed packages; run the command in the folder that holds it."
            ) from error
        raise ConfigError(
            f"Expected to import {name} but it needs the package {error.name}, which is not installed; install it."
        ) from error
    except (Exception, SystemExit) as error:  # somebody else's code may raise anything
        raise ConfigError(f"Expected to import {name} but got {reason(error)} while its code ran; mend it.") from error


def built(path: str) -> nn.Module:
    """Return the network that the callable at `path`, `package.module:name`, builds.

    Raises:
        UnknownName: As `imported`.
        ConfigError: As `imported`, or the callable needs arguments, fails, or returns something else than a network.
    """
    build = imported(path)
    needed = _needed(build)
    if needed:
        raise ConfigError(
            f"Expected a callable without arguments but got {path}, which needs {', '.join(needed)}; write a function "
            "that passes them."
        )
    try:
        model = build()
    except (Exception, SystemExit) as error:
        raise ConfigError(f"Expected a network from {path} but got {reason(error)}; mend it.") from error
    if not isinstance(model, nn.Module):
        raise ConfigError(f"Expected a torch.nn.Module from {path} but got {type(model).__name__}; return a network.")
    return model


def _needed(build: Callable[..., Any]) -> list[str]:
    """Return the names of the arguments without a default; none where that cannot be known."""
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):  # some callables in C have no signature
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one.name for one in parameters if one.default is one.empty and one.kind not in optional]


def reason(error: BaseException) -> str:
    """Return an error in one line."""
    line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {line}".removesuffix(".") if line else type(error).__name__
