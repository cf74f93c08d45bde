"""`borderless run NAME`: one experiment in full, its config's fields as options."""

import dataclasses
import textwrap
from pathlib import Path
from typing import Any, Literal

from borderless.cli.options import UsageError
from borderless.cli.parsing import parse
from borderless.experiments.registry import EXPERIMENTS
from borderless.runtime.did_you_mean import unknown

_TEXTS = {
    "config": "",
    "folder": "Folder of the results; the same command resumes there.",
    "engine": "One cell after the other in this process (local), or cells as Ray tasks (ray).",
    "address": "Address of a running Ray cluster (default: RAY_ADDRESS, else this machine).",
}
_MOST_MAIN = 12


# Told without importing the experiments, which would load PyTorch only to print a help text.
def list_experiments() -> str:
    """Return a line for each experiment: its name and what it asks."""
    lines: list[str] = []
    for name, summary in EXPERIMENTS.summaries.items():
        lines += textwrap.wrap(summary, 100, initial_indent=f"  {name:<16} ", subsequent_indent=" " * 19)
    return "\n".join(lines)


def execute(words: list[str]) -> None:
    """Run the experiment that the first word names; print its tables and where its page is."""
    names = list(EXPERIMENTS)
    if not words or words[0] in ("-h", "--help", "--help-all"):
        print(
            f"Usage: borderless run NAME [options]\n\n{list_experiments()}\n\n"
            "borderless run NAME --help shows the options of one."
        )
        return
    name = words[0]
    if name not in names:
        raise UsageError(unknown("experiment", name, names, f"choose one of {', '.join(names)}"))
    experiment = EXPERIMENTS[name]
    default = experiment.Config.small() if "--small" in words else experiment.Config()
    if any(word.split("=")[0] == "--data" for word in words) and hasattr(experiment.Config, "paper"):
        if "--small" in words:
            raise UsageError(
                "Expected --small, which starts from the demo's settings, or --data, which starts from the paper's, "
                "but got both; give one"
            )
        default = experiment.Config.paper()
    kind = _run_options(experiment.Config, name)
    own = [field.name for field in dataclasses.fields(experiment.Config) if field.name != "training"]
    options = parse(
        kind,
        [word for word in words[1:] if word != "--small"],
        _usage(experiment, name),
        ("folder", *own)[:_MOST_MAIN],
        kind(config=default),
    )
    # Not before the options are read: PyTorch takes seconds.
    from borderless.cli.tables import print_table
    from borderless.experiments.runner import run
    from borderless.runtime.distributed import joined
    from borderless.runtime.files import check_writable

    check_writable(options.folder)
    with joined() as group:
        section = run(experiment, options.config, options.folder, engine=options.engine, address=options.address)
    if not group.is_leader:
        return
    for table in section.tables:
        print_table(table)
    print(f"The report is in {options.folder / 'report.html'}, the table in {options.folder / 'table.csv'}")


def _usage(experiment: Any, name: str) -> str:
    title = experiment.title if experiment.title.endswith(("?", "!")) else f"{experiment.title}."
    about = textwrap.fill(f"{title} {experiment.summary}", 110)
    starts = "--small                 start from the demo's settings"
    if hasattr(experiment.Config, "paper"):
        starts += "\n  --data PATH             start from the paper's settings, on its data"
    return f"Usage: borderless run {name} [options]\n\n{about}\n\nOther options change these settings:\n  {starts}"


def _run_options(config: type, name: str) -> Any:
    """Return a class of options: the experiment's config without a prefix, where to write, and where to run."""
    return dataclasses.make_dataclass(
        "RunOptions",
        [
            ("config", config, dataclasses.field(default_factory=config)),
            ("folder", Path, dataclasses.field(default=Path("runs") / name)),
            ("engine", Literal["local", "ray"], dataclasses.field(default="local")),
            ("address", str | None, dataclasses.field(default=None)),
        ],
        namespace={"TEXTS": _TEXTS},
        frozen=True,
    )
