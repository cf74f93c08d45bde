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
from collections.abc import Callable
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
from borderless.models.arms import ARMS, Arm
from borderless.runtime.evaluation import seeded

# Of the data sets, as their authors give them; ImageNet-A's 200 classes hold 1,300 images each, or somewhat fewer.
IMAGENET_IMAGES, IMAGENET_CLASSES, CLASS_IMAGES = 1_281_167, 1000, 1300
UCF101_CLIPS, UCF101_CLASSES = 9537, 101
# Of arms that exist under another name there.
OF_CLIPS = OF_DESCRIPTORS = {"own": "same", "full": "full"}
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


def trainings(arms: list[str]) -> list[Training]:
    shifts, few = ShiftsConfig.paper(), DataEfficiencyConfig.paper()
    pairs, clips = PatchMatchingConfig.paper(), ActionsConfig.paper()
    found = []
    for arm in arms:
        on_imagenet = [("shifts", arch, CLASS_IMAGES * 200, 200, shifts.training) for arch in shifts.archs]
        counts = sum(IMAGENET_CLASSES * n if n else IMAGENET_IMAGES for n in few.per_class)
        on_imagenet.append(("data-efficiency", few.arch, counts, IMAGENET_CLASSES, few.training))
        for experiment, arch, images, classes, recipe in on_imagenet:
            found.append(
                Training(
                    experiment,
                    arch,
                    arm,
                    lambda arch=arch, classes=classes, arm=arm: ARMS[arm].apply(load(arch, num_classes=classes)),
                    lambda arch=arch, arm=arm: _as_trained(arm).explained(load(arch), (224, 224)).macs,
                    (3, 224, 224),
                    recipe.batch_size,
                    images * recipe.epochs,
                )
            )
        if arm in OF_CLIPS:
            made = lambda arm=arm: clip_network(clips.archs[0], OF_CLIPS[arm], UCF101_CLASSES, 0)  # noqa: E731
            found.append(
                Training(
                    "actions",
                    clips.archs[0],
                    arm,
                    made,
                    lambda made=made: explain(made(), (16, 112, 112), tiles=False).macs_own,
                    (3, 16, 112, 112),
                    clips.training.batch_size,
                    UCF101_CLIPS * clips.training.epochs,
                )
            )
        if arm in OF_DESCRIPTORS:
            name = DESCRIPTORS[OF_DESCRIPTORS[arm]][0]
            found.append(
                Training(
                    "patch-matching",
                    name,
                    arm,
                    lambda name=name: load(name),
                    lambda name=name: explain(load(name), (32, 32), "zero", channels=1, tiles=False).macs,
                    (1, 32, 32),
                    2 * pairs.training.batch_size,
                    2 * sum(pairs.pairs) * pairs.training.epochs,
                    spreads=False,  # its loss is that of the whole batch
                )
            )
    return found


def _as_trained(name: str) -> Arm:
    return replace(ARMS[name], deployed=None)


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
    parser.add_argument(
        "--only", nargs="*", help="experiments; by default shifts data-efficiency actions patch-matching"
    )
    parser.add_argument("--arms", nargs="*", choices=counted, default=["own", "full", "recipe"])
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--steps", type=int, default=10, help="timed steps, after two that are not timed")
    parser.add_argument("--rate", type=float, help="10¹² multiply-adds a second of one GPU; nothing is measured then")
    record.add_options(parser, "training_hours")
    config = parser.parse_args()
    rows = []
    print("experiment       network            arm           GMAC an image  images, 10⁶  EMAC in all  hours")
    for training in trainings(config.arms):
        if config.only and training.experiment not in config.only:
            continue
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
            row["step_s"] = step_seconds(training, config.device, config.gpus, config.steps)
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
    notes = {"device": str(config.device)} if config.rate is None else {"rate": config.rate}
    print(f"\nThe record is in {record.save('training_hours', config, rows, **notes)}")


if __name__ == "__main__":
    main()
