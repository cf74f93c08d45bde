"""Quadrant: how far from the border can a network read location? The paper's four-quadrant experiment.

A picture lies in the upper left or in the lower right quarter of a canvas, inside a border of zeros. A linear layer
must read from the network's pooled features which of the two it is. Only the position differs, so accuracy above 50 %
means that the network gets the position from the border of the image: from its original padding, or from another
border.

Frozen networks compute their features once, through `place`; training "from scratch" runs whole canvases. Random
networks get BatchNorm statistics from canvases without a border and keep them, so one network is measured at all
borders.

The published protocol follows the paper's code: the three splits are the same pictures; the border takes the place of
the first convolution's padding; ResNets have a max pool of kernel 2; and the linear layer is trained by SGD on whole
canvases in batches of 8, with BatchNorm in training mode, so that every border has statistics of its own, which testing
takes.

Shapes: pictures n × 3 × 56 × 56; features 2 × n × features; canvases 120 px and a border on each side.
"""

from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from borderless.data import quadrant
from borderless.data.quadrant import Canvases, Quadrant
from borderless.experiments.experiment import Cell
from borderless.experiments.quadrant import QuadrantConfig
from borderless.explanation import explain
from borderless.measures.intervals import over_objects
from borderless.measures.location_probe import location_probe
from borderless.models.arms import ARMS, Arm
from borderless.models.batch_norm import calibrate_, folded
from borderless.models.choices import Init
from borderless.models.features import as_published, feature_network, first_padding_px
from borderless.placement.place import place
from borderless.runtime.arrays import save_arrays
from borderless.runtime.evaluation import seeded
from borderless.training import fit

CALIBRATION_PICTURES = 64


def run_cell(config: QuadrantConfig, cell: Cell, folder: Path) -> dict[str, Any]:
    """Return the accuracy of the linear layer and of its control; which outputs were right goes to right.npz."""
    arch, init, policy, border_px, seed = cell.parameters.values()
    data, is_published = _data(config, seed), config.protocol == "published"
    is_calibrated = init == "random" and not is_published
    model = _calibrated(config, arch, seed) if is_calibrated else _network(config, arch, init, seed)
    model = model.to(config.device)
    if is_published:
        model = as_published(model)
        around_px = max(0, border_px - first_padding_px(model))
        published = replace(config, training=replace(config.training, monitor="loss"))
        found = _trained(published, ARMS[policy], model, data, around_px, seed, folder, is_frozen=init != "scratch")
    elif init == "scratch":
        found = _trained(config, ARMS[policy], model, data, border_px, seed, folder)
    else:
        found = _probed(config, ARMS[policy].apply(folded(model)), data, border_px, seed, folder)
    return {**found, "field_radius_px": _field_px(config, arch) / 2, "skipped": list(data.skipped)}


def _probed(
    config: QuadrantConfig, model: nn.Module, data: Quadrant, border_px: int, seed: int, folder: Path
) -> dict[str, Any]:
    features = _placed(config, model, torch.cat([split.pictures for split in data.splits.values()]), border_px)
    sizes = [len(split) for split in data.splits.values()]
    probe = location_probe(*(part.numpy() for part in features.split(sizes, dim=1)), seed=seed)
    save_arrays(folder / "right.npz", score=probe.score.right, control=probe.control.right)
    names = ("accuracy", "low", "high", "is_chance", "validation_accuracy", "strength", "has_converged")
    return {
        **{name: getattr(probe.score, name) for name in names},
        **{f"control_{name}": getattr(probe.control, name) for name in names},
        "change": probe.change,
        "features": features.shape[2],
    }


def _trained(
    config: QuadrantConfig,
    arm: Arm,
    model: nn.Module,
    data: Quadrant,
    border_px: int,
    seed: int,
    folder: Path,
    is_frozen: bool = False,
) -> dict[str, Any]:
    """Train end to end, or the linear layer alone on a frozen network. There is no control: a second training."""
    with torch.no_grad():
        features = model(torch.zeros(1, 3, *quadrant.canvas_px(0), device=config.device)).shape[1]
    with seeded(seed):
        classifier = nn.Linear(features, len(quadrant.POSITIONS))
    model = arm.apply(nn.Sequential(deepcopy(model).requires_grad_(not is_frozen), classifier.to(config.device)))
    train, validation = (Canvases(split.pictures, border_px) for split in (data.train, data.validation))
    history = fit(model, train, validation, config.training, folder, seed)
    outputs = _placed(config, model, data.test.pictures, border_px)
    right = (outputs.argmax(2) == torch.arange(len(outputs))[:, None]).numpy()
    save_arrays(folder / "right.npz", score=right)
    low, high = over_objects(right.mean(0), seed)
    return {
        "accuracy": right.mean(),
        "low": low,
        "high": high,
        "is_chance": low <= 0.5 <= high,
        "validation_accuracy": max(epoch.validation_accuracy for epoch in history),
        "change": float((outputs - outputs[:1]).abs().max() / outputs.abs().max()),
        "epochs": len(history),
        "training_accuracy": history[-1].accuracy,
    }


def _placed(config: QuadrantConfig, model: nn.Module, pictures: Tensor, border_px: int) -> Tensor:
    """Return outputs (positions, pictures, outputs), on the CPU."""
    positions, canvas = quadrant.positions(border_px), quadrant.canvas_px(border_px)
    return place(model, pictures.to(config.device), positions, canvas).cpu()


@lru_cache(maxsize=2)
def _data(config: QuadrantConfig, seed: int) -> Quadrant:
    if config.data is None:
        return quadrant.from_photographs(config.pictures, seed, config.protocol)
    return quadrant.from_folder(config.data, config.pictures, seed, config.protocol)


@lru_cache(maxsize=1)
def _network(config: QuadrantConfig, arch: str, init: Init, seed: int) -> nn.Module:
    """Return the initial network of a cell. No cell changes its weights: training works on a copy."""
    return feature_network(arch, init, config.pool, seed, config.weights).to(memory_format=torch.channels_last)


@lru_cache(maxsize=1)
def _calibrated(config: QuadrantConfig, arch: str, seed: int) -> nn.Module:
    """Return a random network with statistics from canvases without a border."""
    model = deepcopy(_network(config, arch, "random", seed))
    calibrate_(model, Canvases(_data(config, seed).train.pictures[:CALIBRATION_PICTURES], 0))
    return model


@lru_cache(maxsize=8)
def _field_px(config: QuadrantConfig, arch: str) -> int:
    """Return the receptive field of the features before they are pooled, the larger of height and width."""
    network = feature_network(arch, "random", config.pool, seed=0)
    return int(max(explain(network, quadrant.canvas_px(0), tiles=False).receptive_field))
