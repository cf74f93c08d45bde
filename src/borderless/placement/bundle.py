"""Maps of objects that run in one pass although their windows differ in size, or lie on other sublattices.

Up to the step at which a pass switches to whole maps, each function runs on one group of windows after another; from
there on all objects are one batch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from borderless.engine.geometry import Box
from borderless.engine.naming import named
from borderless.engine.relabeled import Relabeled
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import tree_flatten, tree_leaves, tree_unflatten
from borderless.placement.replay import Replay, ReplayedSignal
from borderless.placement.tape import Step

# Functions that may be told the size of the batch.
_TOLD_SIZES = frozenset(named("reshape", "view", "unflatten", "expand", "broadcast_to"))


class PartsDiffer(Exception):
    """Windows are enough for some groups of objects and not for others."""


class BundledSignal(ReplayedSignal):
    """A map of several groups of objects. parts: the map of each group; the rows of the batch are theirs, in order."""

    parts: list[ReplayedSignal]

    @classmethod
    def of(cls, parts: Sequence[ReplayedSignal], scope: Replay) -> "BundledSignal":
        """Return the `parts` of one map, which run in passes of their own, as a map of the pass `scope`."""
        first, rows = parts[0], sum(part._sizes[0] for part in parts)
        cells = first.window.new_full((), torch.nan if first.dtype.is_floating_point else 0)  # nobody reads them
        made = cls(  # pyright: ignore[reportCallIssue]
            cells.expand(rows, *first._sizes[1:]),
            first.start,
            first.frame,
            first.axes,
            None,
            first.lattice,
            scope,
            first.field,
        )
        made._on(first.canvas)
        made.parts = list(parts)
        return made

    def crop(self) -> Tensor:
        """Return the maps on the frame of the canvas."""
        return self.on_whole_canvas().crop()

    def paste(self, cells: Tensor, box: Box) -> None:
        """Write the windows of all groups into `cells`."""
        for part, rows in zip(self.parts, cells.split([part._sizes[0] for part in self.parts]), strict=True):
            part.paste(rows, box)

    def on_windows(self, func: Any, rule: Any, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what `func` makes of the windows of each group."""
        tensors = [leaf for leaf in tree_leaves(step.result) if isinstance(leaf, Tensor)]
        if any(t.ndim == 0 or t.shape[0] != step.source._sizes[0] for t in tensors if not isinstance(t, Signal)):
            return NotImplemented
        leaves, structure = tree_flatten((args, kwargs))
        batch = None
        if func in _TOLD_SIZES:
            sizes = [i for i, leaf in enumerate(leaves) if type(leaf) is int and leaf and leaf % self.shape[0] == 0]
            batch = sizes[0] if sizes else None
            if len(sizes) > 1 or (batch is not None and leaves[batch] != self.shape[0]):
                return NotImplemented
        results = []
        for i, part in enumerate(self.parts):
            own = [leaf.parts[i] if isinstance(leaf, BundledSignal) else leaf for leaf in leaves]
            if batch is not None:
                own[batch] = part.shape[0]
            results.append(part.on_windows(func, rule, step, *tree_unflatten(own, structure)))
        if all(result is NotImplemented for result in results):
            return NotImplemented
        if any(result is NotImplemented for result in results):
            raise PartsDiffer
        bundles = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, BundledSignal)]
        made, structures = zip(*map(tree_flatten, results), strict=True)
        return tree_unflatten([self._joined(parts, bundles) for parts in zip(*made, strict=True)], structures[0])

    def _joined(self, parts: Sequence[Any], bundles: Sequence["BundledSignal"]) -> Any:
        """Return one leaf of a result for all groups. bundles: those that went in, which a function may return."""
        first = parts[0]
        if isinstance(first, Relabeled):
            whole = self._joined([part.map for part in parts], bundles)
            return Relabeled.of(whole, first.batch, first.tokens, first.flattened_by)
        if isinstance(first, ReplayedSignal):
            for bundle in bundles:
                if bundle.parts[0] is first:
                    return bundle._changed()
            return BundledSignal.of(parts, self.placing)
        return torch.cat(list(parts)) if isinstance(first, Tensor) else first

    def _changed(self) -> "BundledSignal":
        """Return this map after a function has worked in place on its parts, which may have grown."""
        first = self.parts[0]
        self.window = self.window.flatten()[:1].reshape([1] * first.ndim).expand(self._sizes[0], *first._sizes[1:])
        self.start, self.field, self._sizes = first.start, first.field, self.window.shape
        self._on(first.canvas)
        return self
