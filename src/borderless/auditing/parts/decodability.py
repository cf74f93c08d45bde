"""What a linear layer could read of location from the features, with what it reads where there is nothing to read.

Decodable is not used: a linear layer of the auditor may read what the network's own layers ignore. So these numbers
stand beside those on the network's predictions, never in their place.
"""

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from borderless.auditing.parts import Compared
from borderless.auditing.result import Finding, Measurements
from borderless.auditing.subject import Background, Subject
from borderless.conversion import bordered
from borderless.engine.border import Border
from borderless.errors import DataError
from borderless.measures.position_readout import ReadOut, read_out
from borderless.placement.place import place
from borderless.report.content import Section, Table
from borderless.report.numbers import percent
from borderless.runtime.evaluation import evaluating, seeded

if TYPE_CHECKING:
    from borderless.measures.location_probe import Probe, ProbeScore

NAME = "decodability"
NEEDS: tuple[str, ...] = ()
STEPS = ("decodability",)
COMPARED: tuple[Compared, ...] = ()

# Spearman's correlation by which a read-out must be better than its controls.
READ = 0.1
# As in the quadrant experiment: an object of 56 px on a canvas of 120 px, of images of 224 px.
_OBJECT_SHARE, _CANVAS_SHARE = 1 / 4, 120 / 224
_BORDER_SHARES = (0.0, 0.25, 1.0)
_OBJECTS, _FEWEST_IMAGES = 60, 6


@dataclass(frozen=True)
class Decodability:
    """What could be read of location.

    Attributes:
        module: Whose features a probe reads.
        objects: How many objects it was tested on.
        quadrant: By the width of the background around the canvas, in pixels: can a linear layer tell the upper left
            from the lower right?
        quadrant_without: The same under `infinite`, without a border.
        read_out: The position read from the last feature map.
        torus: The same under `circular`.
        untrained: The same of this architecture with random weights; None if that cannot be had.
    """

    module: str
    objects: int
    quadrant: "dict[int, Probe]"
    quadrant_without: "Probe"
    read_out: ReadOut
    torus: ReadOut
    untrained: ReadOut | None


def measure(subject: Subject) -> dict[str, Any]:
    """Return `decodability`."""
    found = subject.step(
        "decodability", lambda: decodability(subject.model, subject.first, subject.background, subject.seed)
    )
    return {"decodability": found}


def decodability(model: nn.Module, images: Tensor, background: Background, seed: int) -> Decodability:
    """Fit probes on features of objects cut out of `images` (N, C, H, W), split by image.

    Raises:
        DataError: Fewer than six images.
    """
    if len(images) < _FEWEST_IMAGES:
        raise DataError(f"got {len(images)} images; needed: {_FEWEST_IMAGES}, so that each split has two of its own")
    module = feature_module(model, images[:1])
    splits = _objects(images, seed)
    color = tuple(background) if isinstance(background, tuple) else float(background)
    quadrant = {}
    for share in _BORDER_SHARES:
        border_px = round(share * images.shape[2])
        quadrant[border_px] = _probe(model, module, splits, images.shape[2:], border_px, color, seed)
    with bordered(model, "infinite", background=color):
        without = _probe(model, module, splits, images.shape[2:], 0, color, seed)
    return Decodability(
        module=module or "its answers",
        objects=len(splits[2]),
        quadrant=quadrant,
        quadrant_without=without,
        read_out=read_out(model, images, seed=seed),
        torus=read_out(model, images, Border("circular"), seed),
        untrained=_untrained(model, images, seed),
    )


def feature_module(model: nn.Module, image: Tensor) -> str:
    """Return the name of the module whose output, without spatial axes, goes into the last linear layer, or ""."""
    names = {module: name for name, module in model.named_modules()}
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    last = linear[-1] if linear else None
    found: list[str] = []
    stopped = False

    def look(module: nn.Module, _: object, output: object) -> None:
        nonlocal stopped
        stopped = stopped or module is last
        if not stopped and isinstance(output, Tensor) and output.ndim in (2, 4) and output.shape[2:].numel() == 1:
            found.append(names[module])

    hooks = [module.register_forward_hook(look) for module in model.modules() if module is not model]
    try:
        with evaluating(model):
            model(image.to(next(model.parameters(), image).device))
    finally:
        for hook in hooks:
            hook.remove()
    return found[-1] if last is not None and found else ""


