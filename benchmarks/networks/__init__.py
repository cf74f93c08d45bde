"""Networks of other packages, one file a family of packages: what is built, and what it takes.

A file lists `NETWORKS`, by "package/name". Builders import their package when they are called, so that a package that
is not installed costs its own networks only. All weights are random: nothing is downloaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

# The files, and so the processes.
FAMILIES = (
    "audio",
    "classifiers",
    "detectors",
    "diffusers",
    "kornia",
    "medical",
    "pytorchcv",
    "restoration",
    "segmentation",
    "transformers",
    "ultralytics",
)


def image_alone(images: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (images,), {}


@dataclass(frozen=True)
class Network:
    """One row of the benchmark.

    build: makes the network. shape: of one image, (C, *space). arguments: from a batch of images, of any size, to the
    positional and keyword arguments of a call. images: as `bl.convert` takes it, where a layout must be named. Objects
    are `object_px` long along each axis.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = (3, 96, 96)
    arguments: Callable[[Tensor], tuple[tuple[Any, ...], dict[str, Any]]] = image_alone
    images: Any = None

    @property
    def object_px(self) -> int:
        return min(24, min(self.shape[1:]) * 3 // 8)
