"""A program that trains, for tests that kill it or start several of it: python -m training.trainee FOLDER VARIANT …"""

import dataclasses
import sys
from pathlib import Path

import torch

from borderless.experiments import EXPERIMENTS
from borderless.experiments.runner import run
from borderless.runtime.distributed import joined, process_group
from borderless.training import Recipe, fit
from support.bars import Bars, network

RECIPE = Recipe(epochs=3, batch_size=10, learning_rate=0.05, stop_after=3)
# Without dropout, whose numbers each process draws by itself.
VARIANTS = {
    "plain": ({"dropout": 0.0, "norm": False}, RECIPE),
    "norms": ({"dropout": 0.0}, dataclasses.replace(RECIPE, sync_batchnorm=True)),
    "apart": ({"dropout": 0.0}, RECIPE),
    "parts": ({"dropout": 0.0, "norm": False}, dataclasses.replace(RECIPE, accumulation_steps=2)),
    "dropout": ({}, dataclasses.replace(RECIPE, epochs=40, save_minutes=0, stop_after=None, monitor="loss")),
}


def train(folder: Path, variant: str) -> None:
    options, recipe = VARIANTS[variant]
    model = network(**options).double()
    train, validation = Bars(45, seed=1), Bars(21, seed=2)
    train.images, validation.images = train.images.double(), validation.images.double()
    history = fit(model, train, validation, recipe, folder / variant, seed=3)
    record = {"history": [dataclasses.astuple(epoch) for epoch in history], "weights": model.state_dict()}
    torch.save(record, folder / f"{variant}-{process_group().rank}.pt")


def run_an_experiment(folder: Path) -> None:
    experiment = EXPERIMENTS["red-green"]
    training = dataclasses.replace(experiment.Config().training, epochs=1)
    run(experiment, experiment.Config(borders=("full",), seeds=1, training=training), folder / "run", progress=False)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined():
        for variant in sys.argv[2:]:
            if variant == "experiment":
                run_an_experiment(Path(sys.argv[1]))
            else:
                train(Path(sys.argv[1]), variant)
    threads = [name.read_text().strip() for name in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in threads if "gloo" in name], threads
