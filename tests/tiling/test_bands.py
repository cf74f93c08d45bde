"""Bands of one image, each carried by itself: the very bytes of one process."""

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


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_two_workers_write_the_file_of_one_process(tmp_path: Path) -> None:
    import sys

    from ray import cloudpickle

    model = seeded(Decoder())
    image = tiled_image(model, PIXELS)
    output = output_of_whole(model, image, (), {})
    one, two = OutputFile(tmp_path / "one.npy", output), OutputFile(tmp_path / "two.npy", output)
    calls: list[tuple[int, int]] = []
    tile_to_file(Runner(model), image, GRID, one, {}, lambda *_: None)
    for module in (sys.modules[__name__], sys.modules[Decoder.__module__]):
        cloudpickle.register_pickle_by_value(module)
    try:
        tile_on_ray(work(model), image, two, output, {}, lambda *call: calls.append(call), count=2)
    finally:
        for module in (sys.modules[__name__], sys.modules[Decoder.__module__]):
            cloudpickle.unregister_pickle_by_value(module)
    assert calls[-1] == (39, 39)
    assert (tmp_path / "one.npy").read_bytes() == (tmp_path / "two.npy").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.npy", "two.npy"]
