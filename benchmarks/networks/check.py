"""Checks one network of another package: what the engine makes of it, how exactly, and at what cost.

An object (noise, a white square, a disc) is shown at two positions in an image of zeros, the canvas. Under `zero` the
network must return bit for bit what it returns unconverted; under `infinite` its outputs for both positions must agree,
where the object moves by a multiple of the total stride (fixed phase) or by an odd number of pixels (adaptive phase).
Feature maps are compared cell by cell by their own lattices, beyond the frame too. `place` must return what dense runs
do.

Shapes: images (N, C, *space); positions and shifts one number an axis, in pixels.
"""

import dataclasses
import datetime
import functools
import math
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import borderless as bl
from benchmarks.networks import Network
from borderless.errors import BorderlessError, PositionDependentWarning

LARGEST_ERROR = {torch.float32: 2e-5, torch.float64: 1e-7}
LEAST_POWER = 1e-4  # by how much another object changes the output at least
CHEAP_FLOPS = 20e9  # of a pass of two images; more expensive networks are shown noise alone
OBJECTS = ("noise", "square", "disc")
CONVOLUTIONS = (nn.modules.conv._ConvNd, nn.Linear)
BATCH_NORM = nn.modules.batchnorm._BatchNorm
Shift = tuple[int, ...]


def check(key: str, network: Network) -> dict[str, Any]:
    """The row of a network: its category, the errors by check and object, and what the engine said."""
    row: dict[str, Any] = {"key": key, "shape": network.shape, "commit": library_commit(), "date": today()}
    started = time.process_time()
    try:
        model = randomised(network)
        row["float32"] = _checks(model, network, torch.float32)
        row["category"] = _category(row["float32"], torch.float32)
        if row["category"] == "inexact":  # a wrong rule, or roundings that the network makes grow?
            row["float64"] = _checks(model.double(), network, torch.float64)
            category = _category(row["float64"], torch.float64)
            if category in ("exact", "exact, then leaves", "exact, fixed phase"):
                row["category"] = "rounding"
            elif category == "failed":  # for want of memory: nobody knows
                row |= {"category": category, "message": "float32 differs, and float64 did not run"}
    except ModuleNotFoundError as error:
        row |= {"category": "not installed", "message": str(error)}
    except Exception as error:  # of the package, before the library is asked for anything
        row |= {"category": "not built", "message": f"{type(error).__name__}: {error}"[:500]}
    row["duration_s"] = round(time.process_time() - started, 1)  # of CPU
    return row


def today() -> str:
    return datetime.date.today().isoformat()


@functools.cache
def library_commit() -> str:
    """The last commit that changed the library, marked if it was changed since; other changes leave rows valid."""
    package = Path(bl.__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words, "--", "."], cwd=package, capture_output=True, text=True).stdout.strip()

    return git("log", "-1", "--format=%h", "--abbrev=12") + ("+changes" if git("status", "--porcelain") else "")


def _category(checks: dict[str, Any], dtype: torch.dtype) -> str:
    if any("failed" in found for found in checks.values()):
        return "failed"
    if "refused" in checks["infinite"] or "refused" in checks["zero"]:
        return "refused"
    if checks["infinite"]["reads"]:
        return "position dependent"
    errors = [error for name in ("infinite", "adaptive", "place") for error in _numbers(checks[name])]
    if not all(error <= LARGEST_ERROR[dtype] for error in errors):  # a NaN is not exact either
        return "inexact"
    if checks["infinite"].get("another", 1) < LEAST_POWER:
        return "without power"
    if "refused" in checks["adaptive"]:
        return "exact, fixed phase"
    return "exact, then leaves" if checks["infinite"]["leaves"] else "exact"


def _numbers(found: dict[str, Any]) -> list[float]:
    return [value for value in found.get("errors", {}).values() if value is not None]


def _checks(model: nn.Module, network: Network, dtype: torch.dtype) -> dict[str, Any]:
    checks = Checks(model, network, dtype)
    return {
        name: _asked(ask)
        for name, ask in {
            "zero": checks.zero,
            "infinite": checks.infinite,
            "adaptive": checks.adaptive,
            "place": checks.place,
        }.items()
    }


