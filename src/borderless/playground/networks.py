"""Networks that a visitor names: checked before they are built, prepared once, and shared by all who ask for the same.

Shapes: canvases (224, 224), objects 3 × 96 × 96 on them.
"""

import copy
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor, nn

from borderless.conversion import convert
from borderless.data.photos import load_photo
from borderless.engine.border import Border
from borderless.errors import ApproximatePhaseWarning, BorderlessError, ImageError, PositionDependentWarning
from borderless.explanation import explain
from borderless.models.loading import load
from borderless.models.packaged import class_names
from borderless.models.preprocessing import normalization
from borderless.placement.occlusion import OcclusionMap
from borderless.placement.place import place
from borderless.runtime.evaluation import evaluating, seeded

CANVAS_PX, OBJECT_PX = 224, 96
ROOM_PX = CANVAS_PX - OBJECT_PX
WINDOW_PX = 24  # of an occlusion; the next one is half as far away
ORIGINAL = "original"
WEIGHTS = ("packaged", "random", "default", "pretrained")
UNLIMITED = "unlimited"
# Per image: any usual network with its original padding, the smaller ones under `infinite`.
MOST_MACS = 2e10
# Four bytes each.
MOST_PARAMETERS = 2e8

# PyTorch's generator belongs to all threads: one that seeds it keeps the others out until the numbers are drawn.
DRAWING = threading.RLock()


@dataclass(frozen=True)
class NetworkChoice:
    """A network under a border.

    Attributes:
        name: As `load` takes it.
        weights: One of WEIGHTS.
        border: ORIGINAL for the original padding.
        phase: "fixed" or "adaptive".
        reach: How far feature maps may grow; UNLIMITED or a number of cells.
    """

    name: str
    weights: str
    border: str = ORIGINAL
    phase: str = "fixed"
    reach: str = UNLIMITED


@dataclass(frozen=True)
class Prepared:
    """A network that is ready to run.

    Attributes:
        model: In eval mode.
        mean: Of its images, (3, 1, 1).
        deviation: Of its images, (3, 1, 1).
        notes: Sentences that a reader of its predictions must know.
        lock: Of the model: visitors share it, and one run of it at a time is allowed.
    """

    model: nn.Module
    mean: Tensor
    deviation: Tensor
    notes: tuple[str, ...] = ()
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def probabilities(self, photo: str, positions: Sequence[tuple[int, int]]) -> Tensor:
        """Return (positions, classes), with a photograph at each position of a gray canvas."""
        return self._classified(self._normalized(photo), positions, torch.zeros(3, CANVAS_PX, CANVAS_PX))

    def hidden(self, photo: str, position: tuple[int, int]) -> OcclusionMap:
        """Return the probabilities with one window after another of a photograph at `position` hidden by gray."""
        canvas = torch.zeros(3, CANVAS_PX, CANVAS_PX)
        canvas[:, position[0] : position[0] + OBJECT_PX, position[1] : position[1] + OBJECT_PX] = self._normalized(
            photo
        )
        steps = range(0, OBJECT_PX - WINDOW_PX + 1, WINDOW_PX // 2)
        rows, columns = (tuple(at + step for step in steps) for at in position)
        window = torch.zeros(3, WINDOW_PX, WINDOW_PX)
        outputs = self._classified(window, [(row, column) for row in rows for column in columns], canvas)
        whole = self.probabilities(photo, [position])[0]
        size, image_size = (WINDOW_PX, WINDOW_PX), (CANVAS_PX, CANVAS_PX)
        return OcclusionMap(outputs.unflatten(0, (len(rows), len(columns))), whole, rows, columns, size, image_size)

    def _normalized(self, photo: str) -> Tensor:
        return (load_photo(photo, OBJECT_PX) - self.mean) / self.deviation

    def _classified(self, thing: Tensor, positions: Sequence[tuple[int, int]], canvas: Tensor) -> Tensor:
        with self.lock, computing(), evaluating(self.model):
            found = place(self.model, thing[None], positions, background=canvas)
        if found.ndim != 3:
            raise ImageError(
                f"Expected a classifier, one number per class, but got outputs of shape {tuple(found.shape[1:])}. "
                "Choose another network."
            )
        return found[:, 0].double().softmax(1)


@lru_cache(maxsize=4)
def prepare(choice: NetworkChoice) -> Prepared:
    """Return a network under a border. It is shared: whoever changes it takes a copy.

    Raises:
        ImageError: It is too large, takes too long, or cannot run on these canvases.
        BorderlessError: `load` or `convert` refuses it.
    """
    name = choice.name.strip()
    model = copy.deepcopy(_loaded(name, choice.weights))
    mean, deviation = (torch.tensor(values).reshape(3, 1, 1) for values in normalization(name, choice.weights))
    is_original = choice.border == ORIGINAL
    reach = None if choice.reach == UNLIMITED or choice.border not in ("full", "infinite") else int(choice.reach)
    border = Border("zero") if is_original else Border(choice.border, choice.phase, reach)  # pyright: ignore[reportArgumentType]
    # Filters of warnings belong to all threads too.
    with computing(), DRAWING, warnings.catch_warnings(record=True, action="always") as heard:
        macs = explain(model, (CANVAS_PX, CANVAS_PX), border, channels=3, tiles=False).macs
        converted = model if is_original else convert(model, border)
    told = (ApproximatePhaseWarning, PositionDependentWarning)
    notes = [str(each.message) for each in heard if issubclass(each.category, told)]
    if macs > MOST_MACS:
        under = "its original padding" if is_original else choice.border
        raise ImageError(
            f"Expected at most {MOST_MACS / 1e9:.0f} · 10⁹ multiply-adds per image but got {macs / 1e9:.0f} · 10⁹ for "
            f"{name} under {under}. Choose a smaller network or a smaller reach."
        )
    return Prepared(converted, mean, deviation, tuple(notes))


@lru_cache(maxsize=2)
def _loaded(name: str, weights: str) -> nn.Module:
    if weights != "packaged":
        check_size(name)
    with DRAWING, seeded(0):
        return load(name, None if weights == "random" else weights).requires_grad_(False)


def check_size(name: str) -> None:
    """Raise ImageError for a network of too many parameters, which are counted without memory for them."""
    with DRAWING:
        try:
            with torch.device("meta"):
                parameters = sum(parameter.numel() for parameter in load(name).parameters())
        except BorderlessError:
            raise
        except (RuntimeError, NotImplementedError, ValueError, TypeError) as error:
            raise ImageError(
                f"Expected a network whose size is known before it is built but got {name}, whose code reads values "
                "while it is built. Choose another network."
            ) from error
    if parameters > MOST_PARAMETERS:
        raise ImageError(
            f"Expected at most {MOST_PARAMETERS / 1e6:.0f} million parameters but got {parameters / 1e6:.0f} million "
            f"for {name}. Choose a smaller network."
        )


@contextmanager
def computing() -> Iterator[None]:
    """Raise ImageError for what a network itself cannot do with images of this size and these channels."""
    try:
        yield
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        if isinstance(error, BorderlessError):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ImageError(
            f"Expected a network for images of 3 × {CANVAS_PX} × {CANVAS_PX} but got one that cannot run on them "
            f"({reason}). Choose another network."
        ) from error


def class_name(index: int, count: int) -> str:
    """Return what a class is called: by ImageNet, if the network knows as many."""
    return class_names()[index] if count == len(class_names()) else f"class {index}"
