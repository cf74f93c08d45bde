"""`borderless run NAME`: one experiment in full, its config's fields as options."""

import dataclasses
import textwrap
from pathlib import Path
from typing import Annotated, Any, Literal

from borderless.cli.options import UsageError
from borderless.experiments.registry import EXPERIMENTS
from borderless.runtime.did_you_mean import unknown


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
    if not words or words[0] in ("-h", "--help"):
        print(
            f"Usage: borderless run NAME [options]\n\n{list_experiments()}\n\n"
            "borderless run NAME --help shows the options of one."
        )
        return
    name = words[0]
    if name not in names:
        raise UsageError(unknown("experiment", name, names, f"choose one of {', '.join(names)}"))
    import tyro  # not for the list of names

    experiment = EXPERIMENTS[name]
    default = experiment.Config.small() if "--small" in words else experiment.Config()
    if any(word.split("=")[0] == "--data" for word in words) and hasattr(experiment.Config, "paper"):
        if "--small" in words:
            raise UsageError(
                "got --small and --data: --small starts from the demo's settings, --data from the paper's; give one"
            )
        default = experiment.Config.paper()
    options = tyro.cli(
        _run_options(experiment.Config, name),
        args=[word for word in words[1:] if word != "--small"],
        prog=f"borderless run {name}",
        description=f"{experiment.title}. {experiment.summary} "
        "With --small: the demo's settings, as far as no option says otherwise."
        + (" With --data: the paper's." if hasattr(experiment.Config, "paper") else ""),
        default=_run_options(experiment.Config, name)(config=default),
    )
    # Not before the options are read: PyTorch takes seconds.
    from borderless.cli.tables import print_table
    from borderless.experiments.runner import run
    from borderless.runtime.distributed import joined

    with joined() as group:
        section = run(experiment, options.config, options.folder, engine=options.engine, address=options.address)
    if not group.is_leader:
        return
    for table in section.tables:
        print_table(table)
    print(f"The report is in {options.folder / 'report.html'}, the table in {options.folder / 'table.csv'}")


def _run_options(config: type, name: str) -> Any:
    """Return a class of options: the experiment's config without a prefix, where to write, and where to run."""
    import tyro

    def option(name: str, kind: Any, default: Any, text: str) -> tuple[str, Any, Any]:
        return name, Annotated[kind, tyro.conf.arg(help=text)], dataclasses.field(default=default)

    return dataclasses.make_dataclass(
        "RunOptions",
        [
            ("config", tyro.conf.OmitArgPrefixes[config], dataclasses.field(default_factory=config)),
            option("folder", Path, Path("runs") / name, "Where results are kept; the same command goes on there."),
            option("engine", Literal["local", "ray"], "local", "One cell after the other here, or as Ray tasks."),
            option(
                "address",
                str | None,
                None,
                "Of a running Ray cluster; without it and RAY_ADDRESS, Ray uses this machine.",
            ),
        ],
        frozen=True,
    )
