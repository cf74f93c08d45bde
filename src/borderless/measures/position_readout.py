"""Position read-out: can a small filter read row and column from a feature map? After Islam et al., ICLR 2020.

A linear filter of 3 × 3 cells is fitted, by ridge regression in closed form, to predict each cell's row and column: two
slopes from 0 to 1. It is scored on other images by Spearman's correlation and the mean absolute error. Image content
has typical positions too (the sky is above), so a score means something only beside its controls: the same network
under `circular`, on a torus, which has no border and no other edge (under `infinite` the edge of the image would differ
from the background), and the same architecture with random weights.

Shapes: images (N, C, H, W); feature maps (N, channels, rows, columns).
"""

# SciPy has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from borderless.conversion import Conversion, attached, conversion_of
from borderless.engine.border import Border
from borderless.engine.events import Event
from borderless.errors import DataError
from borderless.runtime.evaluation import evaluating

# Ridge penalties, relative to the mean square of the features; and the most channels and cells that are used.
PENALTIES = (1e-4, 1e-2, 1e0)
_MOST_CHANNELS, _MOST_CELLS = 64, 1024


@dataclass(frozen=True)
class ReadOut:
    """Score of a position read-out.

    Attributes:
        spearman: Correlation of the predicted and the true slopes, the mean over rows, columns and test images.
        low: Lower end of its 95 % interval over images.
        high: Upper end.
        mae: Mean absolute error; a constant gets 0.25.
        module: Name of the module whose feature map was read.
    """

    spearman: float
    low: float
    high: float
    mae: float
    module: str


def read_out(model: nn.Module, images: Tensor, border: Border | None = None, seed: int = 0) -> ReadOut:
    """Read the position from the last feature map of `model` with at least 5 × 5 cells.

    Args:
        model: Any model that can be converted.
        images: (N, C, H, W), of which half are for fitting.
        border: Border to run the model under; None for its own.
        seed: Seed of the split, the channels and cells, and the resampling.

    Raises:
        DataError: Fewer than four images, or no such feature map.
    """
    from scipy.stats import spearmanr

    from borderless.measures.intervals import over_objects

    if len(images) < 4:
        raise DataError(f"Expected at least four images to read positions from but got {len(images)}.")
    maps, module = _last_map(model, images, border)
    rows, columns = maps.shape[2:]
    channels = torch.randperm(maps.shape[1], generator=torch.Generator().manual_seed(seed))[:_MOST_CHANNELS]
    inner = torch.cartesian_prod(torch.arange(rows - 2), torch.arange(columns - 2))
    chosen = torch.randperm(len(inner), generator=torch.Generator().manual_seed(seed))[:_MOST_CELLS].sort().values
    row, column = inner[chosen].T
    around = maps[:, channels.sort().values].unfold(2, 3, 1).unfold(3, 3, 1)[:, :, row, column]
    cells = around.permute(0, 2, 1, 3, 4).flatten(2).double()  # (N, cells, channels · 9)
    slopes = (inner[chosen] + 1).double() / torch.tensor([rows - 1, columns - 1])
    wanted = slopes.expand(len(images), -1, -1)
    half = len(images) // 2
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    fitted, tested = order[:half], order[half:]
    found = _ridge(cells[fitted], wanted[fitted], cells[tested])
    scores = np.array(
        [
            np.mean([_or_zero(spearmanr(one[:, axis], true[:, axis])[0]) for axis in range(2)])
            for one, true in zip(found.numpy(), wanted[tested].numpy(), strict=True)
        ]
    )
    low, high = over_objects(scores, seed)
    error = float((found.clamp(0, 1) - wanted[tested]).abs().mean())
    return ReadOut(float(scores.mean()), low, high, error, module)


def _last_map(model: nn.Module, images: Tensor, border: Border | None) -> tuple[Tensor, str]:
    own = conversion_of(model)
    used = border or (Border("zero") if own is None else own.border)
    last: list[tuple[Tensor, str]] = []

    def keep(event: Event) -> None:
        signal = event.signal
        if signal is not None and len(signal.axes) == 2 and min(signal.frame) >= 5:
            last[:] = [(signal.crop().cpu(), event.module)]

    parts: list[Tensor] = []
    device = next((parameter.device for parameter in model.parameters()), images.device)
    with evaluating(model), attached(model, Conversion(used, observer=keep)):
        for part in torch.split(images, 8):
            model(part.to(device))
            if not last:
                raise DataError(
                    f"Expected a feature map of at least 5 × 5 cells but got none in {type(model).__name__} on images "
                    f"of {tuple(images.shape[2:])} pixels; use larger images."
                )
            parts.append(last[0][0])
    return torch.cat(parts), last[0][1]


def _ridge(cells: Tensor, wanted: Tensor, tested: Tensor) -> Tensor:
    """Return predictions for `tested`, with the penalty that has the least error on a fifth of the fitted cells."""
    features, targets = cells.flatten(0, 1), wanted.flatten(0, 1)
    mean, deviation = features.mean(0), features.std(0)
    deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    scaled, middle = (features - mean) / deviation, targets.mean(0)
    kept = torch.arange(len(scaled)) % 5 != 0
    best, least = PENALTIES[-1], float("inf")
    for penalty in PENALTIES:
        weights = _solved(scaled[kept], targets[kept] - middle, penalty)
        error = float((scaled[~kept] @ weights + middle - targets[~kept]).abs().mean())
        if error < least:
            best, least = penalty, error
    return ((tested - mean) / deviation) @ _solved(scaled, targets - middle, best) + middle


def _solved(features: Tensor, targets: Tensor, penalty: float) -> Tensor:
    gram = features.T @ features / len(features)
    return torch.linalg.solve(
        gram + penalty * torch.eye(len(gram), dtype=gram.dtype), features.T @ targets / len(features)
    )


def _or_zero(correlation: Any) -> float:
    """Return 0 for a constant, which has no order: nothing was read."""
    return 0.0 if np.isnan(correlation) else float(correlation)
