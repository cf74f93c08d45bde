"""Runs networks of other packages; writes docs/reference/networks.md.

    python -m venv /somewhere && /somewhere/bin/pip install -e . -r benchmarks/networks/requirements.txt
    /somewhere/bin/pip install --no-deps -r benchmarks/networks/requirements-no-deps.txt
    /somewhere/bin/python -m benchmarks.networks               # all; an interrupted run goes on where it stopped
    /somewhere/bin/python -m benchmarks.networks --only 'smp/*' 'monai/*'
    /somewhere/bin/python -m benchmarks.networks --again refused failed   # once more, those of some categories
    /somewhere/bin/python -m benchmarks.networks --render      # only the page, from the results there are

Each family of packages (a file of benchmarks/networks) runs in a process of its own, which imports what its networks
need, each network in a child of that with a limit on memory and CPU time. The file of results has one line a network
and run; of each network the last one at the commit of the library counts. Where a whole run takes too long, the page
may also show rows of earlier commits, which it then marks: --render --commit NEWER OLDER.
"""

import argparse
import contextlib
import fnmatch
import importlib
import json
import multiprocessing
import resource
import signal
import warnings
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.networks import FAMILIES, Network
from benchmarks.networks.check import check, library_commit, today
from benchmarks.networks.page import page

REPOSITORY = Path(__file__).resolve().parents[2]
FORK = multiprocessing.get_context("fork")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="PATTERN", nargs="*", default=["*"], help="networks whose name matches one")
    parser.add_argument(
        "--families", nargs="*", default=FAMILIES, choices=FAMILIES, help="files of benchmarks/networks"
    )
    parser.add_argument("--again", metavar="CATEGORY", nargs="*", default=[], help="also those that ended so")
    parser.add_argument("--jobs", type=int, default=1, help="families at a time, each with one thread")
    parser.add_argument("--limit-s", type=float, default=240, help="CPU time for one network")
    parser.add_argument("--limit-gib", type=float, default=6, help="memory for one network")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "runs" / "networks" / "results.jsonl")
    parser.add_argument("--page", type=Path, default=REPOSITORY / "docs" / "reference" / "networks.md")
    parser.add_argument(
        "--commit",
        metavar="COMMIT",
        nargs="+",
        default=[library_commit()],
        help="whose results are gone on with and shown; after it, those whose results fill the gaps of the page",
    )
    parser.add_argument("--render", action="store_true", help="run nothing, write the page")
    options = parser.parse_args()

    torch.set_num_threads(1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if not options.render:
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda family: _apart(_run_family, family, options), options.families))
    rows: dict[str, dict[str, Any]] = {}
    for revision in reversed(options.commit):
        rows |= latest(options.out, revision)
    options.page.write_text(page(rows, options.commit), encoding="utf-8")
    print(f"{len(rows)} networks in {options.page}")


def latest(results: Path, revision: str) -> dict[str, dict[str, Any]]:
    """The last row of each network at a commit."""
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    rows = [json.loads(line) for line in lines]
    return {row["key"]: row for row in rows if row["commit"] == revision}


def _apart(function: Any, *args: Any) -> None:
    process = FORK.Process(target=function, args=args)
    process.start()
    process.join()


def _run_family(family: str, options: argparse.Namespace) -> None:
    networks: dict[str, Network] = importlib.import_module(f"benchmarks.networks.{family}").NETWORKS
    done = {key for key, row in latest(options.out, options.commit[0]).items() if row["category"] not in options.again}
    imported: set[str] = set()
    for key, network in networks.items():
        if key in done or not any(fnmatch.fnmatchcase(key, pattern) for pattern in options.only):
            continue
        package = key.partition("/")[0]
        if not imported:
            check("warm-up", Network(lambda: nn.Conv2d(3, 4, 3, padding=1)))
        if package not in imported:
            imported.add(package)
            _import_package(network)
        row = _check_apart(key, network, options)
        with options.out.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")
        print(key, row["category"], *_errors(row), f"{row.get('duration_s', 0)} s", sep="  ", flush=True)


def _import_package(network: Network) -> None:
    """Build a network here, which imports its package (up to 20 s) once for all processes that are forked later."""
    with contextlib.suppress(Exception), warnings.catch_warnings():  # the row of the network says what is wrong
        warnings.simplefilter("ignore")
        network.build()


def _errors(row: dict[str, Any]) -> list[str]:
    found = []
    for name, of in row.get("float32", {}).items():
        errors = [value for value in of.get("errors", {}).values() if value is not None]
        found.append(
            f"{name} " + ("R" if "refused" in of else "F" if "failed" in of else f"{max(errors, default=-1):.0e}")
        )
    return found


def _check_apart(key: str, network: Network, options: argparse.Namespace) -> dict[str, Any]:
    """`check` in a forked process, so that neither its memory nor its end touches the others."""
    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=_child, args=(key, network, options.limit_gib, options.limit_s, sender))
    process.start()
    sender.close()
    late = f"no result within {options.limit_s:.0f} s of CPU time"
    message = late
    if receiver.poll(20 * options.limit_s):  # of the clock, where others use the machine
        try:
            return receiver.recv()
        except EOFError:
            process.join()
            is_late = process.exitcode == -signal.SIGXCPU
            message = late if is_late else f"the process ended with exit code {process.exitcode}"
        finally:
            process.join()
    process.kill()
    process.join()
    stopped = {"category": "failed", "message": message}
    return {"key": key, "shape": network.shape, "commit": library_commit(), "date": today()} | stopped


def _child(key: str, network: Network, limit_gib: float, limit_s: float, sender: Connection) -> None:
    limit = int(limit_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s), int(limit_s) + 5))
    sender.send(check(key, network))


if __name__ == "__main__":
    main()
