"""What should a mean over space divide by when a network trains under `infinite`: the frame's cells, or the window's?

    python benchmarks/counts.py steps | scratch

steps: the loss of a ResNet-18 from random weights over the first steps on six images of 64 px, SGD 0.01, momentum 0.9.
scratch: test accuracy after a few epochs on digits that fill a frame of 32 px, from random weights, by SGD and AdamW.

For a pretrained network see `borderless run finetune --count`. One line an arm; the record goes to --out.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import borderless as bl
import record
from borderless.data.digits import load_digits

ARMS: dict[str, bl.Border | None] = {
    "original padding": None,
    "infinite, frame": bl.Border("infinite"),
    "infinite, window": bl.Border("infinite", count="window"),
    "infinite, reach 2, frame": bl.Border("infinite", reach=2),
    "infinite, reach 2, window": bl.Border("infinite", reach=2, count="window"),
}
OPTIMIZERS = {
    "SGD 0.01": lambda parameters: torch.optim.SGD(parameters, 0.01, momentum=0.9),
    "AdamW 1e-3": lambda parameters: torch.optim.AdamW(parameters, 1e-3),
}


def in_arm(model: nn.Module, border: bl.Border | None) -> nn.Module:
    return model if border is None else bl.convert(model, border)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> float:
    loss = F.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def steps(config: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for arm, border in ARMS.items():
        for seed in range(config.seeds):
            torch.manual_seed(seed)
            model = in_arm(torchvision.models.resnet18(num_classes=3).train(), border)
            images, labels = torch.randn(6, 3, 64, 64), torch.arange(6) % 3
            optimizer = OPTIMIZERS["SGD 0.01"](model.parameters())
            yield {"arm": arm, "seed": seed, "losses": [step(model, optimizer, images, labels) for _ in range(9)]}


def scratch(config: argparse.Namespace) -> Iterator[dict[str, Any]]:
    digits = load_digits(32)
    images = (digits.images[:, None].expand(-1, 3, -1, -1) - 0.3) / 0.4
    for name, optimizer_of in OPTIMIZERS.items():
        for arm, border in ARMS.items():
            for seed in range(config.seeds):
                torch.manual_seed(seed)
                model = in_arm(timm.create_model(config.network, num_classes=10).train(), border)
                optimizer = optimizer_of(model.parameters())
                order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
                train, test = order[: config.images], order[-500:]
                for _ in range(config.epochs):
                    for batch in train[torch.randperm(len(train))].split(32):
                        loss = step(model, optimizer, images[batch], digits.labels[batch])
                with torch.no_grad():
                    right = model.eval()(images[test]).argmax(1) == digits.labels[test]
                accuracy = right.float().mean().item()
                yield {"optimizer": name, "arm": arm, "seed": seed, "accuracy": accuracy, "last loss": loss}


PARTS = {part.__name__: part for part in (steps, scratch)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--network", default="test_resnet", help="a network of timm")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int, default=800)
    record.add_options(parser, "counts")
    config = parser.parse_args()
    rows = []
    for row in PARTS[config.part](config):
        rows.append(row)
        print(row, flush=True)
    print(f"The record is in {record.save('counts', config, rows)}")


if __name__ == "__main__":
    main()
