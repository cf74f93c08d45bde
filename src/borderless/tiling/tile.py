"""The output of a network for a whole image, computed tile after tile."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from borderless.conversion import attached, border_of
from borderless.engine.border import Border
from borderless.engine.outputs import release
from borderless.engine.reading import cut
from borderless.engine.torch_internals import tree_leaves, tree_map
from borderless.runtime.evaluation import exclusive
from borderless.tiling.carry import CarryPass, Place
from borderless.tiling.part import PartEdge, PartSignal


class NeedsAllTiles(BaseException):
    pass


class Alone:
    def gather(self, key: int, part: Any, merge: Any) -> Any:
        raise NeedsAllTiles


class _Run:
    warned: set[str] = set()

    def __init__(self, model, image, cuts):
        self.model, self.image, self.cuts = model, image, cuts
        self.edge = PartEdge(border_of(model) or Border("zero"))
        self.kept, self.out, self.macs = [], None, 0

    def enter(self, module, args, kwargs):
        return (PartSignal.from_part(args[0], self.start, self.image.shape[2:], self.scope),), kwargs

    def leave(self, module, args, kwargs, output):
        release(module)
        return output

    def run(self):
        with attached(self.model, self), torch.no_grad():
            for combo in product(*(list(enumerate(c)) for c in self.cuts)):
                place = Place(tuple(i for i, _ in combo), tuple(i == len(c) - 1 for (i, _), c in zip(combo, self.cuts)))
                box = tuple(b for _, b in combo)
                self.start = tuple(a for a, _ in box)
                self.scope = CarryPass(self.edge, self.model, place=place, kept=self.kept, exchange=Alone())
                cells = self.image[(..., *(slice(a, b) for a, b in box))]
                leaves = tree_leaves(self.model(cells))
                self.macs += self.scope.macs
                if self.out is None:
                    self.out = [l.window.new_full(l.shape, torch.nan) if isinstance(l, PartSignal) else l for l in leaves]
                for into, l in zip(self.out, leaves):
                    if isinstance(l, PartSignal) and all(a < b for a, b in l.box):
                        cut(into, l.axes, l.frame_box, l.box).copy_(l.window)
        return self.out
