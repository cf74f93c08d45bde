"""`borderless tiling NAME`: a network on tiles of a large image, before anything is computed."""

import json

from borderless.cli.options import TilingOptions, split_off_network
from borderless.cli.parsing import parse

USAGE = """\
Usage: borderless tiling NAME [options]

Tell whether a network runs on tiles of a large image, how they must be cut, and what they cost.
NAME: a network of torchvision, timm/NAME, or of the paper, such as resnet18 or fconv_resnet18;
or your own, as package.module:build."""


def execute(words: list[str]) -> None:
    """Print the card of the network that the first word names."""
    name, words = split_off_network("tiling", words)
    options = parse(TilingOptions, words, USAGE, ("size", "border", "tiles", "json"))
    # Not before the options are read: PyTorch takes seconds.
    from borderless.conversion import convert_
    from borderless.models.request import architecture
    from borderless.partition.card import tiling

    model = architecture(name)
    if options.border:
        convert_(model, options.border)
    card = tiling(model, options.size, tiles=options.tiles or None)
    print(json.dumps(card.to_dict(), indent=2) if options.json else card)
