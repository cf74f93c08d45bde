"""Settings of experiments that train networks, on a device of choice, on the paper's data."""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Self

from borderless.runtime.devices import check_device
from borderless.runtime.settings import Range, Settings
from borderless.training.recipe import Recipe


@dataclass(frozen=True)
class TrainedSettings(Settings):
    """Settings of an experiment that trains networks."""

    seeds: Annotated[int, Range(1, 10_000)] = 1
    """Number of seeds (0, 1, …) of the data, the initial weights and the order."""
    training: Recipe = field(default_factory=Recipe)
    """Settings of the trainings."""


@dataclass(frozen=True)
class DeviceSettings(TrainedSettings):
    """Settings of an experiment that trains networks on a device of choice."""

    device: str = "cpu"
    """Device of the networks: cpu, cuda, cuda:1, …"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_device(self.device)


@dataclass(frozen=True)
class PaperSettings(DeviceSettings):
    """Settings of an experiment that the paper ran on data of its own, which `data` names."""

    FROM_PAPER: ClassVar[dict[str, Any]] = {}

    @classmethod
    def paper(cls) -> Self:
        """Return the paper's settings, those in `FROM_PAPER`; --data starts from them."""
        return cls(**cls.FROM_PAPER)
