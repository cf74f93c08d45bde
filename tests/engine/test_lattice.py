"""The lattices of one image: in whatever order strides run, distances are whole and lie within their bounds."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
from borderless.engine.lattice import Lattice, Stride
from borderless.engine.rules.lattice_choice import undo_strides

SAMPLES = 64
factors = st.tuples(st.integers(1, 5), st.integers(1, 5))


def coarsened(data: st.DataObject, lattice: Lattice, factor: tuple[int, ...]) -> Lattice:
    """What `choose_lattice` does, with phases drawn at random from those that the family leaves."""
    known = lattice.find_coarser(factor)
    if known is not None:
        return known
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    residues, moduli = lattice.known_class(factor)
    largest = tuple(data.draw(st.integers(0, f - 1)) for f in factor)
    phases = []
    for residue, modulus, f, most in zip(residues, moduli, factor, largest, strict=True):
        assert f % modulus == 0
        phase = residue + modulus * torch.randint(f // modulus, (SAMPLES,), generator=generator)
        phases.append(torch.where(phase > most, phase - f, phase))
    return lattice.make_coarser(factor, torch.stack(phases, 1), largest)


def divides(fine: Stride, coarse: Stride) -> bool:
    return all((Fraction(c) / f).denominator == 1 for f, c in zip(fine, coarse, strict=True))


def offset(lattice: Lattice) -> Tensor:
    return torch.zeros(SAMPLES, 2, dtype=torch.long) if lattice.offset is None else lattice.offset


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_every_distance_is_whole_and_within_its_bounds(data: st.DataObject) -> None:
    family = [Lattice((1, 1))]
    for _ in range(data.draw(st.integers(1, 5))):
        lattice, factor = data.draw(st.sampled_from(family)), data.draw(factors)
        is_whole = all(isinstance(s, int) for s in lattice.stride)
        made = coarsened(data, lattice, factor) if is_whole and data.draw(st.booleans()) else lattice.find_finer(factor)
        if made not in family:
            family.append(made)
    assert list(family[0].family.values()) == family, "one lattice for each stride"
    for fine in family:
        for coarse in family:
            if not divides(fine.stride, coarse.stride):
                continue
            for axis, step in enumerate(fine.stride):
                pixels = (offset(coarse) - offset(fine))[:, axis].tolist()
                cells = [Fraction(px) / step for px in pixels]
                assert all(c.denominator == 1 for c in cells)
                shift = fine.shift_to(coarse)
                if shift is None:
                    assert set(cells) == {0}
                else:
                    assert shift.by[:, axis].tolist() == cells
                    assert shift.low[axis] <= min(cells) and max(cells) <= shift.high[axis]


@settings(max_examples=50, deadline=None)
@given(data=st.data(), first=factors, second=factors)
def test_find_finer_undoes_make_coarser_in_one_step_or_in_two(data: st.DataObject, first: tuple, second: tuple) -> None:
    image = Lattice((1, 1))
    both = tuple(a * b for a, b in zip(first, second, strict=True))
    in_one_first = data.draw(st.booleans())
    once = coarsened(data, image, both) if in_one_first else None
    halfway = coarsened(data, image, first)
    twice = coarsened(data, halfway, second)
    assert coarsened(data, image, both) is twice and once in (None, twice)
    assert (
        twice.find_finer(second) is halfway and halfway.find_finer(first) is image and twice.find_finer(both) is image
    )
    fine, shift = undo_strides(twice, both)
    there = image.shift_to(twice)
    assert fine is image
    if shift is not None and there is not None:
        assert torch.equal(shift.by, -there.by)


def test_the_bounds_are_exact_where_a_long_stride_comes_first() -> None:
    """Phase 3 of 4, halved: 1 of 2 and then 1 of 2; the long way and the short way both see every distance."""
    image = Lattice((1,))
    phases = torch.arange(4)[:, None]
    four = image.make_coarser((4,), phases, (3,))
    residues, moduli = image.known_class((2,))
    assert moduli == (2,) and torch.equal(torch.as_tensor(residues[0]), phases[:, 0] % 2)
    two = image.make_coarser((2,), phases % 2, (1,))
    shift = two.shift_to(four)
    assert shift is not None and shift.by.flatten().tolist() == [0, 0, 1, 1] and (shift.low, shift.high) == ((0,), (1,))


@pytest.mark.parametrize(("strides", "expected"), [((2, 3), 6), ((4, 2), 4), ((4, 6), 12)])
def test_the_total_stride_is_the_least_common_multiple(strides: tuple[int, int], expected: int) -> None:
    image = Lattice((1, 1))
    for stride in strides:
        image.make_coarser((stride, 1), None, (0, 0))
    image.find_finer((2, 2)).make_coarser((5, 3), None, (0, 0))  # 5/2 and 3/2
    image.without(0).make_coarser((7,), None, (0,))  # along the second axis alone
    assert image.total_stride == (5 * expected, 21)


class Branches(nn.Module):
    """Two strided branches, joined on the image's lattice after upsampling; or, with a third that has both strides
    at once and runs first or last, on the coarse lattice that all lead to.
    """

    def __init__(self, first: int, second: int, *, upsampled: bool, long_first: bool) -> None:
        super().__init__()
        self.strides, self.upsampled, self.long_first = (first, second), upsampled, long_first
        self.long = nn.Conv2d(1, 3, 1, first * second)
        self.a, self.b = nn.Conv2d(1, 3, 3, first, padding=1), nn.Conv2d(1, 3, 3, second, padding=1)
        self.then_b, self.then_a = nn.Conv2d(3, 3, 3, second, padding=1), nn.Conv2d(3, 3, 1, first)
        self.last = nn.Conv2d(6 if upsampled else 9, 4, 3, 2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        long = [self.long(images)] if self.long_first and not self.upsampled else []
        a, b = self.a(images).relu(), self.b(images).relu()
        if self.upsampled:
            joined = [F.interpolate(m, scale_factor=s) for m, s in zip((a, b), self.strides, strict=True)]
        else:
            joined = [self.then_b(a), self.then_a(b), *(long or [self.long(images)])]
        return self.last(torch.cat(joined, 1)).relu().mean((2, 3))


@pytest.mark.parametrize("upsampled", [True, False])
@pytest.mark.parametrize("phase", ["fixed", "adaptive"])
@settings(max_examples=12, deadline=None)
@given(
    strides=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    shift=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    long_first=st.booleans(),
    seed=st.integers(0, 99),
)
def test_branches_of_any_two_strides_are_exact_under_shifts(
    phase: str, upsampled: bool, strides: tuple[int, int], shift: tuple[int, int], long_first: bool, seed: int
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Branches(*strides, upsampled=upsampled, long_first=long_first).double().eval()
        thing = torch.randn(1, 1, 11, 11, dtype=torch.float64)
    converted = bl.convert(model, "infinite", phase=phase)  # pyright: ignore[reportArgumentType]
    if phase == "fixed":
        total = bl.explain(model, (60, 60)).total_stride
        shift = tuple(int(s) // t * t for s, t in zip(shift, total, strict=True))  # pyright: ignore[reportAssignmentType]
    first = torch.zeros(1, 1, 60, 60, dtype=torch.float64)
    first[..., 3:14, 4:15] = thing
    second = first.roll(shift, (2, 3))
    with torch.no_grad():
        before, after = converted(first), converted(second)
    assert (before - after).abs().max() <= 1e-10 * before.abs().max()
