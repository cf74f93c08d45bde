"""What experiments compare: a network as it is, and the same network under other borders and with blurred strides.

With it, what their pages have in common: colours and markers, means in words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import borderless as bl
from borderless.engine.border import BorderName, Phase
from borderless.experiments.runner import ConfigError
from borderless.measures.intervals import over_seeds
from borderless.models import load
from borderless.models.small import network as small_network
from borderless.runtime.evaluation import seeded

SMALL = "small"


@dataclass(frozen=True)
class Arm:
    """A border to put a network under (None: as it is). blurs: with anti-aliased strides. paper: its name there."""

    title: str
    border: BorderName | None = None
    phase: Phase = "fixed"
    reach: int | None = None
    blurs: bool = False
    paper: str | None = None

    def of(self, model: nn.Module, background: float = 0.0) -> nn.Module:
        """`model` in this arm; its weights stay, and `model` itself too unless the arm is to leave it as it is.

        background: what is around the image, under `infinite`.
        """
        model = bl.blur(model) if self.blurs else model
        if self.border is None:
            return model
        around = background if self.border == "infinite" else 0.0
        return bl.convert(model, bl.Border(self.border, phase=self.phase, reach=self.reach, background=around))

    def explained(self, model: nn.Module, size: tuple[int, ...]) -> bl.Explanation:
        """What `model`, without blur, comes to in this arm on images of `size`."""
        return bl.explain(model, size, self.border or "zero", phase=self.phase, reach=self.reach)


ARMS: dict[str, Arm] = {
    "own": Arm("own padding", paper="S"),
    "full": Arm("full", "full", paper="F"),
    "infinite": Arm("infinite", "infinite"),
    "infinite-adaptive": Arm("infinite, adaptive phase", "infinite", "adaptive"),
    "own-blur": Arm("own padding, blur", blurs=True, paper="S+Blur"),
    "full-blur": Arm("full, blur", "full", blurs=True, paper="F+Blur"),
    "infinite-adaptive-blur": Arm("infinite, adaptive phase, blur", "infinite", "adaptive", blurs=True),
}

# One colour and one marker an arm: a border's own, hollow with a blur.
COLOURS = {
    "own": "#c43c2a",
    "full": "#2878b5",
    "infinite": "#16805a",
    "infinite-adaptive": "#8457a8",
    "own-padded": "#77736b",
}
MARKERS = {"own": "s", "full": "o", "infinite": "^", "infinite-adaptive": "D", "own-padded": "v"}


def look(arm: str) -> dict[str, Any]:
    """Marker and colour of an arm's points."""
    base = arm.removesuffix("-blur")
    colour = COLOURS[base]
    return {
        "marker": MARKERS[base],
        "color": colour,
        "markerfacecolor": "white" if arm != base else colour,
        "markeredgecolor": colour,
    }


def mean_in_words(values: Sequence[float], sign: str = "") -> str:
    """The mean over seeds and half its 95 % interval, to one place. sign: "+" for differences.

    >>> mean_in_words([1.0, 2.0, 3.0]), mean_in_words([1.5], "+")
    ('2.0 ± 2.5', '+1.5')
    """
    half = over_seeds(values)
    return f"{np.mean(values):{sign}.1f}" + ("" if half is None else f" ± {half:.1f}")


def check_arms(arms: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Raises ConfigError unless `arms` are some of the `known` ones, each once."""
    if not arms or len(set(arms)) < len(arms) or not set(arms) <= set(known):
        raise ConfigError(f"got arms={arms}; needed: one at least, each once, of {', '.join(known)}")


def check_device(device: str) -> None:
    """Raises ConfigError unless networks can run on `device` here."""
    try:
        found = torch.device(device)
        is_here = found.type != "cuda" or (found.index or 0) < torch.cuda.device_count()
    except RuntimeError:  # not a device's name
        is_here = False
    if not is_here:
        raise ConfigError(
            f"got device={device!r}, and PyTorch sees {torch.cuda.device_count()} GPUs here; needed: cpu, or cuda, "
            "cuda:1, … on a machine that has as many"
        )


def classifier(arch: str, classes: int, seed: int) -> nn.Module:
    """`arch` with random weights, for images in colour: "small", or any name that `load` knows."""
    if arch == SMALL:
        return small_network(seed, channels=3, classes=classes)
    with seeded(seed):
        return load(arch, num_classes=classes)
