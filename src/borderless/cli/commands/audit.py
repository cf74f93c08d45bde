"""`borderless audit`: one network on one page, or two audits compared."""

import sys
from pathlib import Path

from borderless.cli.options import AuditOptions, UsageError, split_off_network
from borderless.cli.parsing import parse

USAGE = """\
Usage: borderless audit NAME [options]
       borderless audit FILE --arch NAME [options]
       borderless audit PACKAGE.MODULE:BUILD --weights FILE [options]
       borderless audit PROGRAM [options]
       borderless audit --compare A B

Measure whether a network's predictions depend on absolute position, how far from the border, why, and what it costs to
prevent it. Writes one page, report.html, and its numbers, audit.json. NAME: a network of torchvision, timm/NAME, or of
the paper. FILE: its weights (a state dict). PACKAGE.MODULE:BUILD: a function or class, in the current folder or
installed, that returns a network. PROGRAM: TorchScript, a program of torch.export (.pt2), or ONNX; it is run and
measured from outside. A, B: folders of audits, or their audit.json."""


def execute(words: list[str]) -> int:
    """Audit the network that the first word names, or compare two audits; 1 if --fail-above is exceeded."""
    if words and words[0] == "--compare":
        if len(words) != 3:
            raise UsageError(
                f"Expected two audits after --compare but got {len(words) - 1}; give two folders, or two audit.json"
            )
        _compare(Path(words[1]), Path(words[2]))
        return 0
    name, words = split_off_network("audit", words)
    options = parse(AuditOptions, words, USAGE, AuditOptions.MAIN)
    # Not before the options are read: PyTorch takes seconds.
    from borderless.auditing import command
    from borderless.report.content import LEVELS, plain_text
    from borderless.runtime.distributed import joined

    with joined() as group:
        found = command.run(name, options)
    if not group.is_leader:
        return 0
    for finding in found.findings:
        print(f"{LEVELS[finding.level]:<8} {plain_text(finding.text)}")
    print(f"\nThe task is {found.task}.")
    print(f"The report is in {found.page}, its numbers in {found.page.parent / 'audit.json'}")
    if options.fail_above is None:
        return 0
    if found.share is None:
        print("borderless: what --fail-above is about could not be measured", file=sys.stderr)
        return 1
    is_above = 100 * found.share > options.fail_above
    if is_above:
        changes = found.words.changes.format(f"{100 * found.share:.1f} %")
        print(
            f"borderless: {changes} with the position, more than the {options.fail_above:g} % of --fail-above",
            file=sys.stderr,
        )
    return int(is_above)


def _compare(one: Path, other: Path) -> None:
    from borderless.auditing import command
    from borderless.cli.tables import print_table

    page, tables = command.compare(one, other)
    for table in tables:
        print_table(table)
    print(f"The comparison is in {page}")
