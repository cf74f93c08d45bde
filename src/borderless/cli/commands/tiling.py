"""`borderless tiling NAME`: a network on tiles of a large image, before anything is computed."""

import json

import tyro

from borderless.cli.options import TilingOptions, split_off_network


def execute(words: list[str]) -> None:
    """Print the card of the network that the first word names."""
    if not words or words[0] in ("-h", "--help"):
        print(
            "Usage: borderless tiling NAME [options], with NAME a network of torchvision or timm, such as resnet18 or "
            "timm/resnet18, or of the paper, such as fconv_resnet18\n"
        )
        tyro.cli(TilingOptions, args=["--help"], prog="borderless tiling NAME")
    name, words = split_off_network("tiling", words)
    options = tyro.cli(TilingOptions, args=words, prog=f"borderless tiling {name}")
    # Not before the options are read: PyTorch takes seconds.
    from borderless.conversion import convert_
    from borderless.models.loading import load
    from borderless.partition.card import tiling

    model = load(name).eval()
    if options.border is not None:
        convert_(model, options.border)
    card = tiling(model, options.size, tiles=options.tiles or None)
    print(json.dumps(card.to_dict(), indent=2) if options.json else card)
