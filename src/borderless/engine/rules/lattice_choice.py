"""The lattice that a strided operation leaves a Signal on, and the one that upsampling brings it back to."""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from borderless.engine.geometry import Slide, ceil_div
from borderless.engine.shifting import Shift
from borderless.engine.tiles import less, tile

if TYPE_CHECKING:
    from borderless.engine.signal import Signal
from borderless.engine.lattice import Lattice
from borderless.engine.phase import choose_phase


class LatticeChoice(NamedTuple):
    """The lattice on which a strided operation leaves a map, and how it renumbers the cells it reads (None: not)."""

    lattice: Lattice
    shift: Shift | None = None
    deviation: Tensor | None = None


def choose_lattice(signal: "Signal", slides: tuple[Slide, ...]) -> LatticeChoice:
    """Return the lattice that a sliding operation leaves `signal` on, chosen now unless it was chosen before."""
    lattice = signal.lattice
    factor = tuple([slide.stride for slide in slides])
    if max(factor) == 1:
        return LatticeChoice(lattice)
    coarse, deviation = lattice.find_coarser(factor), None
    if coarse is None:
        phase, largest = None, tuple(f - 1 for f in factor)
        if signal.border.is_adaptive:
            phase, deviation = _chosen(signal, factor)
            axes = zip(signal.edges, slides, signal.box, strict=True)
            bounds = tuple([s.cheapest_phase(w) if e.keeps == "touching" else s.stride - 1 for e, s, w in axes])
            if bounds != largest:
                largest = bounds
                bound = torch.tensor(largest, device=phase.device)
                phase = torch.where(phase > bound, phase - torch.tensor(factor, device=phase.device), phase)
        coarse = lattice.make_coarser(factor, phase, largest)
    return LatticeChoice(coarse, lattice.shift_to(coarse), deviation)


def _chosen(signal: "Signal", factor: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
    """(N, D): the phase that each sample takes of those that the family leaves, and the deviation if it was needed."""
    if not all(isinstance(s, int) for s in signal.lattice.stride):
        raise signal.scope.unsupported(
            "a strided operation", "phase='adaptive' chooses among whole pixels, and this map is finer"
        )
    residues, moduli = signal.lattice.known_class(factor)
    if max(moduli) == 1:
        deviation = signal.deviation()
        return choose_phase(deviation, signal.axes, signal.start, factor), deviation
    device, samples = signal.window.device, signal.window.shape[0]
    known = torch.stack([torch.as_tensor(r, device=device).expand(samples) for r in residues], 1)
    if moduli == factor:
        return known, None
    # Among the cells of the known class, which are renumbered to the multiples of its modulus.
    shift = Shift(known, (0,) * len(factor), tuple(m - 1 for m in moduli))
    box, background = signal.renumbered(shift)
    wanted = tuple(range(ceil_div(a, m) * m, b, m) for (a, b), m in zip(box, moduli, strict=True))
    if not all(wanted):  # under `valid`, too small a map to tell
        return known, None
    cells = signal.read_ranges(wanted, shift)
    if background is not None:
        cells = less(cells, tile(background, signal.axes, wanted))
    start = tuple(along.start // m for along, m in zip(wanted, moduli, strict=True))
    rest = choose_phase(cells, signal.axes, start, tuple(f // m for f, m in zip(factor, moduli, strict=True)))
    return known + rest * torch.tensor(moduli, device=device), None


def undo_strides(lattice: Lattice, factor: tuple[int, ...]) -> tuple[Lattice, Shift | None]:
    """Return the lattice of a map of `lattice` upsampled by `factor`, and how its cells are renumbered (None: not)."""
    fine = lattice.find_finer(factor)
    shift = fine.shift_to(lattice)
    if shift is None or not any((*shift.low, *shift.high)):
        return fine, None
    return fine, Shift(-shift.by, tuple(-high for high in shift.high), tuple(-low for low in shift.low))
