"""Bands of one image on Ray workers: each carries from row to row within its band; this process writes the file.

A worker begins some rows of tiles before its band, so that the rims that its first row reads are there, and gives only
what its own rows decide: just what one process gives there, which is checked.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import nn

from borderless.engine.geometry import Box
from borderless.errors import RunError
from borderless.partition.output_files import OutputFile
from borderless.partition.outputs import Outputs, Piece, pieces_of
from borderless.partition.plan import margins, total_stride
from borderless.partition.record import record
from borderless.partition.resume import Progress, identity_of, unfinished
from borderless.partition.runner import Grid, Runner
from borderless.partition.sources import Prepare, TiledImage, tiled_image
from borderless.runtime.ray_session import ray_session

# A worker that dies is replaced, and its band run again, at most this often.
RETRIES = 3
# Rows of tiles that a worker may be ahead of the writing.
_AHEAD = 4
Span = tuple[int, int, int]


class Band(NamedTuple):
    """Rows of tiles of one worker. begin: the row that it begins with, whose output is thrown away before `first`."""

    begin: int
    first: int
    stop: int


@dataclass(frozen=True)
class Work:
    """The common inputs of all workers. open_image: opens the image there."""

    model: nn.Module
    open_image: Callable[[], Any]
    prepare: Prepare | None
    grid: Grid
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    threads: int

    def rows(self, band: Band) -> Iterator[list[list[Any]]]:
        """Yield of each row of a band the pieces that its parts give."""
        image = tiled_image(self.model, self.open_image(), self.prepare)
        grid = self.grid.band(range(band.begin, band.stop))
        runner = Runner(self.model, self.args, self.kwargs, may_wait=False)
        for row in range(band.stop - band.begin):
            found: list[list[Any]] = []
            is_own = row + band.begin >= band.first

            def emit(_: Box, output: Any, into: list[Any] | None = found if is_own else None) -> None:
                if into is not None:
                    into.append(_copied(output))

            runner.run(grid, image.read, emit, range(row, row + 1))
            if is_own:
                yield found


def _copied(output: Any) -> list[Any]:
    pieces = pieces_of(output)
    return [piece._replace(cells=piece.cells.cpu().clone()) if isinstance(piece, Piece) else piece for piece in pieces]


def bands_of(grid: Grid, count: int, halo_px: int) -> list[Band]:
    """Cut the rows of a grid into at most `count` bands, each begun at least `halo_px` pixels before it.

    >>> bands_of(Grid.regular((100, 50), (10, 10)), 2, 15)
    [Band(begin=0, first=0, stop=5), Band(begin=3, first=5, stop=10)]
    """
    count = min(count, grid.rows)
    edges = [grid.rows * i // count for i in range(count + 1)]
    found = []
    for first, stop in pairwise(edges):
        (start, _) = grid.cuts[0][first]
        begin = max((i for i, (a, _) in enumerate(grid.cuts[0]) if a <= max(0, start - halo_px)), default=0)
        found.append(Band(begin, first, stop))
    return found


def halo_of(model: nn.Module, image: TiledImage, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Return how many rows of pixels before a band its first outputs read, and those that are decided late."""
    recording = record(model, (image.shape[0], image.channels, *image.size), args, kwargs)
    before, after = margins(recording, 0)
    return before + after + 2 * total_stride(recording, 0)


