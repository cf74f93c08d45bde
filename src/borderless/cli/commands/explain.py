"""`borderless explain NAME`: a network layer by layer under a border."""

import tyro

from borderless.cli.options import ExplainOptions, split_off_network


def execute(words: list[str]) -> None:
    """Print the layers of the network that the first word names."""
    if not words or words[0] in ("-h", "--help"):
        print(
            "Usage: borderless explain NAME [options], with NAME a network of torchvision or timm, such as resnet18 "
            "or timm/resnet18, or of the paper, such as fconv_resnet18\n"
        )
        tyro.cli(ExplainOptions, args=["--help"], prog="borderless explain NAME")
    name, words = split_off_network("explain", words)
    options = tyro.cli(ExplainOptions, args=words, prog=f"borderless explain {name}")
    # Not before the options are read: PyTorch takes seconds.
    from borderless.explanation import explain
    from borderless.models.loading import load

    print(explain(load(name), options.size, options.border, phase=options.phase, reach=options.reach))
