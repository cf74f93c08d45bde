"""The rows of a batch, put together anew: folded out of dimensions and into them, repeated, selected and joined.

Under the fixed phase a batch is a dimension like any other. Under the adaptive phase each row has phases of its own,
so the lattices go along: a row that is repeated takes its phases with it, and rows become one sample again only where
their phases agree, which is looked up. What comes back to the rows of an earlier batch comes back to its lattices.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from borderless.engine.geometry import union
from borderless.engine.lattice import Family, Lattice, Stride
from borderless.engine.naming import describe
from borderless.engine.rules.spread_maps import has_values
from borderless.engine.signal import Signal

_Part = tuple[Signal, Sequence[int]]


def lattice_of_rows(signal: Signal, rows: Sequence[int]) -> Lattice:
    """Return the lattice of a map whose row i is the row `rows[i]` of `signal`."""
    return lattice_of_parts([(signal, rows)])


def lattice_of_parts(parts: Sequence[_Part]) -> Lattice:
    """Return the lattice of a batch that joins rows of several maps, each with the numbers of the rows taken of it."""
    signal = parts[0][0]
    if not signal.border.is_adaptive:
        return signal.lattice
    return _selected(parts, set.intersection(*(set(part.lattice.family) for part, _ in parts)))


def lattice_of_reshaped(signal: Signal, samples: int, function: object) -> Lattice:
    """Return the lattice after a reshape to a batch of `samples`: rows that were folded follow each other."""
    count = signal.window.shape[0]  # which a program may leave open, as it does not len()
    if not signal.border.is_adaptive or samples == count:
        return signal.lattice
    if samples % count == 0:
        return lattice_of_rows(signal, [i // (samples // count) for i in range(samples)])
    if count % samples:
        raise signal.scope.unsupported(
            describe(function),
            f"it makes a batch of {samples} of one of {count}, and with phase='adaptive' each row has its own phase",
        )
    size = count // samples
    family = signal.lattice.family
    agreed = {stride for stride, lattice in family.items() if _agrees_within(signal, lattice, size, function)}
    if signal.lattice.stride not in agreed:
        raise signal.scope.unsupported(
            describe(function),
            f"it takes {size} rows of the batch for one sample, and with phase='adaptive' they have chosen different "
            "phases. Write the strided layers before channels or frames are folded into the batch, pool over space "
            "before they are taken out of it, or use phase='fixed'",
        )
    return _selected([(signal, range(0, count, size))], agreed)


def are_alike(first: Signal, second: Signal) -> bool:
    """Return whether cells of equal number have the same position in both, as the phases turned out."""
    one, other = first.lattice, second.lattice
    if one.is_same(other):
        return True
    if one.stride != other.stride or one.axes != other.axes or one.offset is None or other.offset is None:
        return False
    return one.offset.shape == other.offset.shape and _is_equal(one.offset, other.offset)


def _agrees_within(signal: Signal, lattice: Lattice, size: int, function: object) -> bool:
    """Return whether every `size` rows of a lattice that follow each other have one phase."""
    if lattice.offset is None or size == 1:
        return True
    if not has_values(lattice.offset):
        raise signal.scope.unsupported(
            describe(function),
            "it takes rows of the batch for one sample, and with phase='adaptive' their phases have to be looked at, "
            "which a recorded program or torch.func cannot do",
        )
    groups = lattice.offset.unflatten(0, (-1, size))
    return bool((groups == groups[:, :1]).all())


def _is_equal(one: Tensor, other: Tensor) -> bool:
    return has_values(one) and has_values(other) and torch.equal(one, other)


def _selected(parts: Sequence[_Part], strides: set[Stride]) -> Lattice:
    """Return the lattice of the rows of `parts`, in the family that these rows have; of it no more than `strides`."""
    signal, rows = parts[0]
    if len(parts) == 1 and list(rows) == list(range(signal.window.shape[0])):
        return signal.lattice
    made = {stride: _stacked(parts, stride) for stride in signal.lattice.family if stride in strides}
    sources = {stride: [(part.lattice.family[stride], tuple(rows)) for part, rows in parts] for stride in made}
    apart = {
        a: {b: union([part.lattice.family[a].pixels_to(b) for part, _ in parts]) for b in made if a != b} for a in made
    }
    family = _family_of(parts)
    if not _may_enter(family, made, sources):
        family = Family()
    for stride, offset in made.items():
        if stride not in family:
            family.enter(Lattice(stride, offset, axes=signal.lattice.axes), apart[stride])
            family.sources[stride] = sources[stride]
    return family[signal.lattice.stride]


def _stacked(parts: Sequence[_Part], stride: Stride) -> Tensor | None:
    """Return the offsets of the rows of `parts` on their lattices of this stride."""
    offsets = [part.lattice.family[stride].offset for part, _ in parts]
    if all(offset is None for offset in offsets):
        return None
    taken = []
    for (part, rows), offset in zip(parts, offsets, strict=True):
        index = torch.tensor(list(rows), device=part.window.device)
        taken.append(index.new_zeros(len(index), len(stride)) if offset is None else offset.index_select(0, index))
    return torch.cat(taken)


def _family_of(parts: Sequence[_Part]) -> Family:
    """Return the family of the rows of `parts`, if they all are rows of one batch; else a new one."""
    key: list[int] = []
    roots: list[Family] = []
    for signal, rows in parts:
        family = signal.lattice.family
        if family.origin is None:
            family.origin = (family, tuple(range(signal.window.shape[0])))
        root, own = family.origin
        roots.append(root)
        key += [own[row] for row in rows]
    root = roots[0]
    if any(other is not root for other in roots):
        return Family()
    assert root.origin is not None
    if tuple(key) == root.origin[1]:
        return root
    return root.selections.setdefault(tuple(key), Family((root, tuple(key))))


def _may_enter(family: Family, made: dict[Stride, Tensor | None], sources: dict[Stride, Any]) -> bool:
    """Return whether lattices with the offsets `made` go with those that `family` has already."""
    for stride, offset in made.items():
        known = family.get(stride)
        if known is None or family.sources.get(stride) == sources[stride]:
            continue
        if (offset is None) != (known.offset is None):
            return False
        if offset is not None and known.offset is not None and not _is_equal(offset, known.offset):
            return False
    others = [lattice for stride, lattice in family.items() if stride not in made]
    new = [Lattice(stride, offset) for stride, offset in made.items() if stride not in family]
    offsets = [lattice.offset for lattice in (*others, *new) if lattice.offset is not None]
    return not others or (all(map(has_values, offsets)) and all(a.fits(b) for a in new for b in others))