def tile_on_ray(
    work: Work,
    image: TiledImage,
    out: OutputFile,
    output: Any,
    identity: Mapping[str, str],
    progress: Progress,
    address: str | None = None,
    count: int | None = None,
) -> None:
    """Write the output of a model for a whole image to a file, computed in bands by Ray workers.

    Every machine needs borderless and the image at its path. A killed run goes on with the bands that are not done.

    Args:
        work: What the workers do.
        image: The image.
        out: The file.
        output: What the model returns for the whole image, without values.
        identity: By name, what the file is made of.
        progress: Called with how many tiles are done and how many there are.
        address: Of a running cluster; see `ray_session`.
        count: How many bands; without it, as many as the cluster has room for.

    Raises:
        UnsupportedOperation: The model has an operation over all of space.
        RunError: Ray does not start, a worker is lost too often, or the bands do not fit together.
    """
    grid = work.grid
    halo_px = halo_of(work.model, image, work.args, work.kwargs)
    with ray_session(address) as (ray, _):
        room = int(ray.cluster_resources().get("CPU", 1)) // work.threads
        bands = bands_of(grid, count or max(1, room), halo_px)
        identity = {**identity, "network": identity_of(work.model), "tiles": str(grid.cuts), "bands": str(bands)}
        with unfinished(out, identity, image.device, by_rows=False) as state:
            if not out.work.exists():
                return
            outputs = Outputs(out.open(), has_batch=image.has_batch)
            outputs.expect(output)
            needs_gpu = image.device.type == "cuda"
            task = ray.remote(
                num_cpus=work.threads,
                num_gpus=int(needs_gpu),
                max_retries=RETRIES,
                num_returns="streaming",
                _generator_backpressure_num_objects=_AHEAD,
            )(_rows)
            shared = ray.put(work)
            running = {task.remote(shared, band): i for i, band in enumerate(bands) if i not in state.bands}
            spans: dict[int, dict[int, Span]] = {number: {} for number in running.values()}
            per_row = grid.count // grid.rows
            done = sum(bands[number].stop - bands[number].first for number in state.bands)
            while running:
                (ready, *_), _ = ray.wait(list(running), num_returns=1)
                number = running[ready]
                found = _next_row(ray, ready, bands[number])
                if found is None:
                    del running[ready]
                    out.flush()
                    state.bands[number] = spans[number]
                    state.save()
                    continue
                for pieces in found:
                    outputs.write(pieces)
                    _widen(spans[number], pieces)
                done += 1
                progress(done * per_row, grid.count)
            _check(bands, state.bands)


def _rows(work: Work, band: Band) -> Iterator[list[list[Any]]]:
    """In a worker: run a band there."""
    torch.set_num_threads(work.threads)
    yield from work.rows(band)


def _next_row(ray: Any, rows: Any, band: Band) -> list[list[Any]] | None:
    """Return what the next row of a band gives; None: it is done."""
    try:
        return ray.get(next(rows))
    except StopIteration:
        return None
    except ray.exceptions.RayTaskError as error:  # the band raised: the cause is what the user can mend
        raise error.cause from None
    except ray.exceptions.RayError as error:
        raise RunError(
            f"Expected the rows {band.first} to {band.stop} of tiles but got none: their worker was lost "
            f"{RETRIES + 1} times ({type(error).__name__}); is there enough memory?"
        ) from error


def _widen(spans: dict[int, Span], pieces: Sequence[Any]) -> None:
    """Note along the first axis which cells of each output a band gives, and of how many."""
    for number, piece in enumerate(pieces):
        if isinstance(piece, Piece) and piece.axes:
            (a, b), n = piece.box[0], piece.shape[piece.axes[0]]
            first, stop, _ = spans.get(number, (a, b, n))
            spans[number] = min(first, a), max(stop, b), n


def _check(bands: Sequence[Band], spans: Mapping[int, Mapping[int, Span]]) -> None:
    """Raise RunError if the bands of an output leave cells out, or give some twice."""
    for output in {number for given in spans.values() for number in given}:
        at, n = 0, 0
        for number, band in enumerate(bands):
            first, stop, n = spans[number].get(output, (at, at, n))
            if first != at:
                raise RunError(
                    f"Expected the rows of tiles {band.first} to {band.stop} to go on at row {at} of the output but "
                    f"got row {first}: the network reads further than its receptive field says; use larger tiles, or "
                    "leave out --engine ray."
                )
            at = stop
        if at != n:
            raise RunError(f"Expected {n} rows of the output but got {at}; leave out --engine ray.")
