"""The command line: `borderless demo`, `run`, `explain`, `audit`, `finetune`. Imports when asked."""

import dataclasses
import errno
import os
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from borderless.runtime.did_you_mean import unknown
from borderless.runtime.malloc import keep_freed_memory

if TYPE_CHECKING:
    from borderless.report import Section, Table

HELP = """\
borderless: does this CNN use where things are? And the same network without that ability.

Usage: borderless COMMAND [options]

  demo           the story in small, on one page; needs no download, takes a few minutes
  run NAME       one experiment in full: its numbers, figures and page
  explain NAME   a network layer by layer under a border: sizes, cost, and what reads position
  audit NAME     does this network use location? How far from the border, how much, at what price? One page
  finetune NAME  a pretrained network under another border, trained further on your images, audited before and after
  playground     place objects by clicking, and watch; in the browser, on this machine

  --help         this text; after a command, its options
  --version      the version

Experiments, in the order of the story:

{experiments}

Examples:

  borderless demo
  borderless run rook
  borderless run rook --small
  borderless run rook --seeds 2 --borders zero full --folder runs/rook-of-two
  borderless run one-place --help
  borderless run quadrant --archs resnet18 timm/resnet26 --policies own infinite --data IMAGES
  borderless run quadrant --seeds 5 --engine ray
  torchrun --nproc-per-node 2 -m borderless run red-green
  borderless explain resnet18
  borderless explain timm/convnext_tiny --border infinite --phase adaptive --reach 2
  borderless audit tf_efficientnet_lite0 --count 8    (weights and photographs of packages: no download)
  borderless audit resnet50 --images PHOTOS
  borderless audit weights.pt --arch timm/resnet26 --images PHOTOS --fail-above 5
  borderless audit --compare runs/audit/resnet50 runs/audit/resnet18
  borderless finetune resnet50 --weights default --data PHOTOS --border infinite --phase adaptive --reach 2

A run keeps each finished part: Ctrl-C stops it, the same command goes on. Results lie in runs/, one folder a run.
"""

# What the extra `demo` has the packages for, and what fits into three minutes.
DEMO = ("equivariance", "conv-types", "rook", "one-place", "placed-object", "quadrant")

BorderChoice = Literal["valid", "zero", "reflect", "replicate", "circular", "full", "infinite"]


# What is wrong with the place that files are written to, rather than with the program.
_FULL = (errno.ENOSPC, errno.EDQUOT)
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR)
_CLOSED_PIPE = 141  # how programs end whose reader has gone: neither done nor failed


class UsageError(Exception):
    """A command that cannot be carried out as it was written."""


@dataclasses.dataclass(frozen=True)
class DemoOptions:
    """The first experiments with small settings, and one page that tells them as a story."""

    folder: Path = Path("runs/demo")
    """Where the page and everything on it is written."""


@dataclasses.dataclass(frozen=True)
class ExplainOptions:
    """Run a network once on an empty image and report each layer: frame, window, stride, receptive field, cost."""

    size: tuple[int, int] = (224, 224)
    """Height and width of the image, in pixels."""
    border: BorderChoice = "infinite"
    """The border to run it under."""
    phase: Literal["fixed", "adaptive"] = "fixed"
    """Which sublattice strided operations keep: the model's own, or the one with the most energy."""
    reach: int | None = None
    """How many cells a map may grow beyond its frame, at most; without it, as many as it needs."""


@dataclasses.dataclass(frozen=True)
class AuditOptions:
    """Measure what a network makes of location, and write one page: how much, how far from the border, the price."""

    images: Path | None = None
    """A folder of images, of any size and kind; without it, the photographs inside scikit-image (extra `demo`)."""
    weights: str = ""
    """Of a named network: default (its library's, downloaded), packaged (tf_efficientnet_lite0), random, or a file."""
    arch: str = ""
    """Whose weights a file holds: a network of torchvision, timm/NAME, or of the paper."""
    size: int = 224
    """Height and width of the images as the network is shown them, in pixels."""
    count: int = 64
    """How many images to draw from the folder; the others are only counted."""
    batch_size: int = 8
    """Images a pass."""
    workers: int = 0
    """Processes that read images, for each process that measures."""
    classes: int | None = None
    """How many classes a network from a file tells apart; without it, its architecture's."""
    seed: int = 0
    """Of everything that is drawn."""
    device: str = "cpu"
    """Where the network runs: cpu, cuda, cuda:1, …"""
    folder: Path | None = None
    """Where the page is written; by default runs/audit/NAME."""
    fail_above: float | None = None
    """In percent: end with status 1 if more answers than this change with the place."""


