"""Runs every CNN of torchvision and every convolutional family of timm; writes docs/reference/coverage.md.

    python benchmarks/coverage.py                      # all; an interrupted run goes on where it stopped
    python benchmarks/coverage.py --only 'timm/*'      # some
    python benchmarks/coverage.py --again refused      # once more, those of a category
    python benchmarks/coverage.py --render             # only the page, from the results there are

Each network runs in a process of its own, with a limit on memory and time. The folder of results holds networks.jsonl
(the selection, made once: delete it to select anew) and results.jsonl (one line a check; the last one of a network
counts).
"""

import argparse
import dataclasses
import fnmatch
import json
import multiprocessing
import resource
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import timm
import torch

from coverage_checks import CHECKS, check
from coverage_networks import Network, timm_network, torchvision_networks
from coverage_page import page

REPOSITORY = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="PATTERN", default="*", help="networks whose library/name matches")
    parser.add_argument("--again", metavar="CATEGORY", nargs="*", default=[], help="also those that ended so")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time, each with one thread")
    parser.add_argument("--limit-s", type=float, default=240, help="time for one network")
    parser.add_argument("--limit-gib", type=float, default=9, help="memory for one network")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "runs" / "coverage", help="folder of the results")
    parser.add_argument(
        "--page", type=Path, default=REPOSITORY / "docs" / "reference" / "coverage.md", help="the page to write"
    )
    parser.add_argument("--render", action="store_true", help="run nothing, write the page")
    options = parser.parse_args()

    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.jsonl"
    networks, not_convolutional = selection(options.out / "networks.jsonl", options.render)
    if not options.render:
        done = {row["key"] for row in latest(results).values() if row["category"] not in options.again}
        chosen = [n for n in networks if n.key not in done and fnmatch.fnmatch(n.key, options.only)]
        run(chosen, results, options.jobs, options.limit_s, options.limit_gib)
    options.page.write_text(page(latest(results), networks, not_convolutional), encoding="utf-8")


def selection(file: Path, only_read: bool) -> tuple[list[Network], dict[str, str]]:
    """The networks, smallest first, and the families without one, with the reason. Extends `file` to all families."""
    networks: list[Network] = []
    reasons: dict[str, str] = {}
    for line in _lines(file):
        if "reason" in line:
            reasons[line["family"]] = line["reason"]
        else:
            networks.append(Network(**line))
    if not only_read:
        known = {n.family for n in networks if n.library == "timm"} | reasons.keys()
        for family in timm.list_modules():
            if family not in known:
                found = timm_network(family)
                print(f"{family}: {found}", flush=True)
                if isinstance(found, Network):
                    networks.append(found)
                    _append(file, dataclasses.asdict(found))
                else:
                    reasons[family] = found
                    _append(file, {"family": family, "reason": found})
        if not any(n.library == "torchvision" for n in networks):
            for found in list(torchvision_networks()):
                networks.append(found)
                _append(file, dataclasses.asdict(found))
    return sorted(networks, key=lambda n: (n.library, n.parameters)), reasons


def run(networks: list[Network], results: Path, jobs: int, limit_s: float, limit_gib: float) -> None:
    with ThreadPoolExecutor(jobs) as pool:
        rows = pool.map(lambda network: check_apart(network, limit_s, limit_gib), networks)
        for count, row in enumerate(rows, start=1):
            _append(results, row)
            errors = [f"{name} {row[name]:.0e}" for name in ("own", *CHECKS) if name in row]
            print(f"{count}/{len(networks)} {row['key']}: {row['category']}", *errors, flush=True)


def check_apart(network: Network, limit_s: float, limit_gib: float) -> dict[str, Any]:
    """`check` in a forked process, so that neither its memory nor its end touches the others."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(network, limit_gib, sender))
    process.start()
    sender.close()
    message = f"no output within {limit_s:.0f} s"
    if receiver.poll(limit_s):
        try:
            row = receiver.recv()
            process.join()
            return row
        except EOFError:
            process.join()
            message = f"the process ended with exit code {process.exitcode}"
    process.kill()
    process.join()
    return {"key": network.key, "network": vars(network), "category": "failed", "messages": [message]}


def _child(network: Network, limit_gib: float, sender: Connection) -> None:
    limit = int(limit_gib * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    torch.set_num_threads(1)
    sender.send(check(network))


def latest(results: Path) -> dict[str, dict[str, Any]]:
    """The last row of each network."""
    return {row["key"]: row for row in _lines(results)}


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    if file.exists():
        yield from (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())


def _append(file: Path, row: dict[str, Any]) -> None:
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    sys.exit(main())
