"""The network that a command line names: by name with its library's weights, in a file of them, or by import path."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from borderless.data import imagenet
from borderless.errors import CheckpointError, UnknownName
from borderless.models.checkpoint import SUFFIXES, fill_, read_weights
from borderless.models.choices import ARCHITECTURE
from borderless.models.importing import built, is_import_path
from borderless.models.loading import load, resolve
from borderless.models.preprocessing import Channels, normalization
from borderless.models.programs import is_program_file
from borderless.runtime.evaluation import seeded

_PROGRAMS = (".pt2", ".onnx", ".ptl", ".engine", ".tflite")


@dataclass(frozen=True)
class NetworkRequest:
    """A network by name with its library's weights, the architecture `arch` with those in a file, or an import path.

    Attributes:
        name: Of a network, as for `load`; the path of a file of weights; or `package.module:name`, a callable that
            returns a network and is imported from the current folder or from an installed package.
        arch: Architecture of a file.
        weights: Of a network by name, see `load`, or "random"; without it, its library's, and random ones for the
            paper's. The bare name `tf_efficientnet_lite0` has a package's (`borderless.models.packaged`);
            `timm/tf_efficientnet_lite0` has timm's, as has `efficientnet_lite0`, which is another network. Of an import
            path, a file of weights; without it, those that the callable gives it.
        classes: Number of classes of the architecture; only for random weights and files.
        seed: Seed of random weights.
    """

    name: str
    arch: str = ""
    weights: str = ""
    classes: int | None = None
    seed: int = 0

    def load(self) -> nn.Module:
        """Return the network, in eval mode.

        Raises:
            UnknownName: There is no such network or weights.
            CheckpointError: The file cannot be read without running code from it.
            ConfigError: The callable at an import path fails, or needs arguments.
        """
        if self.is_import_path:
            return self._imported()
        options: dict[str, Any] = {} if self.classes is None else {"num_classes": self.classes}
        if self.is_file:
            self._check_file()
            return load(self.arch, Path(self.name), **options)
        if self.arch:
            raise UnknownName(
                f"Expected a file of weights with --arch but got the network {self.name!r} and --arch {self.arch!r}; "
                "leave one out"
            )
        if self.is_random:
            with seeded(self.seed):
                return load(self.name, **options)
        if options:
            raise UnknownName(
                f"Expected --classes with a file of weights or with random ones but got --classes {self.classes} for "
                f"{self.name!r} with weights of its library; leave it out"
            )
        return load(self.name, self._kept)

    def _imported(self) -> nn.Module:
        if self.arch or self.classes is not None:
            option = f"--arch {self.arch}" if self.arch else f"--classes {self.classes}"
            raise UnknownName(
                f"Expected neither --arch nor --classes with {self.name}, whose callable decides both, but got "
                f"{option}; leave it out"
            )
        is_file = self.weights not in ("", "random")
        weights = (
            read_weights(Path(self.weights)) if is_file else {}
        )  # before the network: a wrong path is told at once
        with seeded(self.seed):
            model = built(self.name)
        if is_file:
            fill_(model, weights, self.name, Path(self.weights))
        return model.eval()

    def _check_file(self) -> None:
        path = Path(self.name)
        if not path.is_file():
            found = "a folder" if path.is_dir() else "none"
            raise CheckpointError(f"Expected a file of weights at {path} but got {found}; check the path.")
        if path.suffix.lower() in _PROGRAMS or is_program_file(path):
            raise CheckpointError(
                f"Expected the weights of a Python model but got {path}, a compiled or exported program, in which "
                "borderless cannot change the borders; save model.state_dict() of the model it was made from, and give "
                "--arch"
            )
        if not self.arch:
            raise CheckpointError(
                f"Expected --arch, the architecture of the weights in {path}, but got none; give it, for example "
                "--arch resnet50 (a file of torch.save(model) is not read, because unpickling it runs code from the "
                "file)"
            )

    @property
    def normalization(self) -> tuple[Channels, Channels]:
        """Mean and deviation that its images are normalized by.

        Raises:
            CheckpointError: The file holds no state dict.
        """
        if self.is_file and not self.is_program:
            self._check_file()
            return normalization(self.arch)
        if self.is_import_path or self.is_program:
            return imagenet.MEAN, imagenet.DEVIATION
        return normalization(self.name, self._kept)

    @property
    def is_file(self) -> bool:
        """Whether the name is that of a file, existing or not."""
        endings = (*SUFFIXES, *_PROGRAMS, ".bin", ".ckpt")
        return self.name.lower().endswith(endings) or Path(self.name).is_file()

    @property
    def is_program(self) -> bool:
        """Whether the name is that of a file with a program, which can be run and not converted."""
        return not self.arch and Path(self.name).is_file() and is_program_file(Path(self.name))

    @property
    def is_import_path(self) -> bool:
        """Whether the name is `package.module:name`."""
        return not self.is_file and is_import_path(self.name)

    @property
    def is_random(self) -> bool:
        """Whether the weights are random: asked for, or those of one of the paper's networks, which has no others."""
        if self.is_file or self.weights:
            return not self.is_file and self.weights == "random"
        return not self.is_import_path and resolve(self.name)[0] == "borderless"

    @property
    def slug(self) -> str:
        """A folder's name for the network; of a file, with the folder that it is in."""
        return slug(self.name) if not self.is_file else slug(f"{Path(self.name).parent.name}-{Path(self.name).stem}")

    @property
    def source(self) -> tuple[str, str, str]:
        """Library of a network by name, its name there, and its weights."""
        return (*resolve(self.name), self._kept)

    @property
    def _kept(self) -> str:
        """The weights of a network by name: those asked for, else its library's."""
        if self.is_random:
            return "random"
        library, _ = resolve(self.name)
        kept = self.weights or ("packaged" if self.name == ARCHITECTURE else "default")
        return "pretrained" if kept == "default" and library == "timm" else kept


def architecture(name: str) -> nn.Module:
    """Return a network by name or import path without looking for trained weights, in eval mode.

    Raises:
        UnknownName: There is no such network.
        ConfigError: The callable at an import path fails, or needs arguments.
    """
    return built(name).eval() if is_import_path(name) else load(name)


def slug(name: str) -> str:
    """Return a name as the name of a folder.

    >>> slug("timm/resnet18.a1_in1k")
    'timm-resnet18.a1_in1k'
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")
