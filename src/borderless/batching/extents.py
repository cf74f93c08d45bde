"""The cells that calls leave of each sample of a batch, and how far beyond its own cells they read. Integers only."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from borderless.batching.filling import Reads
from borderless.engine.geometry import Box, Interval, Keep, intersection, union
from borderless.engine.operations import Mirror

Frames = tuple[tuple[int, ...], ...]
Boxes = tuple[Box, ...]
Operations = tuple[Any, ...]


class After(NamedTuple):
    """The frames and boxes of the samples after a call, and how many cells after its own it reads of each."""

    frames: Frames
    boxes: Boxes
    reads: Reads

    @property
    def is_beyond(self) -> bool:
        """Whether a cell is read that is none of a sample's own, after it."""
        return any(count > 0 for along in self.reads for count in along)

    @property
    def empty(self) -> int | None:
        """The first sample of which nothing is left."""
        pairs = enumerate(zip(self.frames, self.boxes, strict=True))
        return next((i for i, (frame, box) in pairs if min(frame) < 1 or any(a >= b for a, b in box)), None)


@lru_cache(4096)
def after(operations: tuple[Operations, ...], frames: Frames, boxes: Boxes, keep: Keep, reach: int | None) -> After:
    """Return what `operations`, one an axis, the same for all samples or those of each, leave of the samples."""
    new_frames, new_boxes, reads = [], [], []
    each = operations if len(operations) > 1 else operations * len(frames)
    for own, frame, box in zip(each, frames, boxes, strict=True):
        kept = tuple(o.kept(window, n, keep, reach) for o, window, n in zip(own, box, frame, strict=True))
        new_frames.append(tuple(o.frame(n) for o, n in zip(own, frame, strict=True)))
        new_boxes.append(kept)
        axes = zip(own, kept, box, strict=True)
        reads.append(tuple(_beyond(*one) for one in axes))
    return After(tuple(new_frames), tuple(new_boxes), tuple(reads))


def _beyond(operation: Any, kept: Interval, window: Interval) -> int:
    """Return how many cells after a window an operation reads for the outputs that are kept of it."""
    if isinstance(operation, Mirror):
        return operation.padding_after
    return operation.needed(kept)[1] - window[1] if kept[0] < kept[1] else 0


@lru_cache(4096)
def joint(all_boxes: tuple[Boxes, ...], keeps: tuple[Keep, ...]) -> Boxes:
    """Return the boxes of the samples of maps that are joined."""
    return tuple(
        tuple(
            own if keep == "inside" else any_of
            for keep, own, any_of in zip(keeps, intersection(boxes), union(boxes), strict=True)
        )
        for boxes in zip(*all_boxes, strict=True)
    )


def is_alike(operations: Sequence[Operations]) -> bool:
    """Return whether operations are the same for all samples, but for the sizes that some carry."""
    return len({tuple(o._replace(n=0) if isinstance(o, Mirror) else o for o in own) for own in operations}) == 1