@dataclasses.dataclass(frozen=True)
class PlaygroundOptions:
    """Place objects by clicking and watch, train the rook, ask a network, audit it: in the browser, on this machine."""

    host: str = "127.0.0.1"
    """The address to listen on; only this machine unless told otherwise."""
    port: int | None = None
    """The port; without it, a free one from 7860 on."""
    open: bool = True
    """Whether to open the page in a browser."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Its exit code: 0, 1 for a failed audit, 2 for an error to mend, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    commands: dict[str, Callable[[list[str]], int | None]] = {
        "demo": _demo,
        "run": _run,
        "explain": _explain,
        "audit": _audit,
        "finetune": _finetune,
        "playground": _playground,
    }
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(HELP.format(experiments=_listed()), end="")
        elif words[0] == "--version":
            from borderless import __version__

            print(f"borderless {__version__}")
        elif words[0] in commands:
            keep_freed_memory()
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return commands[words[0]](words[1:]) or 0
        else:
            raise UsageError(unknown("command", words[0], list(commands), "see borderless --help"))
    except UsageError as error:
        return _fail(error)
    except KeyboardInterrupt as interrupt:
        print(f"\n{interrupt or 'stopped'}", file=sys.stderr)
        return 130
    except SystemExit as exit_:  # tyro has printed its help (0) or what is wrong with the options (2)
        return exit_.code if isinstance(exit_.code, int) else 2
    except Exception as error:
        from borderless.errors import BorderlessError

        if isinstance(error, BorderlessError):
            return _fail(error)
        if isinstance(error, BrokenPipeError):  # whoever read what is printed has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return _CLOSED_PIPE
        if isinstance(error, OSError) and (need := _need_of_files(error)):
            where = "" if error.filename is None else f" at {error.filename}"
            return _fail(UsageError(f"got {error.strerror}{where}; needed: {need}"))
        raise
    return 0


def _need_of_files(error: OSError) -> str:
    """What would mend an error of the place that files are in; "" if it is of something else."""
    if error.errno in _FULL:
        return "more room; what was there before is untouched, and the same command goes on from it"
    if error.errno in _CLOSED and error.filename is not None:
        return "a file or folder there that can be used so, or another one"
    return ""


def _demo(words: list[str]) -> None:
    import tyro

    options = tyro.cli(DemoOptions, args=words, prog="borderless demo")
    from borderless.experiments import EXPERIMENTS
    from borderless.experiments.runner import run
    from borderless.report import write
    from borderless.report.provenance import provenance
    from borderless.runtime.distributed import joined

    sections: list[Section] = []
    with joined() as team:
        for name in DEMO:
            experiment = EXPERIMENTS[name]
            sections.append(run(experiment, experiment.Config.small(), options.folder / name))
    if not team.is_leader:
        return
    page = write(
        sections,
        options.folder / "report.html",
        "A network that knows where, and one that does not",
        "Convolutional networks are said not to care where an object is. They do: the border of the image tells "
        "them, and so does the stride. "
        "This page shows it from a single filter up to a pretrained network, and the same networks, untouched, "
        "under borders that give nothing away.",
        f"Small settings; <code>borderless run NAME</code> runs each experiment in full. {provenance()}",
    )
    print(f"The report is in {page}")


def _run(words: list[str]) -> None:
    from borderless.experiments import EXPERIMENTS

    names = list(EXPERIMENTS)
    if not words or words[0] in ("-h", "--help"):
        print(
            f"Usage: borderless run NAME [options]\n\n{_listed()}\n\nborderless run NAME --help shows the options "
            "of one."
        )
        return
    name = words[0]
    if name not in names:
        raise UsageError(unknown("experiment", name, names, f"choose one of {', '.join(names)}"))
    import tyro

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
    from borderless.experiments.runner import run
    from borderless.runtime.distributed import joined

    with joined() as team:
        section = run(experiment, options.config, options.folder, engine=options.engine, address=options.address)
    if not team.is_leader:
        return
    for table in section.tables:
        _print_table(table)
    print(f"The report is in {options.folder / 'report.html'}, the table in {options.folder / 'table.csv'}")


def _run_options(config: type, name: str) -> Any:
    """The experiment's config without a prefix, where to write, and where to run."""
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


def _network_first(command: str, words: list[str]) -> tuple[str, list[str]]:
    """The network that a command is about, and its options."""
    name, options = words[0], words[1:]
    if name.startswith("-"):
        raise UsageError(
            f"got {name!r} where the network is needed; write it first: borderless {command} resnet50 {name} ..."
        )
    return name, options


def _explain(words: list[str]) -> None:
    import tyro

    if not words or words[0] in ("-h", "--help"):
        print(
            "Usage: borderless explain NAME [options], with NAME a network of torchvision or timm, such as resnet18 "
            "or timm/resnet18, or of the paper, such as fconv_resnet18\n"
        )
        tyro.cli(ExplainOptions, args=["--help"], prog="borderless explain NAME")
    name, words = _network_first("explain", words)
    options = tyro.cli(ExplainOptions, args=words, prog=f"borderless explain {name}")
    import borderless as bl
    from borderless.models import load

    model = load(name)
    print(bl.explain(model, options.size, options.border, phase=options.phase, reach=options.reach))


