"""Fit linear layers that decode position from a network's features, and their controls.

Shapes: images (N, C, H, W).
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from borderless.auditing.subject import Background
from borderless.conversion import bordered
from borderless.engine.border import Border
from borderless.errors import DataError
from borderless.measures.position_readout import ReadOut, read_out
from borderless.placement.place import place
from borderless.runtime.evaluation import evaluating, seeded

if TYPE_CHECKING:
    from borderless.measures.location_probe import Probe

# As in the quadrant experiment: an object of 56 px on a canvas of 120 px, of images of 224 px.
_OBJECT_SHARE, _CANVAS_SHARE = 1 / 4, 120 / 224
_BORDER_SHARES = (0.0, 0.25, 1.0)
_OBJECTS, _FEWEST_IMAGES = 60, 6
_STAGES = 8


@dataclass(frozen=True)
class Decodability:
    """Position that can be decoded.

    Attributes:
        module: Whose features a probe reads.
        objects: How many objects it was tested on.
        quadrant: By the width of the background around the canvas, in pixels: can a linear layer distinguish the upper
            left from the lower right?
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


def decodability(
    model: nn.Module,
    images: Tensor,
    background: Background,
    seed: int,
    tell: Callable[[float, float], Any],
) -> Decodability:
    """Fit probes on features of objects cut out of `images` (N, C, H, W), split by image.

    Args:
        model: Any model that can be converted.
        images: What objects are cut from.
        background: Of the canvases, in input units.
        seed: The random seed.
        tell: Called with how much is done, and how much there is.

    Raises:
        DataError: Fewer than six images.
    """
    if len(images) < _FEWEST_IMAGES:
        raise DataError(f"Needs at least {_FEWEST_IMAGES} images (--count {_FEWEST_IMAGES}) but got {len(images)}.")
    module = feature_module(model, images[:1])
    splits = _objects(images, seed)
    color = tuple(background) if isinstance(background, tuple) else float(background)
    quadrant = {}
    for i, share in enumerate(_BORDER_SHARES):
        tell(i, _STAGES)
        border_px = round(share * images.shape[2])
        quadrant[border_px] = _probe(model, module, splits, images.shape[2:], border_px, color, seed)
    tell(3, _STAGES)
    with bordered(model, "infinite", background=color):
        without = _probe(model, module, splits, images.shape[2:], 0, color, seed)
    tell(6, _STAGES)
    return Decodability(
        module=module or "its logits",
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
