"""What a model says of an object at any place on a canvas, for the price of the object's surroundings."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from borderless.aliases import CellsForgotten
from borderless.borders import Border
from borderless.canvas import Canvas, NotKept, Tape
from borderless.convert import Conversion, arguments_named, attached, check_convertible, conversion_of
from borderless.errors import ConversionError, ImageError
from borderless.lattice import Lattice
from borderless.outputs import materialized, release
from borderless.placed import Placed, placing
from borderless.scope import Event, Scope
from borderless.signal import Signal
from borderless.torch_internals import tree_leaves, tree_map

Pool = Literal["average", "max"]
Position = tuple[int, int]
# Under these an object changes a window of each map around itself, and nothing else.
_WINDOWED = ("zero", "full", "infinite")
# Of the largest window of a pass: itself, what is read for it, what comes out of it, and what a branch still holds.
_WINDOWS_AT_A_TIME = 6


def place(
    model: nn.Module,
    patches: Tensor,
    positions: Tensor | Sequence[Sequence[int]],
    canvas: Sequence[int] | None = None,
    background: float | Sequence[float] | Tensor = 0.0,
    *,
    output: str = "",
    pool: Pool | None = None,
    budget_mib: int = 128,
    progress: Callable[[int, int], Any] | None = None,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
) -> Tensor:
    """The model's answers to every patch at every position: (positions, patches, ...).

    patches: (N, C, H, W), or one (C, H, W), which leaves out the second dimension. positions: (row, column) of a
    patch's upper left pixel; what sticks out of the canvas is cut off. canvas: (height, width) in pixels. background:
    what else is on it, in input units: a number, one per channel, or an image (C, height, width), which brings the
    canvas's size along. output: the name of a module whose output is wanted; "" for the model's own. pool: the average
    or the maximum of a map over space. budget_mib: about how much memory the windows of one pass may take; the maps of
    the empty canvas come on top. progress: called with how many answers are there, and how many there will be.
    args, kwargs: what the model takes after the image, the same for all patches and positions (of batch size 1).

    The model runs with its own padding or under the border that it was converted to, in eval mode, without gradients.
    Equal to running every canvas whole, but for rounding: the empty canvas runs once, and a patch costs the windows
    that it can influence. Positions that must have equal answers run once. Under `valid`, `reflect`, `replicate` and
    `circular`, and with an adaptive phase on a canvas that is not the border's own background, every canvas is run
    whole. Raises ImageError for what does not fit together, ConversionError for a model in training mode.

    >>> import torch, borderless as bl
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.AdaptiveMaxPool2d(1)).eval()
    >>> bl.place(model, torch.rand(5, 1, 8, 8), [(0, 0), (20, 12)], canvas=(32, 32)).shape
    torch.Size([2, 5, 4, 1, 1])
    """
    check_convertible(model)
    _check_mode(model)
    single = patches.ndim == 3
    patches = patches[None] if single else patches
    empty = _empty_canvas(patches, canvas, background)
    where = _checked_positions(positions, _space(patches), _space(empty))
    run = _Pass(model, output, pool, args, kwargs)
    with torch.no_grad():
        answers = _Placement(model, run, patches, empty, budget_mib * 2**20, progress).at(where)
    return answers[:, 0] if single else answers


@dataclass
class _Group:
    """Positions that run in one pass. cut: the part of a patch that is on the canvas. members: for each place that is
    run, the numbers of the positions with that answer.
    """

    cut: tuple[slice, ...]
    members: dict[Any, list[int]] = field(default_factory=lambda: defaultdict(list))


@dataclass
class _Placement:
    model: nn.Module
    run: "_Pass"
    patches: Tensor
    empty: Tensor
    budget: int
    progress: Callable[[int, int], Any] | None
    per_sample: int = 0  # bytes

    def at(self, positions: list[Position]) -> Tensor:
        border = self.run.border
        endless = border.name == "infinite" and border.reach is None and _is_all(self.empty, border.background)
        if endless and (on_a_plane := self._on_a_plane(positions)) is not None:
            return self._answers(positions, *on_a_plane)
        if border.name not in _WINDOWED or border.is_adaptive:
            return self._answers(positions, *self._whole(positions))
        rows, columns = zip(*positions, strict=True)
        size = _space(self.patches)
        region = (min(rows), max(rows) + size[0]), (min(columns), max(columns) + size[1])
        for part in (region, None):
            tape = Tape(border, self.model, warned=self.run.warned, region=part, shares_passes=True)
            try:
                return self._answers(positions, *self._on_a_tape(positions, tape))
            except NotKept:
                continue
            except CellsForgotten:  # a tape does not tell what an in-place operation leaves around other maps
                return self._answers(positions, *self._whole(positions))
            finally:  # its maps know it, and it knows its maps: without this, large as they are, they would stay
                tape.steps.clear()
        raise AssertionError("a tape that keeps everything lacks nothing")

    def _answers(self, positions: list[Position], groups: "list[_Group]", make: Callable[..., Any]) -> Tensor:
        answers: dict[int, Tensor] = {}
        for group in groups:
            places = [members[0] for members in group.members.values()]
            found = self._run_group(group, [positions[i] for i in places], make)
            for answer, members in zip(found, group.members.values(), strict=True):
                answers.update(dict.fromkeys(members, answer))
            if self.progress is not None:
                self.progress(len(answers) * len(self.patches), len(positions) * len(self.patches))
        return torch.stack([answers[i] for i in range(len(positions))])

    def _run_group(self, group: _Group, places: list[Position], make: Callable[..., Any]) -> Tensor:
        """(places, patches, *answer), in passes that keep to the budget."""
        samples = [(place, n) for place in places for n in range(len(self.patches))]
        answers = []
        while samples:
            now = samples[: max(1, self.budget // self.per_sample)]
            samples = samples[len(now) :]
            cells = self.patches[[n for _, n in now]][(..., *group.cut)]
            answers.append(make([place for place, _ in now], cells))
            if answers[-1].shape[:1] != (len(now),):
                raise ImageError(
                    f"Expected one output for each image of a batch but got an output of shape "
                    f"{tuple(answers[-1].shape)} for {len(now)} images; name a module before images are mixed or "
                    "channels become images with output="
                )
        return torch.cat(answers).unflatten(0, (len(places), len(self.patches)))

    def _on_a_tape(self, positions: list[Position], tape: Tape) -> tuple[list[_Group], Callable[..., Any]]:
        """Windows on the maps of the empty canvas. What runs together meets the same sublattices and edges."""
        kinds: set[str] = set()
        tape.observer = lambda event: kinds.add(event.kind)  # not the event, which would keep its map
        answer = self.run(lambda leaf: _like_image(leaf, Canvas, tape), self.empty)
        self.per_sample = _WINDOWS_AT_A_TIME * tape.window_bytes(_space(self.patches))
        movable = "position" not in kinds and _is_without_place(answer)
        even = movable and bool((self.empty == self.empty[..., :1, :1]).all())
        margin, stride = tape.margin, tape.stride

        def kind(axis: int, p: int, size: int, n: int) -> tuple[Any, Any]:
            """What must agree for positions to run together, and for them to have the same answer."""
            room = min(p, n - p - size)
            if room < margin[axis]:
                return ("at", p), p
            # No cell sees both the object and what lies beyond the canvas.
            return ("anywhere", p % stride[axis]), ("same", p % stride[axis]) if even else p

        def make(places: list[Position], cells: Tensor) -> Tensor:
            offsets = tuple(tuple(p - q for p, q in zip(place, places[0], strict=True)) for place in places)
            scope = placing(tape, self.model, offsets if any(any(o) for o in offsets) else None)
            start = [max(p, 0) for p in places[0]]
            return self.run(lambda leaf: Placed.from_objects(leaf, start, scope), cells)

        return self._grouped(positions, kind), make

    def _on_a_plane(self, positions: list[Position]) -> tuple[list[_Group], Callable[..., Any]] | None:
        """On an endless plane of the border's own background, where no position differs from another.

        None where the model counts the cells of its window: that of a patch is not that of a whole canvas.
        """
        events: list[Event] = []
        grids: list[Lattice] = []

        def make(places: list[Position], cells: Tensor, observer: Any = None) -> Tensor:
            scope = Scope(self.run.border, self.model, warned=self.run.warned, observer=observer, shares_passes=True)
            start = [max(p, 0) for p in places[0]]

            def image(leaf: Tensor) -> Signal:
                made = _like_image(leaf, Signal, scope, start, _space(self.empty))
                grids.append(made.lattice)
                return made

            return self.run(image, cells)

        probe = make([(0, 0)], self.patches[:1], events.append)
        if any(event.kind == "window" for event in events):
            return None
        maps = [event.signal for event in events if event.signal is not None]
        movable = not any(event.kind == "position" for event in events) and _is_without_place(probe)
        stride = (1, 1) if self.run.border.is_adaptive else grids[0].total_stride
        largest = max(m.numel() * m.element_size() for m in (self.patches[:1], *maps))
        self.per_sample = _WINDOWS_AT_A_TIME * largest

        def kind(axis: int, p: int, size: int, n: int) -> tuple[Any, Any]:
            if not movable:
                return p, p
            seen = max(p, 0)  # what is cut off on the left leaves the rest at 0
            return (min(p, 0), min(n - p - size, 0), seen % stride[axis]), seen % stride[axis]

        return self._grouped(positions, kind), make

    def _whole(self, positions: list[Position]) -> tuple[list[_Group], Callable[..., Any]]:
        """Every canvas by itself."""
        self.per_sample = 100 * self.empty.numel() * self.empty.element_size()

        def make(places: list[Position], cells: Tensor) -> Tensor:
            scope = Scope(self.run.border, self.model, warned=self.run.warned, shares_passes=True)
            canvases = self.empty.repeat(len(cells), 1, 1, 1)
            for canvas, (row, column), patch in zip(canvases, places, cells, strict=True):
                row, column = max(row, 0), max(column, 0)
                canvas[:, row : row + patch.shape[1], column : column + patch.shape[2]] = patch
            return self.run(lambda leaf: Signal.from_image(leaf, scope), canvases)

        return self._grouped(positions, lambda axis, p, size, n: ((min(p, 0), min(n - p - size, 0)), p)), make

    def _grouped(self, positions: list[Position], kind: Callable[..., Any]) -> list[_Group]:
        sizes, canvas = _space(self.patches), _space(self.empty)
        groups: dict[Any, _Group] = {}
        for i, position in enumerate(positions):
            axes = [
                kind(axis, p, size, n) for axis, (p, size, n) in enumerate(zip(position, sizes, canvas, strict=True))
            ]
            together = tuple(key for key, _ in axes)
            cut = tuple(slice(max(-p, 0), min(size, n - p)) for p, size, n in zip(position, sizes, canvas, strict=True))
            groups.setdefault(together, _Group(cut)).members[tuple(key for _, key in axes)].append(i)
        return list(groups.values())


class _Reached(Exception):
    pass


class _Pass(Conversion):
    """Runs a model on Signals that the caller makes, as far as a module of it, and pools what comes out."""

    def __init__(
        self, model: nn.Module, output: str, pool: Pool | None, args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> None:
        before = conversion_of(model)
        super().__init__(Border("zero") if before is None else before.border)
        if before is not None and before.strict:
            self.strict = True
        modules = dict(model.named_modules())
        if output not in modules:
            raise ImageError(
                f"got output={output!r}; needed: the name of a module of {type(model).__name__}, as named_modules() "
                f"has it, such as {', '.join(list(modules)[1:4])}, or '' for the model's own output"
            )
        if pool is not None and pool not in get_args(Pool):
            raise ImageError(f"got pool={pool!r}; needed: one of {', '.join(map(repr, get_args(Pool)))}, or None")
        self.model, self.module, self.pool, self.args, self.kwargs = model, modules[output], pool, args, kwargs or {}
        for leaf in tree_leaves((self.args, self.kwargs)):
            if _is_image(leaf):
                raise ImageError(
                    f"Expected one image, the canvas, but got a tensor of shape {tuple(leaf.shape)} in args or kwargs. "
                    "Put it into a module around the model"
                )
        self.make: Callable[[Tensor], Any] = lambda leaf: leaf
        self.answer: Tensor | None = None

    def __call__(self, make: Callable[[Tensor], Any], images: Tensor) -> Tensor:
        self.make, self.answer = make, None
        inner = None if self.module is self.model else self.module.register_forward_hook(self._reached)
        try:
            with attached(self.model, self), arguments_named(self.model, self.args, self.kwargs):
                self.model(images, *self.args, **self.kwargs)
        except _Reached:
            pass
        finally:
            if inner is not None:
                inner.remove()
        if self.answer is None:
            raise ImageError(
                f"{type(self.model).__name__} gave an answer without calling the module whose output is wanted "
                f"({type(self.module).__name__}); needed: a module that the pass goes through"
            )
        return self.answer

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        return tree_map(lambda leaf: self.make(leaf) if _is_image(leaf) else leaf, (args, kwargs))

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        if self.module is self.model and output is not None:
            self.answer = self._pooled(output)
        # Of a map on a canvas that nobody asked for, the window will do.
        release(module, lambda signal: materialized(signal.window))
        return output

    def _reached(self, module: nn.Module, args: Any, output: Any) -> Any:
        self.answer = self._pooled(output)
        raise _Reached

    def _pooled(self, output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise ImageError(
                f"got a module that returns {type(output).__name__} ({type(self.module).__name__}); needed: one that "
                "returns one tensor; name one inside the model with output="
            )
        if self.pool is not None:
            if output.ndim < 3:
                raise ImageError(
                    f"got pool={self.pool!r} for an output of shape {tuple(output.shape)}; needed: a map, "
                    "(batch, channels, *space); leave pool out, or name an earlier module with output="
                )
            axes = output.axes if isinstance(output, Signal) else tuple(range(2, output.ndim))
            output = output.mean(axes) if self.pool == "average" else output.amax(axes)
        return output.crop() if isinstance(output, Signal) else output


def _like_image(
    image: Tensor, kind: type[Signal], scope: Scope, start: Sequence[int] = (0, 0), frame: Sequence[int] | None = None
) -> Signal:
    whole = Signal.from_image(image, scope)
    size = whole.frame if frame is None else tuple(frame)
    return kind(  # pyright: ignore[reportCallIssue]
        image, tuple(start), size, whole.axes, whole.background, whole.lattice, scope, whole.field, aliased=True
    )


def _is_image(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 2 and leaf.is_floating_point()


def _is_without_place(answer: Tensor) -> bool:
    return all(size == 1 for size in answer.shape[2:])


def _is_all(image: Tensor, colour: float | tuple[float, ...]) -> bool:
    values = torch.tensor(colour if isinstance(colour, tuple) else (colour,), dtype=image.dtype, device=image.device)
    return bool((image == values.reshape(1, -1, 1, 1)).all())


def _space(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]


def _check_mode(model: nn.Module) -> None:
    training = next((name or "the model itself" for name, module in model.named_modules() if module.training), None)
    if training is not None:
        raise ConversionError(
            f"got a {type(model).__name__} in training mode ({training}); needed: eval mode, because batch statistics "
            "would make an object's answer depend on the others in its batch; call model.eval() first"
        )


def _empty_canvas(patches: Tensor, canvas: Sequence[int] | None, background: Any) -> Tensor:
    """(1, C, height, width), in the patches' type and on their device."""
    if not isinstance(patches, Tensor) or patches.ndim != 4 or 0 in patches.shape or not patches.is_floating_point():
        got = f"{patches.dtype}, {tuple(patches.shape)}" if isinstance(patches, Tensor) else type(patches).__name__
        raise ImageError(f"got patches of {got}; needed: a floating-point tensor (N, C, H, W) or (C, H, W), not empty")
    channels = patches.shape[1]
    values = torch.as_tensor(background)
    if values.ndim > 1:
        if not values.is_floating_point() or values.ndim != 3 or values.shape[0] != channels:
            raise ImageError(
                f"got a background of {values.dtype} and shape {tuple(values.shape)} for patches with {channels} "
                f"channels; needed: a floating-point image ({channels}, height, width), a number, or one per channel"
            )
        if canvas is not None and tuple(canvas) != tuple(values.shape[1:]):
            raise ImageError(
                f"got canvas={tuple(canvas)} and a background image of {tuple(values.shape[1:])} pixels; needed: equal "
                "sizes, or the image alone"
            )
        return values.to(patches)[None]
    if canvas is None or len(canvas) != 2 or min(canvas) < 1:
        raise ImageError(f"got canvas={canvas!r}; needed: (height, width) in pixels, or an image as the background")
    if values.numel() not in (1, channels):
        raise ImageError(
            f"got a background of {values.numel()} numbers for patches with {channels} channels; needed: one number, "
            "one per channel, or an image"
        )
    return values.to(patches).reshape(1, -1, 1, 1).expand(1, channels, *canvas).contiguous()


def _checked_positions(positions: Any, size: tuple[int, int], canvas: tuple[int, int]) -> list[Position]:
    if any(s > n for s, n in zip(size, canvas, strict=True)):
        raise ImageError(
            f"got patches of {size[0]} × {size[1]} pixels for a canvas of {canvas[0]} × {canvas[1]}; needed: a canvas "
            "at least as large as they are"
        )
    where = torch.as_tensor(positions)
    if where.ndim != 2 or where.shape[0] == 0 or where.shape[1] != 2 or where.is_floating_point():
        raise ImageError(
            f"got positions of {where.dtype} and shape {tuple(where.shape)}; needed: whole numbers, a (row, column) "
            "for each position, at least one"
        )
    pairs = [(int(row), int(column)) for row, column in where.tolist()]
    for i, position in enumerate(pairs):
        if any(p <= -s or p >= n for p, s, n in zip(position, size, canvas, strict=True)):
            raise ImageError(
                f"got position {i}, {position}, where a patch of {size[0]} × {size[1]} pixels lies wholly outside the "
                f"canvas of {canvas[0]} × {canvas[1]}; needed: a pixel of it on the canvas"
            )
    return pairs
