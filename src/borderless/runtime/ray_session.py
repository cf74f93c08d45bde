"""Ray, started on this machine or joined, for as long as it is needed."""

import logging
import os
import socket
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from borderless.errors import LargeCellWarning, MissingPackage, RunError

# As Ray reads them: no statistics about users, no warning about what its next version does, time for a busy machine.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_gcs_server_port_wait_time_s": "120",
}
# Without an address at all Ray would take any cluster that it finds.
HERE = "local"
_CONNECT_S = 10


@contextmanager
def ray_session(address: str | None) -> Generator[tuple[Any, str]]:
    """Yield the module `ray`, connected, and the address of the cluster; at the end disconnect.

    Args:
        address: Address of a running cluster, "auto" to look for one; None takes Ray's own RAY_ADDRESS, and without it
            starts Ray on this machine and ends it afterwards.

    Raises:
        MissingPackage: Ray is not installed.
        RunError: The cluster cannot be reached, or Ray does not start.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        import ray as installed
    except ImportError as error:
        raise MissingPackage(
            'Expected the package ray but got none; run pip install "borderless[cluster]", or leave out --engine ray.'
        ) from error
    ray: Any = installed
    address = address or os.environ.get("RAY_ADDRESS") or HERE
    try:
        _check_there(address)
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of any type, down to Exception itself where a part of Ray does not come up in time
        raise RunError(
            f"Expected Ray to start on this machine but got {error}; see ray start --head, or leave out --engine ray."
            if address == HERE
            else f"Expected a Ray cluster at {address!r} but got {error}; give the address of a running one, or none "
            "to start one on this machine."
        ) from error
    try:
        yield ray, address
    finally:
        ray.shutdown()


def check_room(nodes: list[dict[str, Any]], threads: int, needs_gpu: bool, may_grow: bool) -> None:
    """Warn of cells that are too large for every machine: they wait for another.

    Raises:
        RunError: No other may come.
    """
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    if any(one.get("CPU", 0) >= threads and one.get("GPU", 0) >= needs_gpu for one in machines):
        return
    has = "; ".join(f"{one.get('CPU', 0):g} cores, {one.get('GPU', 0):g} GPUs" for one in machines) or "none"
    text = (
        f"Expected a machine with room for cells of {threads} threads{' and a GPU' if needs_gpu else ''} but got "
        f"machines with: {has}; take a larger machine, or smaller cells (OMP_NUM_THREADS sets their threads, --device "
        "whether they have a GPU)"
    )
    if not may_grow:
        raise RunError(text)
    warnings.warn(f"{text}; until one joins they wait", LargeCellWarning, stacklevel=4)


def _check_there(address: str) -> None:
    """Raise OSError if nobody listens at HOST:PORT; Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
