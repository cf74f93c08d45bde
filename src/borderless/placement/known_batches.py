"""Ordinary batches of whole canvases that are known to be right, so that later ones of their kind need no plan.

On a small network a plan takes longer than all outputs. So after a placement whose plan said whole canvases, and whose
first pass made sure that no row of a batch reads another one, this is kept, as long as the model lives and is the same.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from itertools import chain
from types import NoneType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from borderless.engine.torch_internals import modules_of

_MOST_KINDS = 64
_COMPARED = frozenset((int, float, complex, bool, str, NoneType, torch.dtype, torch.device))


@dataclass(frozen=True)
class Batches:
    """Batches of whole canvases.

    members: for each position that runs, the numbers of the positions with its output. at_once: samples of a batch.
    """

    members: list[list[int]]
    at_once: int


@dataclass
class KnownBatches:
    """The batches that are known of a model, by the kind of placement."""

    model: list[Any]  # how it was
    kinds: dict[Hashable, Batches] = field(default_factory=dict)

    def keep(self, kind: Hashable, batches: Batches) -> None:
        """Keep batches, and forget those that were kept longest ago."""
        self.kinds[kind] = batches
        while len(self.kinds) > _MOST_KINDS:
            del self.kinds[next(iter(self.kinds))]


_KNOWN: "WeakKeyDictionary[nn.Module, KnownBatches]" = WeakKeyDictionary()


def known_batches(model: nn.Module) -> KnownBatches:
    """Return what is known of a model: nothing where its modules or their attributes have changed."""
    found, state = _KNOWN.get(model), _state_of(model)
    if found is None or found.model != state:
        found = _KNOWN[model] = KnownBatches(state)
    return found


def _state_of(model: nn.Module) -> list[Any]:
    """Return what a model's calls of functions depend on, but for their arguments."""
    modules = modules_of(model)
    attributes = chain.from_iterable(map(dict.values, map(vars, modules)))
    return [*map(type, modules), *map(id, attributes)]


def evenly(count: int, at_once: int) -> int:
    """Return the size of batches of `count` samples, as equal as may be, and as threads can share."""
    threads = torch.get_num_threads()
    size = -(-count // -(-count // at_once))
    return size if at_once < threads else min(-(-size // threads) * threads, at_once // threads * threads)


def described(value: Any) -> Hashable:
    """Return what can be compared of an argument and keeps nothing alive: the sizes of a tensor, the type of others."""
    if isinstance(value, Tensor):
        return Tensor, *value.shape
    if isinstance(value, tuple | list):
        return tuple([described(each) for each in value])
    if isinstance(value, dict):
        return tuple([(key, described(each)) for key, each in value.items()])
    return value if type(value) in _COMPARED else type(value)