def _audit(words: list[str]) -> int:
    import tyro

    if not words or words[0] in ("-h", "--help"):
        print(
            "Usage: borderless audit NAME [options], with NAME a network of torchvision, timm/NAME or of the paper\n"
            "       borderless audit FILE --arch NAME [options], with FILE its weights (a state dict)\n"
            "       borderless audit --compare A B, with A and B folders of audits or their audit.json\n"
        )
        tyro.cli(AuditOptions, args=["--help"], prog="borderless audit NAME")
    from borderless.auditing import command

    if words[0] == "--compare":
        if len(words) != 3:
            raise UsageError(f"got {len(words) - 1} audits to compare; needed: two folders, or two audit.json")
        page, tables = command.compare(Path(words[1]), Path(words[2]))
        for table in tables:
            _print_table(table)
        print(f"The comparison is in {page}")
        return 0
    name, words = _network_first("audit", words)
    options = tyro.cli(AuditOptions, args=words, prog=f"borderless audit {name}")
    from borderless.report import plain_text
    from borderless.runtime.distributed import joined

    with joined() as team:
        findings, page, share = command.run(name, options)
    if not team.is_leader:
        return 0
    for finding in findings:
        print(f"{finding.level:<5} {plain_text(finding.text)}")
    print(f"\nThe report is in {page}, its numbers in {page.parent / 'audit.json'}")
    if options.fail_above is None:
        return 0
    if share is None:
        print("borderless: what --fail-above is about could not be measured", file=sys.stderr)
        return 1
    is_above = 100 * share > options.fail_above
    if is_above:
        print(
            f"borderless: {100 * share:.1f} % of the answers change with the place, more than the "
            f"{options.fail_above:g} % of --fail-above",
            file=sys.stderr,
        )
    return int(is_above)


def _finetune(words: list[str]) -> None:
    import tyro

    if not words or words[0] in ("-h", "--help"):
        print(
            "Usage: borderless finetune NAME --data FOLDER [options], with NAME a network of torchvision or timm/NAME\n"
            "       borderless finetune FILE --arch NAME --data FOLDER [options], with FILE its state dict\n"
        )
        words = ["NAME", "--help"]
    from borderless.cli.commands import finetune
    from borderless.runtime.distributed import joined

    name, words = _network_first("finetune", words)
    options = tyro.cli(tyro.conf.OmitArgPrefixes[finetune.Options], args=words, prog=f"borderless finetune {name}")
    with joined() as team:
        outcome = finetune.run(name, options)
    if not team.is_leader:
        return
    for table in outcome.tables:
        _print_table(table)
    before = "" if outcome.accuracy_before is None else f"{100 * outcome.accuracy_before:.1f} % converted, "
    print(f"Accuracy on the test images: {before}{100 * outcome.accuracy:.1f} % fine-tuned")
    print(f"The weights are in {outcome.weights}; in Python, with borderless.models.load:\n  {outcome.loading}")
    if outcome.page is not None:
        print(f"Both audits side by side are in {outcome.page}")


def _playground(words: list[str]) -> None:
    import tyro

    options = tyro.cli(PlaygroundOptions, args=words, prog="borderless playground")
    if options.host not in ("127.0.0.1", "localhost", "::1"):
        print(
            f"borderless: {options.host} can be reached from other machines, and asks for no password", file=sys.stderr
        )
    from borderless.playground import launch

    try:
        _, address, _ = launch(options.host, options.port, options.open, blocks=False)
    except OSError as error:
        raise UsageError(
            f"got no port to listen on ({error}); choose another: borderless playground --port 7870"
        ) from error
    print(f"The playground is at {address} (Ctrl-C ends it)", flush=True)
    threading.Event().wait()


def _listed() -> str:
    from borderless.experiments import EXPERIMENTS

    lines = []
    for name, summary in EXPERIMENTS.summaries.items():
        lines += textwrap.wrap(summary, 100, initial_indent=f"  {name:<16} ", subsequent_indent=" " * 19)
    return "\n".join(lines)


def _fail(error: Exception) -> int:
    print(f"borderless: {error}", file=sys.stderr)
    return 2


def _print_table(table: "Table") -> None:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    from borderless.report import plain_text

    shown = RichTable(box=None, pad_edge=False, header_style="bold")
    for column, is_number in zip(table.columns, table.numeric_columns(), strict=True):
        shown.add_column(Text(plain_text(column)), justify="right" if is_number else "left", overflow="fold")
    for row in table.text_rows():
        shown.add_row(*(Text(plain_text(cell)) for cell in row))
    # In a file or a pipe there is no edge to stay within.
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(shown)
    if table.caption:
        console.print(Text(plain_text(table.caption), style="dim"))
    console.print()


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """One line without the place in the source, which means nothing to whoever typed a command."""
    print(f"borderless: warning: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
