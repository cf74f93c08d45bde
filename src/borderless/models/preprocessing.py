"""Preprocessing of a network: the mean and deviation that its images are normalized by."""

from borderless.data import imagenet
from borderless.models import packaged
from borderless.models.choices import ARCHITECTURE
from borderless.models.loading import resolve

Channels = tuple[float, ...]


def normalization(name: str, weights: str = "") -> tuple[Channels, Channels]:
    """Return mean and deviation of each channel, in units of [0, 1], for the network `name` with its weights.

    The packaged network has its own; timm defines those of its networks; all others have ImageNet's.

    >>> normalization("resnet50")
    ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    """
    library, short = resolve(name)
    if weights == "packaged" and short == ARCHITECTURE:
        return (packaged.MEAN,) * 3, (packaged.STD,) * 3
    if library == "timm" and weights not in ("", "random"):
        import timm

        found = timm.get_pretrained_cfg(short if weights == "pretrained" else f"{short}.{weights}")
        if found is not None:
            return tuple(found.mean), tuple(found.std)
    return imagenet.MEAN, imagenet.DEVIATION
