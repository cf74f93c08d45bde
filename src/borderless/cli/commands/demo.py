"""`borderless demo`: the first experiments with small settings, on one page."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from borderless.cli.options import DemoOptions
from borderless.cli.parsing import parse

USAGE = """\
Usage: borderless demo [--folder FOLDER]

Run the first experiments with small settings, and write one page that tells them as a story, in two minutes. Needs no
download."""

# What the extra `demo` has the packages for, and what fits into two minutes.
DEMO = ("equivariance", "conv-types", "rook", "one-place", "placed-object", "quadrant")
# Trains on one thread: in a process of its own, it takes a second core while the others run.
BESIDE = "one-place"


def execute(words: list[str]) -> None:
    """Run the experiments of the demo and write their page."""
    options = parse(DemoOptions, words, USAGE, ("folder",))
    # Not before the options are read: PyTorch takes seconds.
    from borderless.experiments.registry import EXPERIMENTS
    from borderless.experiments.runner import run
    from borderless.report.content import Section
    from borderless.report.page import write
    from borderless.report.provenance import provenance
    from borderless.runtime.distributed import joined
    from borderless.runtime.files import check_writable

    check_writable(options.folder)
    sections: dict[str, Section] = {}
    with joined() as group, _started(BESIDE, options.folder / BESIDE, group.size == 1) as ended:
        for name in (*(name for name in DEMO if name != BESIDE), BESIDE):
            if name == BESIDE:
                ended()
            experiment = EXPERIMENTS[name]
            sections[name] = run(experiment, experiment.Config.small(), options.folder / name)
    if not group.is_leader:
        return
    page = write(
        [sections[name] for name in DEMO],
        options.folder / "report.html",
        "A network that knows where, and one that does not",
        "Convolutional networks are said not to care where an object is. They do: the border of the image tells "
        "them, and so does the stride. "
        "This page shows it from a single filter up to a pretrained network, and the same networks, untouched, "
        "under borders that give nothing away.",
        f"Small settings; <code>borderless run NAME</code> runs each experiment in full. {provenance()}",
    )
    print(f"The report is in {page}")


@contextlib.contextmanager
def _started(name: str, folder: Path, is_wanted: bool) -> Iterator[Callable[[], object]]:
    """Start an experiment in another process, which ends with the block; yield what waits for its end.

    The cells that it finishes are kept in `folder`. What it does not finish, for whatever reason, is left to do.
    """
    if not is_wanted or (os.cpu_count() or 1) < 2:
        yield lambda: None
        return
    command = [sys.executable, "-m", "borderless", "run", name, "--small", "--folder", str(folder)]
    process = subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process.wait
    finally:
        process.terminate()
        process.wait()
