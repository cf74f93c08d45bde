"""`borderless explain NAME`: a network layer by layer under a border."""

from borderless.cli.options import ExplainOptions, split_off_network
from borderless.cli.parsing import parse

USAGE = """\
Usage: borderless explain NAME [options]

Print a network layer by layer under a border: sizes, receptive field, cost, and what reads position.
NAME: a network of torchvision, timm/NAME, or of the paper, such as resnet18 or fconv_resnet18;
or your own, as package.module:build."""


def execute(words: list[str]) -> None:
    """Print the layers of the network that the first word names."""
    name, words = split_off_network("explain", words)
    options = parse(ExplainOptions, words, USAGE, ("size", "border", "phase", "reach"))
    # Not before the options are read: PyTorch takes seconds.
    from borderless.explanation import explain
    from borderless.models.request import architecture

    print(explain(architecture(name), options.size, options.border, phase=options.phase, reach=options.reach))
