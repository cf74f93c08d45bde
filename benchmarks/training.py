"""What the training loop costs on top of bare steps: forward, backward, optimizer, on the same batches.

    python benchmarks/training.py
    python benchmarks/training.py --model timm/resnet10t --side 32 --batch 32 --steps 40

Each turn trains both ways, one after the other, from the same weights; the way that begins takes turns. The loop's
time includes its data loading, validation on a single batch after each epoch, and its checkpoints; bare steps index a
tensor.
The losses of both ways are compared. Writes a table to the screen, and the record to --out.
"""

import argparse
import statistics
import tempfile
import time

import torch
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import record
from borderless.models import load
from borderless.training import Recipe, fit


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--side", type=int, default=64, help="height and width of the images, pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40, help="an epoch")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--runs", type=int, default=7, help="timed turns, after one that is not timed")
    record.add_options(parser, "training")
    return parser.parse_args()


def main() -> None:
    config = options()
    count = config.batch * config.steps
    draw = torch.Generator().manual_seed(0)
    images, labels = torch.randn(count, 3, config.side, config.side, generator=draw), torch.arange(count) % 10
    recipe = Recipe(
        epochs=config.epochs,
        batch_size=config.batch,
        learning_rate=0.01,
        schedule="constant",
        shuffle=False,
        nesterov=False,
    )

    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        return load(config.model, num_classes=10).to(memory_format=torch.channels_last).train()

    def bare() -> tuple[float, float]:
        network, total = model(), 0.0
        optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=recipe.weight_decay)
        start = time.perf_counter()
        for chosen in torch.arange(count).split(config.batch) * config.epochs:
            batch = images[chosen].contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            loss = F.cross_entropy(network(batch), labels[chosen])
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(chosen)
        return time.perf_counter() - start, total / count / config.epochs

    def loop() -> tuple[float, float]:
        network = model()
        train = TensorDataset(images, labels)
        validation = TensorDataset(images[: config.batch], labels[: config.batch])
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            history = fit(network, train, validation, recipe, folder, 0)
            return time.perf_counter() - start, statistics.mean(epoch.loss for epoch in history)

    bare_s, loop_s, losses = [], [], []
    for turn in range(config.runs + 1):
        found = {way: way() for way in ((bare, loop) if turn % 2 else (loop, bare))}
        losses.append(abs(found[loop][1] - found[bare][1]))
        if turn > 0:
            bare_s.append(found[bare][0])
            loop_s.append(found[loop][0])
    ratios = [a / b for a, b in zip(loop_s, bare_s, strict=True)]
    loop_over_bare = record.spread(ratios)
    middle, (low, high) = loop_over_bare["median"], loop_over_bare["quartiles"]
    print(f"{config.model}, {config.side} px, {config.runs} turns")
    print(f"{config.epochs} epochs of {config.steps} steps of {config.batch}")
    print(f"bare {statistics.median(bare_s):.2f} s, loop {statistics.median(loop_s):.2f} s")
    print(f"loop over bare {middle:.3f} ({low:.3f}-{high:.3f}); mean losses differ by {max(losses):.1e}")
    row = {"model": config.model, "bare_s": record.spread(bare_s), "loop_s": record.spread(loop_s)}
    row |= {"loop_over_bare": loop_over_bare, "largest_difference_of_losses": max(losses)}
    print(f"The record is in {record.save('training', config, [row])}")


if __name__ == "__main__":
    main()
