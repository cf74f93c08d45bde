"""`borderless finetune`: a pretrained network under another border, trained further on anyone's images, and audited."""

from borderless.cli.options import FinetuneOptions, split_off_network
from borderless.cli.parsing import parse

USAGE = """\
Usage: borderless finetune NAME --data FOLDER [options]
       borderless finetune FILE --arch NAME --data FOLDER [options]

Convert a pretrained network to another border, train it further on your images, audit it before and after.
NAME: a network of torchvision, timm/NAME, or your own, package.module:build. FILE: its weights (a state dict)."""


def execute(words: list[str]) -> None:
    """Fine-tune the network that the first word names; print the audits' tables and where the weights are."""
    name, words = split_off_network("finetune", words)
    options = parse(FinetuneOptions, words, USAGE, FinetuneOptions.MAIN)
    # Not before the options are read: PyTorch takes seconds.
    from borderless.cli.finetuning import finetune_network
    from borderless.cli.tables import print_table
    from borderless.runtime.distributed import joined

    with joined() as group:
        outcome = finetune_network(name, options)
    if not group.is_leader:
        return
    for table in outcome.tables:
        print_table(table)
    before = "" if outcome.accuracy_before is None else f"{100 * outcome.accuracy_before:.1f} % converted, "
    print(f"Accuracy on the test images: {before}{100 * outcome.accuracy:.1f} % fine-tuned")
    print(f"The weights are in {outcome.weights}; in Python, with borderless.models.load:\n  {outcome.loading}")
    if outcome.page is not None:
        print(f"Both audits side by side are in {outcome.page}")