def _asked(ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a check finds, or why it ended; with the reads of position that the engine warned of, once a module."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = ask()
        except BorderlessError as error:
            found = {"refused": f"{type(error).__name__}: {error}"}
        except Exception as error:  # of the engine, or of the model where only a tensor of another kind breaks it
            found = {"failed": f"{type(error).__name__}: {error}"[:1000]}
    texts = [str(warning.message) for warning in caught if issubclass(warning.category, PositionDependentWarning)]
    reads = {text.partition(" reads absolute position")[0]: text for text in texts}
    return found | {"reads": list(reads.values())}


class Checks:
    """The checks of one model; they run in order, and later ones use what earlier ones found."""

    def __init__(self, model: nn.Module, network: Network, dtype: torch.dtype) -> None:
        self.model, self.network, self.scene = model, network, Scene(network, dtype)
        self.options = {} if network.images is None else {"images": network.images}
        self.flops, self.is_cheap = 0, True
        self.dense: dict[str, Any] = {}  # by border: the frames of noise at both positions

    def zero(self) -> dict[str, Any]:
        """The unconverted model against `zero`, and how much its own output changes with the position: the power."""
        images = self.scene.pairs(self.scene.shift)[:2]
        counter = FlopCounterMode(display=False)
        with counter:
            own = call(self.model, self.network, images)
        self.flops = counter.get_total_flops()
        found = call(bl.convert(self.model, "zero", output="signal", **self.options), self.network, images)
        leaves = list(zip(tensors(own), tensors(found), strict=True))
        self.dense["zero"] = own
        return {
            "bitwise": all(torch.equal(a, on_frame(b)) for a, b in leaves),
            "errors": {"noise": largest(relative_change(a, on_frame(b)) for a, b in leaves)},
            "own": largest(moved_error(b, 0, self.scene.shift, within_frame=True) for _, b in leaves),
        }

    def infinite(self) -> dict[str, Any]:
        counter = FlopCounterMode(display=False)
        with counter:
            found, watch = self._watched(self.scene.pairs(self.scene.shift)[:2])
        flops = counter.get_total_flops()
        self.is_cheap = flops <= CHEAP_FLOPS
        stride = watch.total_stride(len(self.scene.size))
        shift = self.scene.shift
        if any(step % s for step, s in zip(shift, stride, strict=True)):
            shift = self.scene.multiple_of(stride)
        if any(shift) and shift != self.scene.shift:
            self.scene.shift = shift
            found, watch = self._watched(self.scene.pairs(shift)[:2])
            self.dense.pop("zero", None)  # which stand elsewhere
        self.dense["infinite"] = [on_frame(leaf) for leaf in found]
        answer = {
            "total_stride": stride,
            "cost": flops / self.flops if self.flops else None,
            "leaves": sorted(watch.leaves),
        }
        if not any(shift):
            return answer | {"errors": {"noise": None}}  # no room to move by the total stride
        errors = {"noise": largest(moved_error(leaf, 0, shift) for leaf in watch.exact(found))}
        if self.is_cheap:
            rest, watch = self._watched(self.scene.pairs(shift)[2:])
            for i, name in enumerate(OBJECTS[1:]):
                errors[name] = largest(moved_error(leaf, 2 * i, shift) for leaf in watch.exact(rest))
            firsts = [(a, b) for a, b in zip(self.dense["infinite"], rest, strict=True) if a.ndim]
            answer["another"] = largest(relative_change(a[:1], on_frame(b)[:1]) for a, b in firsts)
        return answer | {"errors": errors}

    def adaptive(self) -> dict[str, Any]:
        shift, objects = self.scene.any_shift, OBJECTS if self.is_cheap else OBJECTS[:1]
        found, watch = self._watched(self.scene.pairs(shift)[: 2 * len(objects)], phase="adaptive")
        maps = watch.exact(found)
        return {
            "errors": {
                name: largest(moved_error(leaf, 2 * i, shift) for leaf in maps) for i, name in enumerate(objects)
            }
        }

    def _watched(self, images: Tensor, **options: Any) -> "tuple[list[Tensor], Watch]":
        watch = Watch()
        with bl.bordered(
            self.model, "infinite", output="signal", observer=watch.see, **self.options, **options
        ) as bordered:
            return list(tensors(call(bordered, self.network, images))), watch

    def place(self) -> dict[str, Any]:
        """Under `zero` and `infinite`, noise at the positions of the checks before, against their whole canvases."""
        images = self.scene.pairs(self.scene.shift)[:1]
        args, kwargs = self.network.arguments(images)
        if len(self.scene.size) != 2 or args[0] is not images:
            return {"skipped": "place takes images alone"}
        errors = {}
        first = self.scene.first
        positions = [first, tuple(a + b for a, b in zip(first, self.scene.shift, strict=True))]
        for border, dense in self.dense.items():
            found = bl.place(
                bl.convert(self.model, border, **self.options),
                self.scene.object("noise"),
                positions,
                self.scene.size,
                args=args[1:],
                kwargs=kwargs,
            )
            whole = list(tensors(dense))
            if len(whole) != 1:
                return {"skipped": "several outputs"}
            errors[border] = relative_change(whole[0], found.reshape(whole[0].shape))
        return {"errors": errors}


def call(model: nn.Module, network: Network, images: Tensor) -> Any:
    args, kwargs = network.arguments(images)
    torch.manual_seed(0)  # of models that draw
    with torch.no_grad():
        return model(*args, **kwargs)


class Scene:
    """Objects on the network's canvas, empty around them; and the shifts that fit on it."""

    def __init__(self, network: Network, dtype: torch.dtype) -> None:
        self.channels, *space = network.shape
        self.size, self.extent, self.dtype = tuple(space), network.object_px, dtype
        self.first = tuple(range(len(space)))  # at the edge of the frame
        room = [n - self.extent - a for n, a in zip(self.size, self.first, strict=True)]
        self.shift = tuple(r // 32 * 32 or r // 8 * 8 for r in room)  # of most networks a multiple of the stride
        self.any_shift = tuple((r // (1 + i)) | 1 if (r // (1 + i)) | 1 <= r else r - 1 for i, r in enumerate(room))

    def multiple_of(self, stride: Sequence[int]) -> Shift:
        """The largest shift by multiples of `stride` that leaves the object on the canvas; 0 where there is none."""
        room = [n - self.extent - a for n, a in zip(self.size, self.first, strict=True)]
        return tuple(r // s * s for r, s in zip(room, stride, strict=True))

    def object(self, name: str) -> Tensor:
        """(C, *extent), drawn in float64 so that both precisions see the same."""
        space = (self.extent,) * len(self.size)
        if name == "noise":
            drawn = torch.randn(self.channels, *space, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            return drawn.to(self.dtype)
        white = torch.ones(self.channels, *space, dtype=self.dtype)
        if name == "square":
            return white
        middle = (self.extent - 1) / 2
        axes = torch.meshgrid(*[(torch.arange(n) - middle).square() for n in space], indexing="ij")
        return white * (sum(axes) <= middle**2)

    def pairs(self, shift: Shift) -> Tensor:
        """(6, C, *size): each object at the first position and moved by `shift`."""
        things = [self.object(name) for name in OBJECTS for _ in range(2)]
        images = torch.zeros(len(things), self.channels, *self.size, dtype=self.dtype)
        for i, thing in enumerate(things):
            at = [a + step * (i % 2) for a, step in zip(self.first, shift, strict=True)]
            images[(i, slice(None), *(slice(a, a + self.extent) for a in at))] = thing
        return images


class Watch:
    """What a pass tells: its strides, and where maps leave the library for good, with the maps that do."""

    def __init__(self) -> None:
        self.strides: set[Shift] = set()
        self.leaves: set[str] = set()
        self.departures: list[Tensor] = []
        self.reads_position = False
        self._last: Any = None

    def see(self, event: Any) -> None:
        signal = event.signal
        self.reads_position = self.reads_position or event.kind == "position"
        if event.kind == "leaves":
            self.leaves.add(f"`{event.operation}` in {event.module or 'the model itself'}")
            self.departures += [] if self._last is None else [self._last]
        elif signal is not None and len(signal.axes) == len(signal.lattice.stride):
            self.strides.add(signal.lattice.total_stride)
            self._last = signal

    def total_stride(self, axes: int) -> Shift:
        return tuple(math.lcm(*along) for along in zip(*self.strides, strict=True)) or (1,) * axes

    def exact(self, outputs: list[Tensor]) -> list[Tensor]:
        """What must move with the object: the outputs; where maps have left, the last convolution before each did."""
        return outputs if self.reads_position or not self.departures else self.departures


def tensors(output: Any) -> Iterator[Tensor]:
    """The tensors and Signals in an output, in order, whatever holds them."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from tensors(value)
    elif dataclasses.is_dataclass(output) or type(output).__module__.startswith(("kornia", "diffusers")):
        yield from tensors(list(vars(output).values()))


def on_frame(leaf: Tensor) -> Tensor:
    return leaf.crop() if isinstance(leaf, bl.Signal) else leaf


def moved_error(leaf: Tensor, sample: int, shift: Shift, within_frame: bool = False) -> float:
    """Largest difference between a sample and the next, the object there moved by `shift`, relative to the largest.

    A Signal is compared on its whole window, cell by cell, by the position of its cells in pixels.
    """
    if leaf.ndim == 0:  # a loss over the batch
        return 0.0
    if not isinstance(leaf, bl.Signal):
        return relative_change(leaf[sample : sample + 1], leaf[sample + 1 : sample + 2])
    steps, boxes = [], []
    whole = leaf.frame_box if within_frame else leaf.box
    along = leaf.lattice.axes or range(len(shift))  # of the image, where the map is a line or transposed
    shift = tuple(shift[axis] for axis in along)
    for axis, (start, stop) in enumerate(whole):
        offset = leaf.lattice.offset
        apart = 0 if offset is None else int(offset[sample, axis] - offset[sample + 1, axis])
        step = (shift[axis] + apart) / leaf.lattice.stride[axis]
        if step != int(step):
            return float("inf")
        steps.append(int(step))
        low, high = (start - steps[-1], stop - steps[-1])
        boxes.append((max(start, low), min(stop, high)) if within_frame else (min(start, low), max(stop, high)))
    if any(a >= b for a, b in boxes):
        return 0.0  # within the frame nothing of the first position is left to compare
    hull = tuple((min(a, a + k), max(b, b + k)) for (a, b), k in zip(boxes, steps, strict=True))
    cells = leaf.read(hull)
    first, second = cells[sample : sample + 1], cells[sample + 1 : sample + 2]
    for axis, (a, b), (low, _), k in zip(leaf.axes, boxes, hull, steps, strict=True):
        first = first.narrow(axis, a - low, b - a)
        second = second.narrow(axis, a + k - low, b - a)
    return relative_change(first, second)


def relative_change(first: Tensor, second: Tensor) -> float:
    """Largest difference, as a part of the largest value of the first; 0 of two empty or zero tensors."""
    if first.shape != second.shape:
        return float("inf")
    if first.numel() == 0 or torch.equal(first, second):
        return 0.0
    first, second = first.double(), second.double()
    return ((first - second).abs().max() / first.abs().max()).item()


def largest(errors: Iterator[float]) -> float:
    """The largest, a NaN among them included; 0 of none."""
    found = list(errors)
    return float("nan") if any(error != error for error in found) else max(found, default=0.0)


def randomised(network: Network) -> nn.Module:
    """The network in eval mode as after training: no statistic, bias or gain at the value that it starts from.

    Every convolution and linear layer is scaled to a response of order 1, so that changes neither vanish nor explode.
    """
    torch.manual_seed(0)
    model = network.build().eval()
    generator = torch.Generator().manual_seed(1)

    def drawn(like: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, BATCH_NORM) and module.running_mean is not None:
                module.running_mean.copy_(drawn(module.running_mean, -0.5, 0.5))
                module.running_var.copy_(drawn(module.running_var, 0.5, 1.5))
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(drawn(parameter, -0.5, 0.5))
            elif parameter.numel() and parameter.min() == parameter.max():
                parameter.copy_(drawn(parameter, 0.5, 1.5))

    hooks = [m.register_forward_hook(_to_unit_response) for m in model.modules() if isinstance(m, CONVOLUTIONS)]
    images = Scene(network, torch.float32).pairs((0,) * (len(network.shape) - 1))[::2]
    call(model, network, images)
    for hook in hooks:
        hook.remove()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def _to_unit_response(module: Any, _inputs: Any, output: Any) -> Tensor | None:
    # A weight norm has a scale of its own; an octave convolution returns two maps.
    if "weight" not in module._parameters or not isinstance(output, Tensor) or not output.is_floating_point():
        return None
    axis = output.ndim - 1 if isinstance(module, nn.Linear) else 1
    bias = 0 if module.bias is None else module.bias.reshape([-1 if i == axis else 1 for i in range(output.ndim)])
    response = output - bias
    scale = response.square().mean().sqrt()
    if not 1e-12 < scale < 1e12:
        return None
    with torch.no_grad():
        module.weight.div_(scale)
    return response / scale + bias
