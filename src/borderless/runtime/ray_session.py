"""Ray, started on this machine or joined, for as long as it is needed."""

import logging
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from borderless.errors import MissingPackage, RunError

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


def _check_there(address: str) -> None:
    """Raise OSError if nobody listens at HOST:PORT; Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
