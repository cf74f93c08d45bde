"""The output of a network for a whole image, computed tile after tile."""

from typing import Any

from torch import Tensor, nn

from borderless.engine.geometry import Box
from borderless.engine.reading import cut
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import tree_flatten, tree_unflatten
from borderless.partition.part import PartSignal
from borderless.partition.runner import Grid, Runner


def tile(model: nn.Module, image: Tensor, *, tile: int | tuple[int, ...]) -> Any:
    """Return the output of `model` for the whole `image`."""
    size = tuple(image.shape[2:])
    steps = (tile,) * len(size) if isinstance(tile, int) else tile
    outputs = Outputs()
    Runner(model).run(Grid.regular(size, steps), lambda box: image[(..., *(slice(a, b) for a, b in box))], outputs.put)
    return outputs.whole()


class Outputs:
    """What a model gives for an image, put together from its parts."""

    def __init__(self) -> None:
        self.leaves: list[Any] = []
        self.structure: Any = None

    def put(self, box: Box, output: Any) -> None:
        """Take over the output of a part."""
        leaves, structure = tree_flatten(output)
        if self.structure is None:
            self.structure = structure
            self.leaves = [
                leaf.window.new_empty(leaf.shape) if isinstance(leaf, PartSignal) else leaf for leaf in leaves
            ]
        for into, leaf in zip(self.leaves, leaves, strict=True):
            if isinstance(leaf, PartSignal):
                known = tuple((max(a, 0), min(b, n)) for (a, b), n in zip(leaf.box, leaf.frame, strict=True))
                if all(a < b for a, b in known):
                    cut(into, leaf.axes, leaf.frame_box, known).copy_(cut(leaf.window, leaf.axes, leaf.box, known))

    def whole(self) -> Any:
        """Return the output for the whole image."""
        leaves = [leaf.crop() if isinstance(leaf, Signal) else leaf for leaf in self.leaves]
        return tree_unflatten(leaves, self.structure)
