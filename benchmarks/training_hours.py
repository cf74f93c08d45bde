"""How many hours the paper's trainings take on one machine with several GPUs.

    python benchmarks/training_hours.py --device cuda                  # on this machine's GPU, counted as 8 of them
    python benchmarks/training_hours.py --rate 16                      # none at hand: at 16 tera multiply-adds a second
    python benchmarks/training_hours.py --only actions --arms own recipe --device cuda --gpus 4

One row is a training of `borderless run` with the paper's settings, or all trainings of one arm that differ in the
number of images alone. Multiply-adds are counted, a training step as three passes. Seconds of a step are measured:
forward, backward and optimizer on the images that one of --gpus GPUs gets, medians with the quartiles; data loading and
the exchange of gradients come on top. With --rate nothing runs, and hours follow from the multiply-adds. Writes a table
to the screen, and the record to --out.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import record
from borderless.experiments.actions import ActionsConfig
from borderless.experiments.actions.experiment import network as clip_network
from borderless.experiments.data_efficiency import DataEfficiencyConfig
from borderless.experiments.patch_matching import ARMS as DESCRIPTORS
from borderless.experiments.patch_matching import PatchMatchingConfig
from borderless.experiments.shifts import ShiftsConfig
from borderless.explanation import explain
from borderless.models import load
from borderless.models.arms import ARMS
from borderless.runtime.evaluation import seeded
from borderless.training import Recipe

# Of the data sets, as their authors give them; ImageNet-A's 200 classes hold 1,300 images each, or somewhat fewer.
IMAGENET_IMAGES, IMAGENET_CLASSES, CLASS_IMAGES = 1_281_167, 1000, 1300
UCF101_CLIPS, UCF101_CLASSES = 9537, 101
EXPERIMENTS = ("shifts", "data-efficiency", "actions", "patch-matching")
# Arms as actions and patch-matching name them.
OF_OTHERS = {"own": "same", "full": "full"}
PASSES = 3  # of a training step: forward, and backward to the maps and to the weights


@dataclass(frozen=True)
class Training:
    """A training, or several of one network.

    macs: counts the multiply-adds of an image. shape: of an image. seen: images of all epochs of all of them. spreads:
    whether one training runs on several GPUs; else several trainings run side by side.
    """

    experiment: str
    network: str
    arm: str
    make: Callable[[], nn.Module]
    macs: Callable[[], int]
    shape: tuple[int, ...]
    batch: int
    seen: int
    spreads: bool = True


def trainings(experiments: Sequence[str], arms: Sequence[str]) -> Iterator[Training]:
    """Yield the paper's trainings, arm by arm."""
    shifts, few = ShiftsConfig.paper(), DataEfficiencyConfig.paper()
    images = sum(IMAGENET_CLASSES * n if n else IMAGENET_IMAGES for n in few.per_class)
    for arm in arms:
        if "shifts" in experiments:
            for arch in shifts.archs:
                yield on_imagenet("shifts", arch, arm, CLASS_IMAGES * 200, 200, shifts.training)
        if "data-efficiency" in experiments:
            yield on_imagenet("data-efficiency", few.arch, arm, images, IMAGENET_CLASSES, few.training)
        if "actions" in experiments and arm in OF_OTHERS:
            yield on_clips(arm)
        if "patch-matching" in experiments and arm in OF_OTHERS:
            yield on_patches(arm)


def on_imagenet(experiment: str, arch: str, name: str, images: int, classes: int, recipe: Recipe) -> Training:
    arm = replace(ARMS[name], deployed=None)  # as it is trained

    def plain() -> nn.Module:
        return load(arch, num_classes=classes)

    return Training(
        experiment,
        arch,
        name,
        make=lambda: arm.apply(plain()),
        macs=lambda: arm.explained(plain(), (224, 224)).macs,
        shape=(3, 224, 224),
        batch=recipe.batch_size,
        seen=images * recipe.epochs,
    )


def on_clips(name: str) -> Training:
    config = ActionsConfig.paper()

    def make() -> nn.Module:
        return clip_network(config.archs[0], OF_OTHERS[name], UCF101_CLASSES, 0)

    return Training(
        "actions",
        config.archs[0],
        name,
        make=make,
        macs=lambda: explain(make(), (16, 112, 112), tiles=False).macs_own,
        shape=(3, 16, 112, 112),
        batch=config.training.batch_size,
        seen=UCF101_CLIPS * config.training.epochs,
    )


def on_patches(name: str) -> Training:
    config = PatchMatchingConfig.paper()
    network = DESCRIPTORS[OF_OTHERS[name]][0]
    return Training(
        "patch-matching",
        network,
        name,
        make=lambda: load(network),
        macs=lambda: explain(load(network), (32, 32), "zero", channels=1, tiles=False).macs,
        shape=(1, 32, 32),
        batch=2 * config.training.batch_size,
        seen=2 * sum(config.pairs) * config.training.epochs,
        spreads=False,  # its loss is that of the whole batch
    )


def step_seconds(training: Training, device: torch.device, gpus: int, steps: int) -> dict[str, Any]:
    """Return the spread of the seconds of a step on the part of a batch that one GPU gets."""
    with seeded(0):
        model = training.make().to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    images = torch.randn(max(1, training.batch // (gpus if training.spreads else 1)), *training.shape, device=device)
    seconds = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        optimizer.zero_grad()
        _loss(model(images)).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return record.spread(seconds[2:])


def _loss(outputs: Tensor) -> Tensor:
    return F.cross_entropy(outputs, torch.zeros(len(outputs), dtype=torch.long, device=outputs.device))


def main() -> None:
    counted = [name for name, arm in ARMS.items() if not arm.pads and not arm.blurs]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=EXPERIMENTS, metavar="EXPERIMENT")
    parser.add_argument("--arms", nargs="+", choices=counted, default=["own", "full", "recipe"])
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=10, help="timed steps, after two that are not timed")
    parser.add_argument("--rate", type=float, help="10¹² multiply-adds a second of one GPU; nothing is measured then")
    record.add_options(parser, "training_hours")
    config = parser.parse_args()
    rows = []
    print("experiment       network            arm           GMAC an image  images, 10⁶  EMAC in all  hours")
    for training in trainings(config.only, config.arms):
        macs = training.macs()
        total = PASSES * macs * training.seen
        row: dict[str, Any] = {
            "experiment": training.experiment,
            "network": training.network,
            "arm": training.arm,
            "gigamacs_an_image": macs / 1e9,
            "million_images": training.seen / 1e6,
            "examacs": total / 1e18,
            "gpus": config.gpus,
        }
        if config.rate is None:
            row["step_s"] = step_seconds(training, torch.device(config.device), config.gpus, config.steps)
            at_once = 1 if training.spreads else config.gpus
            row["hours"] = row["step_s"]["median"] * training.seen / training.batch / at_once / 3600
        else:
            row["hours"] = total / (config.rate * 1e12 * config.gpus) / 3600
        rows.append(row)
        print(
            f"{training.experiment:16} {training.network:18} {training.arm:12}{macs / 1e9:14.2f}"
            f"{row['million_images']:14.1f}{row['examacs']:13.2f}{row['hours']:9.1f}",
            flush=True,
        )
    print(f"\nThe record is in {record.save('training_hours', config, rows)}")


if __name__ == "__main__":
    main()
