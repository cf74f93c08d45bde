"""Where a network's own padding treats the two ends of the image differently, and what it never looks at.

A strided operation pads its first cell with the cells that it was told to, and its last one with what the stride leaves
of them: on most image sizes fewer, sometimes none, and now and then it does not even read the last cells (Alsallakh et
al., Mind the Pad, ICLR 2021). It depends on the size of the image alone, so another size can mend it.

Integers, but for `influence`, which asks the gradients.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from borderless.convert import bordered
from borderless.errors import ImageError
from borderless.measures.images import check_images
from borderless.modes import measured
from borderless.scope import Event

AXES = ("rows", "columns")


@dataclass(frozen=True)
class UnevenPadding:
    """An operation that pads the two ends of an axis differently. before, after: cells of padding that its windows use
    at the start and at the end; a negative number of cells is left unread there.
    """

    module: str
    operation: str
    axis: str
    cells: int
    before: int
    after: int


def uneven_padding(model: nn.Module, size: Sequence[int], channels: int) -> tuple[UnevenPadding, ...]:
    """The operations that pad unevenly on images of `size` (height, width), in the order in which they run."""
    found: list[UnevenPadding] = []

    def look(event: Event) -> None:
        for axis, slide, n in zip(AXES, event.slides, event.source, strict=False):
            # What the last window reads beyond the last cell.
            after = slide.needed((0, slide.frame(n)))[1] - n
            if after != slide.padding and (slide.padding or slide.padding_after or after < 0):
                operation = event.operation.rpartition(".")[2]
                found.append(UnevenPadding(event.module, operation, axis, n, slide.padding, after))

    example = next(model.parameters(), torch.empty(0))
    image = torch.zeros(1, channels, *size, dtype=example.dtype, device=example.device)
    with measured(model), bordered(model, "zero", observer=look):
        model(image)
    return tuple(found)


def even_sizes(model: nn.Module, size: Sequence[int], channels: int, most: int = 3, within: int = 32) -> list[int]:
    """Sides of square images nearest to `size` on which nothing is padded unevenly: at most `most`, nearest first.

    Looked for up to `within` pixels from the larger side of `size`. Sizes that the model cannot run on are passed over.
    """
    middle = max(size)
    candidates = sorted(range(max(1, middle - within), middle + within + 1), key=lambda side: abs(side - middle))
    found: list[int] = []
    for side in candidates:
        try:
            uneven = uneven_padding(model, (side, side), channels)
        except (ImageError, RuntimeError, ValueError):
            continue
        if not uneven:
            found.append(side)
            if len(found) == most:
                break
    return found


@dataclass(frozen=True)
class Influence:
    """How much the model's answers depend on each row and each column of pixels, 1 where it is median.

    unread_rows, unread_columns: those without any influence.
    """

    rows: np.ndarray
    columns: np.ndarray

    @property
    def unread_rows(self) -> list[int]:
        return np.flatnonzero(self.rows == 0).tolist()

    @property
    def unread_columns(self) -> list[int]:
        return np.flatnonzero(self.columns == 0).tolist()


def influence(model: nn.Module, images: Tensor, seed: int = 0) -> Influence:
    """The mean absolute gradient of a random mixture of the answers with respect to each row and column of pixels.

    images: (N, C, H, W). What has no influence on any answer is a blind spot: nothing that stands there can be seen.
    """
    check_images(images)
    device = next((parameter.device for parameter in model.parameters()), images.device)
    draw = torch.Generator().manual_seed(seed)
    with measured(model), torch.enable_grad():
        pixels = images.detach().to(device).requires_grad_()
        answers = model(pixels)
        if not isinstance(answers, Tensor):
            raise ImageError(f"got {type(answers).__name__} from {type(model).__name__}; needed: one tensor")
        mixture = torch.randn(answers.shape[1:], generator=draw).to(answers)
        (gradient,) = torch.autograd.grad((answers * mixture).sum(), pixels)
    strength = gradient.abs().double().mean((0, 1)).cpu().numpy()
    rows, columns = strength.mean(1), strength.mean(0)
    return Influence(_relative(rows), _relative(columns))


def _relative(strength: np.ndarray) -> np.ndarray:
    middle = float(np.median(strength))
    return strength / middle if middle > 0 else strength
