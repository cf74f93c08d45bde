"""The calls of a model, recorded in one pass without values: which maps each reads, how, and what it costs.

The pass runs a copy of the model on a whole image of fake tensors, so it takes neither memory nor the time of
computing, whatever the size of the image. It calls the model as a carried part does: as the only part there is.
"""

import copy
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from borderless.conversion import attached, conversion_of
from borderless.engine.border import Border
from borderless.engine.edge import along
from borderless.engine.geometry import Box, Spread, ceil_div
from borderless.engine.inputs import arguments_named
from borderless.engine.naming import describe
from borderless.engine.operations import Operation
from borderless.engine.registry import traits_of
from borderless.engine.relabeled import Relabeled
from borderless.engine.rules.frame_pools import FramePool
from borderless.engine.signal import Signal
from borderless.engine.torch_internals import AnyBatchNorm, fake_tensor_errors, fake_tensors, tree_leaves, tree_map
from borderless.errors import UnsupportedOperation
from borderless.partition.carry import CarryPass
from borderless.partition.gather import Alone
from borderless.partition.part import PartEdge, PartSignal
from borderless.partition.rims import Place


class Map(NamedTuple):
    """A feature map of the pass.

    call: the one that made it, -1 for an image. cell_bytes: of one position, all samples and channels. storage: the
    number of the first map that has the same memory.
    """

    call: int
    frame: tuple[int, ...]
    whole: Box
    cell_bytes: int
    storage: int


class Recorded(NamedTuple):
    """A call of the model's. sources, results: numbers of maps. operations: one an axis; none: it reads the same cell.

    macs: multiply-adds for one position: of the result, or, where `counts_inputs`, of the first source. gathers:
    whether it reads all of space.
    """

    operation: str
    module: str
    sources: tuple[int, ...]
    operations: tuple[Operation, ...]
    results: tuple[int, ...]
    macs: float
    counts_inputs: bool
    gathers: bool


@dataclass
class Recording:
    """All calls and maps of a pass.

    size: of the image. has_outside: whether something lies outside of maps, along each axis. images, outputs: numbers
    of maps. ends: of each storage that the model has let go of, the last call during which it was in memory.
    """

    size: tuple[int, ...]
    has_outside: tuple[bool, ...]
    calls: list[Recorded] = field(default_factory=list)
    maps: list[Map] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)


