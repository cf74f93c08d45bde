"""Tiles into a file, row after row; a run that was killed goes on after the last row that it finished.

Beside the file lies the state of the run: which network and image it is of, how many rows are done, and the rims that
later rows read. It is replaced at once after each row, and deleted at the end.
"""

import hashlib
import io
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from borderless.conversion import conversion_of
from borderless.errors import RunError
from borderless.partition.output_files import OutputFile
from borderless.partition.outputs import Outputs
from borderless.partition.rims import KeptCall
from borderless.partition.runner import Grid, Runner
from borderless.partition.sources import TiledImage
from borderless.runtime.files import clear_half_written, write_atomically

Progress = Callable[[int, int], Any]


@dataclass
class State:
    """The progress of a run.

    identity: what the file is made of. rows: how many are done. bands: those that are done, with what they gave. calls:
    what later rows read.
    """

    path: Path
    identity: dict[str, str]
    rows: int = 0
    bands: dict[int, Any] = field(default_factory=dict)
    calls: list[Any] = field(default_factory=list)

    @classmethod
    def of(cls, out: Path, identity: Mapping[str, str], device: torch.device) -> "State | None":
        """Return the state that lies beside `out`; None if there is none.

        Raises:
            RunError: It is of something else, or cannot be read.
        """
        path = out.with_name(f".{out.name}.state")
        clear_half_written(path)
        if not path.exists():
            return None
        try:
            found = torch.load(path, map_location=device, weights_only=True)
            state = cls(path, found["identity"], found["rows"], found["bands"], found["calls"])
        except Exception as error:  # whatever is in the file
            raise RunError(
                f"Expected the state of an unfinished run in {path} but got {type(error).__name__}; delete it and "
                f"{out} to begin anew."
            ) from error
        different = [name for name, value in identity.items() if state.identity.get(name) != value]
        if different or state.identity.keys() != identity.keys():
            names = " and ".join(different) or "settings"
            raise RunError(
                f"Expected the same {names} as in the unfinished run of {out} but got another; give what was given "
                f"before, choose another file, or delete {path} and {out} to begin anew."
            )
        return state

    def save(self) -> None:
        """Put it in the place of what was there."""
        content = io.BytesIO()
        kept = {"identity": self.identity, "rows": self.rows, "bands": self.bands, "calls": self.calls}
        torch.save(kept, content)
        write_atomically(self.path, content.getbuffer())


@contextmanager
def unfinished(out: OutputFile, identity: Mapping[str, str], device: torch.device, by_rows: bool) -> Generator[State]:
    """Yield the state of a run that makes `out`, the file made; at the end finish the file and delete the state.

    by_rows: whether it goes on from rows, or from bands.

    Raises:
        RunError: The file is there already, or the state is of something else.
        StorageError: There is no room for the file.
    """
    state = State.of(out.path, identity, device)
    if state is None and out.path.exists():
        raise RunError(f"Expected a new file but got {out.path}, which exists; choose another, or delete it.")
    is_started = state is not None and bool(state.rows if by_rows else state.bands)
    if state is None or not is_started or not (out.work.exists() or out.path.exists()):
        state = State(out.path.with_name(f".{out.path.name}.state"), dict(identity))
        state.save()  # before the file: what lies there without a state is finished, or not ours
        out.create()
    yield state
    if out.work.exists():
        out.finish()
    state.path.unlink()


def tile_to_file(
    runner: Runner, image: TiledImage, grid: Grid, out: OutputFile, identity: Mapping[str, str], progress: Progress
) -> None:
    """Write the output of a model for a whole image to a file; go on where an earlier run was killed.

    Args:
        runner: The model.
        image: The image.
        grid: How it is cut.
        out: The file.
        identity: By name, what the file is made of; another run of the same goes on, one of something else is refused.
        progress: Called with how many tiles are done and how many there are.

    Raises:
        RunError: The file is there already, or an unfinished run of it was of something else.
        StorageError: There is no room.
    """
    identity = {**identity, "network": identity_of(runner.model), "tiles": str(grid.cuts)}
    with unfinished(out, identity, image.device, by_rows=True) as state:
        if not out.work.exists():  # all was done but to delete the state
            return
        outputs = Outputs(out.open(), has_batch=image.has_batch)
        runner.kept = [KeptCall.restored(call) for call in state.calls]
        count = grid.count
        done = state.rows * count // grid.rows
        progress(done, count)

        def emit(box: Any, output: Any) -> None:
            nonlocal done
            outputs.put(box, output)
            done += 1
            progress(done, count)

        def finished(row: int) -> None:
            out.flush()
            state.rows, state.calls = row + 1, [call.state() for call in runner.kept]
            state.save()

        runner.run(grid, image.read, emit, range(state.rows, grid.rows), finished)


def identity_of(model: nn.Module) -> str:
    """Return a digest of a model's class, border and weights."""
    digest = hashlib.sha256()
    converted = conversion_of(model)
    digest.update(f"{type(model).__qualname__} {None if converted is None else converted.border!r}".encode())
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
