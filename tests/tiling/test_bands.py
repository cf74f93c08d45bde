"""Bands of one image, each carried by itself: the very bytes of one process."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from borderless.errors import RunError, UnsupportedOperation
from borderless.partition import bands as bands_module
from borderless.partition.bands import Band, Work, bands_of, halo_of, tile_on_ray
from borderless.partition.output_files import OutputFile
from borderless.partition.outputs import Outputs, output_of_whole
from borderless.partition.resume import tile_to_file
from borderless.partition.runner import Grid, Runner
from borderless.partition.sources import tiled_image
from support.dying import run_and_die
from support.tiled_networks import Decoder, Several, seeded

SIZE = (97, 41)
PIXELS = np.random.default_rng(0).random((2, *SIZE))
GRID = Grid.regular(SIZE, (8, 17))


def work(model: nn.Module) -> Work:
    return Work(model, lambda: PIXELS, None, GRID, (), {}, 1)


class Dense(Several):
    """Without its head over all of space."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        dense = self.dense(image).relu()
        return dense, self.coarse(dense)


@pytest.mark.parametrize("network", [Decoder, Dense])
def test_bands_give_the_bytes_of_one_process(network: type[nn.Module]) -> None:
    model = seeded(network())
    image = tiled_image(model, PIXELS)
    expected, found = (Outputs(device=torch.device("cpu"), has_batch=False) for _ in range(2))
    Runner(model).run(GRID, image.read, expected.put)
    found.expect(output_of_whole(model, image, (), {}))
    bands = bands_of(GRID, 3, halo_of(model, image, (), {}))
    assert all(0 < band.begin < band.first for band in bands[1:])
    assert [band.stop for band in bands[:-1]] == [band.first for band in bands[1:]]
    spans: dict[int, dict[int, bands_module.Span]] = {}
    for number, band in enumerate(bands):
        spans[number] = {}
        for row in work(model).rows(band):
            for pieces in row:
                found.write(pieces)
                bands_module._widen(spans[number], pieces)
    bands_module._check(bands, spans)
    for one, other in zip(_leaves(found.whole()), _leaves(expected.whole()), strict=True):
        assert torch.equal(one, other)


def _leaves(output: torch.Tensor | tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    return [output] if isinstance(output, torch.Tensor) else list(output)


def test_too_few_rows_before_a_band_are_noticed() -> None:
    model = seeded(Decoder())
    bands = [Band(0, 0, 6), Band(6, 6, 13)]
    spans: dict[int, dict[int, bands_module.Span]] = {0: {}, 1: {}}
    for number, band in enumerate(bands):
        for row in work(model).rows(band):
            for pieces in row:
                bands_module._widen(spans[number], pieces)
    with pytest.raises(RunError, match=r"to go on at row .* of the output but got row .* larger tiles"):
        bands_module._check(bands, spans)


@pytest.mark.parametrize("rows", [range(0, 6), range(3, 4)])
def test_operations_over_all_of_space_are_refused(rows: range) -> None:
    band = Band(rows.start, rows.start, rows.stop)
    with pytest.raises(UnsupportedOperation, match="Decoder, which has an operation over all of space"):
        next(work(seeded(Decoder("group"))).rows(band))


def run_on_ray(out: Path, count: int, is_to_die: bool = False) -> list[tuple[int, int]]:
    """Write the output of a network on workers; die once a band is finished. The tiles done, and all, at each call."""
    from ray import cloudpickle

    model = seeded(Decoder())
    image = tiled_image(model, PIXELS)
    output = output_of_whole(model, image, (), {})
    calls: list[tuple[int, int]] = []

    def progress(done: int, whole: int) -> None:
        calls.append((done, whole))
        if is_to_die and torch.load(out.with_name(f".{out.name}.state"))["bands"]:
            os.kill(os.getpid(), signal.SIGKILL)

    modules = [sys.modules[__name__], sys.modules[Decoder.__module__]]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        tile_on_ray(work(model), image, OutputFile(out, output), output, {}, progress, count=count)
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
    return calls


def write_in_one_process(out: Path) -> bytes:
    model = seeded(Decoder())
    image = tiled_image(model, PIXELS)
    file = OutputFile(out, output_of_whole(model, image, (), {}))
    tile_to_file(Runner(model), image, GRID, file, {}, lambda *_: None)
    return out.read_bytes()


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_two_workers_write_the_file_of_one_process(tmp_path: Path) -> None:
    expected = write_in_one_process(tmp_path / "one.npy")
    assert run_on_ray(tmp_path / "two.npy", 2)[-1] == (39, 39)
    assert (tmp_path / "two.npy").read_bytes() == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.npy", "two.npy"]


@pytest.mark.nightly
@pytest.mark.xdist_group("ray")
def test_bands_that_a_killed_run_has_finished_are_kept(tmp_path: Path) -> None:
    expected = write_in_one_process(tmp_path / "one.npy")
    out = tmp_path / "two.npy"
    run_and_die(__file__, f"killed.run_on_ray(Path({str(out)!r}), 6, is_to_die=True)")
    first, *_, last = run_on_ray(out, 6)
    assert first[0] > 3, "what was done before"
    assert last == (39, 39)
    assert out.read_bytes() == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.npy", "two.npy"]