@dataclass
class RecordingPass(CarryPass):
    """A pass over a whole image of fake tensors that notes each call of the model's."""

    recording: Recording = field(kw_only=True)
    _storages: dict[int, StorageWeakRef] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.observer = lambda _: None  # rules count for an observer alone

    def gather(self, part: Any, merge: Any) -> Any:
        """Return what merging the only part gives."""
        self._gathered += 1
        if not self.calls:  # of a pool over the whole frame that has turned out to be a global one
            pool = Recorded("a pool over the whole frame", self.module_path(), (), (), (), 0.0, False, True)
            self.recording.calls.append(pool)
        return merge([part])

    def enter(self, image: PartSignal) -> None:
        """Note an image."""
        self.recording.images.append(self._note(image, -1))

    def call(self, source: PartSignal, func: Any, rule: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Note a call of the model's."""
        self._note_ends()
        need = traits_of(rule).need(func, args, kwargs)
        maps = {vars(leaf)["number"]: leaf for leaf in tree_leaves((args, kwargs)) if _is_numbered(leaf)}
        first = next(iter(maps.values()), source)
        operations, sources = first.operations(need.slides), tuple(maps)
        cells = prod(b - a for a, b in first.box)
        gathered, macs, number = self._gathered, self.macs, len(self.recording.calls)
        found = super().call(source, func, rule, args, kwargs)
        if isinstance(found, FramePool):  # recorded once it is known what it is
            return found
        if any(isinstance(leaf, Relabeled) and leaf.tokens is not None for leaf in tree_leaves(found)):
            raise self.unsupported(
                describe(func), "it makes a list of the cells of a feature map, which tiles do not run"
            )
        result = tree_map(self._as_part, found)
        macs = self.macs - macs
        made = list({id(leaf): leaf for leaf in tree_leaves(result) if isinstance(leaf, PartSignal)}.values())
        if not made and self._gathered == gathered:
            raise self.unsupported(describe(func), f"under {self.edge!r} it reads the whole frame of a feature map")
        counts_inputs = bool(operations) and all(isinstance(o, Spread) for o in operations)
        if not counts_inputs and made:
            cells = prod(b - a for a, b in made[0].box)
        self.recording.calls.append(
            Recorded(
                describe(func),
                self.module_path(),
                sources,
                operations,
                tuple(self._note(leaf, number) for leaf in made),
                macs / max(1, cells),
                counts_inputs,
                self._gathered > gathered,
            )
        )
        return result

    def _as_part(self, leaf: Any) -> Any:
        """Return a whole map that a call over all of space has made, as parts hold it; lines join maps as they are."""
        is_whole_map = isinstance(leaf, Signal) and not isinstance(leaf, PartSignal)
        if not is_whole_map or len(leaf.axes) < len(self.recording.size):
            return leaf
        made: Any = PartSignal(  # pyright: ignore[reportCallIssue]  Tensor.__init__ takes anything
            leaf.window, leaf.start, leaf.frame, leaf.axes, leaf.background, leaf.lattice, self, leaf.field
        )
        return made.within(leaf.box)

    def _note(self, signal: PartSignal, call: int) -> int:
        """Return the number a map that a call has made."""
        number = len(self.recording.maps)
        window = signal.window
        ref = StorageWeakRef(window.untyped_storage())
        storage = next((key for key, known in self._storages.items() if known == ref and not known.expired()), number)
        self._storages.setdefault(storage, ref)
        cells = max(1, prod(b - a for a, b in signal.box))
        held = window.numel() * window.element_size()
        self.recording.maps.append(Map(call, signal.frame, signal.whole_box, ceil_div(held, cells), storage))
        vars(signal)["number"] = number
        return number

    def _note_ends(self) -> None:
        now = len(self.recording.calls)
        for storage in [key for key, ref in self._storages.items() if ref.expired()]:
            self.recording.ends[storage] = now - 1
            del self._storages[storage]


def _is_numbered(leaf: Any) -> bool:
    return isinstance(leaf, PartSignal) and "number" in vars(leaf)


@dataclass
class _Recorder:
    """Stands for the conversion of a model, for one pass."""

    recording: Recording
    edge: PartEdge
    images: Any = None  # as a `Conversion` has

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        """Make a map of the first argument."""
        count = len(self.recording.size)
        place = Place((0,) * count, (True,) * count)
        made = RecordingPass(self.edge, module, place=place, kept=[], exchange=Alone(), recording=self.recording)
        image = PartSignal.from_part(args[0], (0,) * count, self.recording.size, made)
        made.enter(image)
        return (image, *args[1:]), kwargs

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        """Note which maps are returned."""
        for leaf in tree_leaves(output):
            if isinstance(leaf, FramePool):
                leaf.crop()
        self.recording.outputs += [vars(leaf)["number"] for leaf in tree_leaves(output) if _is_numbered(leaf)]
        return output


def record(
    model: nn.Module, shape: Sequence[int], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
) -> Recording:
    """Record the calls that `model` makes on an image of `shape` (N, C, *space).

    Raises:
        UnsupportedOperation: the model calls what cannot run on a part of an image; the text names the module.
    """
    check_parts(model)
    kwargs, edge = kwargs or {}, edge_of(model)
    mode = fake_tensors()
    stand_in = without_values(model, mode)
    example = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    has_outside = tuple(axis.outside != "nothing" for axis in along(edge.axes, None, len(shape) - 2))
    recorder = _Recorder(Recording(tuple(shape[2:]), has_outside), edge)
    with mode, torch.no_grad(), warnings.catch_warnings(), attached(stand_in, recorder):  # pyright: ignore[reportArgumentType]
        warnings.simplefilter("ignore")
        image = torch.empty(*shape, dtype=example.dtype, device=example.device)
        with arguments_named(stand_in, args, kwargs):
            try:
                stand_in(image, *args, **kwargs)
            except fake_tensor_errors() as error:
                raise UnsupportedOperation(
                    "Expected sizes and branches that follow from shapes but got one that depends on values, in "
                    f"{_module_of(stand_in, error)}: what the model computes is known only once it has run"
                ) from error
    return recorder.recording


def without_values(model: nn.Module, mode: Any) -> nn.Module:
    """Return a copy of `model` with the parameters of fake tensors of `mode`, to run and to throw away."""
    stand_in = copy.deepcopy(model, {id(p): mode.from_tensor(p) for p in model.parameters()})
    for made, own in zip(stand_in.modules(), model.modules(), strict=True):
        made.training = own.training
    return stand_in


def edge_of(model: nn.Module) -> PartEdge:
    """Return the edge of parts of a model's maps."""
    converted = conversion_of(model)
    return PartEdge(Border("zero") if converted is None else converted.border)


def check_parts(model: nn.Module) -> None:
    """Refuse a model for which no part of an image is exact, whatever it calls.

    Raises:
        UnsupportedOperation: a BatchNorm is in training mode, or the phase is adaptive.
    """
    for name, module in model.named_modules():
        if isinstance(module, AnyBatchNorm) and module.training:
            raise UnsupportedOperation(
                f"Expected normalization by running statistics but got module {name!r} ({type(module).__name__}) in "
                "training mode, which takes those of the batch: call model.eval(), or .eval() of these modules"
            )
    converted = conversion_of(model)
    if converted is not None and converted.border.is_adaptive:
        raise UnsupportedOperation(
            f"Expected a fixed phase but got {converted.border!r}, whose phase follows from the whole image: convert "
            "with phase='fixed'"
        )


def _module_of(model: nn.Module, error: Exception) -> str:
    """Name the innermost module that an error was raised in."""
    frames = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = {module: name for name, module in model.named_modules()}
    running = [holder for holder in frames if isinstance(holder, nn.Module) and holder in names]
    name, module = (names[running[-1]], running[-1]) if running else ("", model)
    return f"module {name!r} ({type(module).__name__})" if name else f"the model itself ({type(module).__name__})"