def _objects(images: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut squares at random for training, validation and testing; no image is in two of them."""
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=draw)
    first, second = len(images) // 2, len(images) // 2 + max(1, len(images) // 5)
    side = max(2, round(_OBJECT_SHARE * min(images.shape[2:])))
    each = max(1, round(_OBJECTS / len(images)))

    def cut(indices: Tensor) -> Tensor:
        found = []
        for i in indices.tolist():
            for _ in range(each):
                top, left = (int(torch.randint(n - side + 1, (), generator=draw)) for n in images.shape[2:])
                found.append(images[i, :, top : top + side, left : left + side])
        return torch.stack(found)

    return cut(order[:first]), cut(order[first:second]), cut(order[second:])


def _probe(
    model: nn.Module,
    module: str,
    splits: tuple[Tensor, ...],
    size: torch.Size,
    border_px: int,
    color: Background,
    seed: int,
) -> "Probe":
    from borderless.measures.location_probe import location_probe  # scikit-learn is seconds to import

    side = splits[0].shape[2]
    canvas = max(side + 2, round(_CANVAS_SHARE * min(size)))
    whole = (canvas + 2 * border_px,) * 2
    far = border_px + canvas - side
    device = next((parameter.device for parameter in model.parameters()), splits[0].device)
    with evaluating(model):
        outputs = place(
            model,
            torch.cat(splits).to(device),
            [(border_px, border_px), (far, far)],
            whole,
            color,
            output=module,
        )
    features = outputs.flatten(2).float().cpu()
    parts = features.split([len(split) for split in splits], dim=1)
    return location_probe(*(part.numpy() for part in parts), seed=seed)


def _untrained(model: nn.Module, images: Tensor, seed: int) -> ReadOut | None:
    """Return the read-out of a copy whose layers have all been initialized anew, by their own rules."""
    twin = copy.deepcopy(model).cpu()
    with seeded(seed):
        for layer in twin.modules():
            if any(True for _ in layer.parameters(recurse=False)):
                reset = getattr(layer, "reset_parameters", None)
                if reset is None:
                    return None
                reset()
    device = next((parameter.device for parameter in model.parameters()), images.device)
    return read_out(twin.to(device), images, seed=seed)


def findings(audit: Measurements) -> list[Finding]:
    """Return what a probe can read, beyond its controls."""
    found = _decoded(audit)
    return [] if found is None else [*_quadrant(found), *_read(found)]


def _decoded(audit: Measurements) -> Decodability | None:
    return audit.results.get("decodability")


def _quadrant(found: Decodability) -> list[Finding]:
    readable = [px for px, probe in found.quadrant.items() if probe.score.low > max(0.5, probe.control.high)]
    if not readable:
        return []
    probe = found.quadrant[readable[0]]
    text = (
        f"Location can be read from its features ({found.module}) by a linear layer: "
        f"{percent(probe.score.accuracy)} right where guessing gives 50 %, and {percent(probe.control.accuracy)} "
        "with shuffled places"
    )
    text += f", up to a border of {readable[-1]} px. " if readable[-1] else ". "
    return [
        Finding(
            "decodable",
            "mind",
            f"{text}Decodable is not used: what the network itself does with it is told above.",
            {"borders_px": readable, "accuracy": probe.score.accuracy},
        )
    ]


def _read(found: Decodability) -> list[Finding]:
    controls = [found.torus] + ([found.untrained] if found.untrained is not None else [])
    if found.read_out.low - max(control.high for control in controls) <= READ:
        return []
    return [
        Finding(
            "read-out",
            "mind",
            f"Row and column can be read off the map of {found.read_out.module or 'the model'} (Spearman's "
            f"correlation {found.read_out.spearman:.2f}, mean absolute error {found.read_out.mae:.2f}), better "
            f"than on a torus ({found.torus.spearman:.2f})"
            f"{' and than with random weights' if found.untrained is not None else ''}.",
            {"spearman": found.read_out.spearman, "mae": found.read_out.mae},
        )
    ]


def section(audit: Measurements, _: Path) -> Section | None:
    """Return a table of the probes and one of the read-outs."""
    found = _decoded(audit)
    if found is None:
        return None
    quadrant = [
        [f"own padding, border of {px} px", _score(probe.score), _score(probe.control)]
        for px, probe in found.quadrant.items()
    ]
    quadrant.append(["infinite", _score(found.quadrant_without.score), _score(found.quadrant_without.control)])
    reads = [("as it is", found.read_out), ("on a torus (circular)", found.torus)]
    if found.untrained is not None:
        reads.append(("random weights", found.untrained))
    return Section(
        "What could be read of location",
        [
            "Decodable is not used: here a linear layer of the auditor reads the network's features. It shows what "
            "there is to use, and how far from the border; whether the network's own answers use it is told above.",
        ],
        tables=[
            Table(
                ["upper left or lower right?", "right, %", "shuffled places, %"],
                quadrant,
                f"From the features of {found.module}, on {found.objects} objects from images that were not trained "
                "on, each in both places; guessing gives 50. In brackets the 95 % interval over objects.",
            ),
            Table(
                ["row and column, read off the last map", "Spearman's correlation", "mean absolute error"],
                [[name, f"{one.spearman:.2f} ({one.low:.2f}–{one.high:.2f})", f"{one.mae:.2f}"] for name, one in reads],
                f"A linear filter of 3 × 3 cells on the map of {found.read_out.module or 'the model'}, after Islam et "
                "al. (2020). Contents have places too: what counts is how much more is read than on a torus, which has "
                "no border.",
            ),
        ],
    )


def _score(score: "ProbeScore") -> str:
    return f"{100 * score.accuracy:.0f} ({100 * score.low:.0f}–{100 * score.high:.0f})"


def record(audit: Measurements) -> dict[str, Any] | None:
    """Return the probes and the read-outs with their intervals."""
    found = _decoded(audit)
    if found is None:
        return None
    return {
        "module": found.module,
        "test_objects": found.objects,
        "quadrant": {str(px): _plain(probe) for px, probe in found.quadrant.items()},
        "quadrant_without_border": _plain(found.quadrant_without),
        "read_out": asdict(found.read_out),
        "read_out_torus": asdict(found.torus),
        "read_out_untrained": None if found.untrained is None else asdict(found.untrained),
    }


def _plain(probe: "Probe") -> dict[str, float]:
    return {
        "accuracy": probe.score.accuracy,
        "low": probe.score.low,
        "high": probe.score.high,
        "control": probe.control.accuracy,
        "control_low": probe.control.low,
        "control_high": probe.control.high,
        "change": probe.change,
    }
