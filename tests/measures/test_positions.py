"""Where an object is set: against the definitions, written out."""

import numpy as np
import pytest

from borderless.measures.positions import between_strides, on_grid, whole_strides_apart

ROOM, STRIDES = (21, 18), (4, 5)


@pytest.mark.parametrize(
    "found", [on_grid(ROOM, 4), whole_strides_apart(ROOM, STRIDES, 4), between_strides(ROOM, STRIDES, 9, seed=0)]
)
def test_the_middle_is_first_and_every_position_fits_and_comes_once(found: np.ndarray) -> None:
    assert found[0].tolist() == [10, 9]
    assert found.min() >= 0
    assert (found <= ROOM).all()
    assert len(np.unique(found, axis=0)) == len(found)


def test_a_grid_goes_from_edge_to_edge() -> None:
    rows, columns = (set(axis) for axis in on_grid(ROOM, 4)[1:].T.tolist())
    assert (rows, columns) == ({0, 7, 14, 21}, {0, 6, 12, 18})


def test_whole_strides_are_multiples_of_the_stride() -> None:
    steps = whole_strides_apart(ROOM, STRIDES, 100) - [10, 9]
    assert (steps % STRIDES == 0).all()
    assert sorted({step for step, _ in steps.tolist()}) == [-8, -4, 0, 4, 8]
    assert sorted({step for _, step in steps.tolist()}) == [-5, 0, 5]


def test_between_strides_every_phase_is_there_once_or_as_many_as_asked_for() -> None:
    every = between_strides(ROOM, STRIDES, 100, seed=0)
    assert len({(row % 4, column % 5) for row, column in every.tolist()}) == len(every) == 20
    few = between_strides(ROOM, STRIDES, 6, seed=1)
    assert len(few) in (6, 7)  # the middle may be among the drawn
    assert {tuple(one) for one in few.tolist()} <= {tuple(one) for one in every.tolist()}
    assert few.tolist() == between_strides(ROOM, STRIDES, 6, seed=1).tolist()
