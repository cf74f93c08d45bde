"""What could be read of location from a network's features, with what reading gives where there is nothing to read.

Decodable is not used: a linear layer of the auditor may read what the network's own layers pass over. So these numbers
stand beside those on the network's answers, never in their place.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from borderless.conversion import bordered
from borderless.engine.border import Border
from borderless.errors import DataError
from borderless.measures.location_probe import Probe, location_probe
from borderless.measures.position_readout import ReadOut, read_out
from borderless.placement.place import place
from borderless.runtime.evaluation import evaluating, seeded

# As in the quadrant experiment: an object of 56 px on a canvas of 120 px, of images of 224 px.
_OBJECT_SHARE, _CANVAS_SHARE = 1 / 4, 120 / 224
_BORDER_SHARES = (0.0, 0.25, 1.0)
_OBJECTS, _FEWEST_IMAGES = 60, 6


@dataclass(frozen=True)
class Decodability:
    """quadrant: by the width of the border of emptiness, in pixels, whether a linear layer tells the upper left from
    the lower right; beside it under `infinite` without a border. read_out: the place read from the last map; torus: the
    same under `circular`; untrained: of the same architecture with random weights, None if it cannot be had.
    """

    module: str
    objects: int
    quadrant: dict[int, Probe]
    quadrant_without: Probe
    read_out: ReadOut
    torus: ReadOut
    untrained: ReadOut | None


def decodability(model: nn.Module, images: Tensor, background: float | tuple[float, ...], seed: int) -> Decodability:
    """Probes on features of objects cut out of `images`, split by image. Raises DataError for fewer than six images."""
    if len(images) < _FEWEST_IMAGES:
        raise DataError(f"got {len(images)} images; needed: {_FEWEST_IMAGES}, so that each split has two of its own")
    module = feature_module(model, images[:1])
    splits = _objects(images, seed)
    colour = tuple(background) if isinstance(background, tuple) else float(background)
    quadrant = {}
    for share in _BORDER_SHARES:
        border_px = round(share * images.shape[2])
        quadrant[border_px] = _probe(model, module, splits, images.shape[2:], border_px, colour, seed)
    with bordered(model, "infinite", background=colour):
        without = _probe(model, module, splits, images.shape[2:], 0, colour, seed)
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
    """The module whose output, without a place in space, goes into the last linear layer; "" if there is none."""
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
    """Squares cut at random for training, validation and testing; no image is in two of them."""
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
    colour: float | tuple[float, ...],
    seed: int,
) -> Probe:
    side = splits[0].shape[2]
    canvas = max(side + 2, round(_CANVAS_SHARE * min(size)))
    whole = (canvas + 2 * border_px,) * 2
    far = border_px + canvas - side
    device = next((parameter.device for parameter in model.parameters()), splits[0].device)
    with evaluating(model):
        answers = place(
            model,
            torch.cat(splits).to(device),
            [(border_px, border_px), (far, far)],
            whole,
            colour,
            output=module,
        )
    features = answers.flatten(2).float().cpu()
    parts = features.split([len(split) for split in splits], dim=1)
    return location_probe(*(part.numpy() for part in parts), seed=seed)


def _untrained(model: nn.Module, images: Tensor, seed: int) -> ReadOut | None:
    """The read-out of a copy whose layers have all been initialised anew, by their own rules."""
    import copy

    twin = copy.deepcopy(model)
    twin = twin.cpu()
    with seeded(seed):
        for layer in twin.modules():
            if any(True for _ in layer.parameters(recurse=False)):
                reset = getattr(layer, "reset_parameters", None)
                if reset is None:
                    return None
                reset()
    device = next((parameter.device for parameter in model.parameters()), images.device)
    return read_out(twin.to(device), images, seed=seed)
