"""Say where a number comes from: versions, commit, machine, config. It goes with every result and every page."""

import dataclasses
import functools
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from borderless.version import __version__


def provenance(config: Any = None) -> str:
    """Return how to get the same numbers again, in one line: versions, commit, machine and, if given, the config."""
    parts = [f"{name} {value}" for name, value in versions().items()]
    if revision := commit():
        parts.append(f"commit {revision}")
    parts.append(f"{platform.system()} {platform.machine()}")
    if config is not None:
        parts.append(f"config {json.dumps(plain(config))}")
    return " · ".join(parts)


def versions() -> dict[str, str]:
    """Return the versions of what decides the numbers."""
    return {"borderless": __version__, "torch": torch.__version__, "python": platform.python_version()}


def plain(config: Any) -> dict[str, Any]:
    """Return the config as JSON gives it back: tuples are lists, paths are text."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


@functools.cache
def commit() -> str | None:
    """Return the commit of the checkout that this package runs from, marked if changed; None when it is installed."""
    package = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "--no-optional-locks", "-C", str(package), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) / "src" / "borderless" != package:
            return None
        return git("rev-parse", "--short=12", "HEAD") + (
            "+changes" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None
