"""`borderless demo`: the first experiments with small settings, on one page."""

from borderless.cli.options import DemoOptions
from borderless.cli.parsing import parse

USAGE = """\
Usage: borderless demo [--folder FOLDER]

Run the first experiments with small settings, and write one page that tells them as a story, in two minutes. Needs no
download."""

# What the extra `demo` has the packages for, and what fits into two minutes.
DEMO = ("equivariance", "conv-types", "rook", "one-place", "placed-object", "quadrant")


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
    sections: list[Section] = []
    with joined() as group:
        for name in DEMO:
            experiment = EXPERIMENTS[name]
            sections.append(run(experiment, experiment.Config.small(), options.folder / name))
    if not group.is_leader:
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
