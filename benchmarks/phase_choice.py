"""How should an adaptive phase be chosen: by energy, by energy with ties decided by the centroid, or by the centroid?

    python benchmarks/phase_choice.py exact | kept | elsewhere | crops | trained

Each part compares the choices, one line each; the record goes to --out.

exact: the largest relative change of the logits when awkward objects (uniform, symmetric, periodic, mirrored, a single
pixel, noise) move by arbitrary shifts on an empty canvas, float32 and bfloat16.
kept: photographs of objects on an empty canvas, disturbed by JPEG or noise: the share whose phases, at all strides
together, stay the same.
elsewhere: crops of photographs in which a patch of 1/256 of the area changes in a corner: the share whose first phase,
at a stride of 2, stays the same.
crops: pairs of 224 px crops of photographs, offsets in [0, 32), as Zhang (2019) measures consistency, by the packaged
ImageNet network (extra `demo`): the share of pairs with equal top-1, and of crops with the unmodified network's label.
trained: the accuracy of `borderless run one-place` with an adaptive phase, whose training chooses phases too.
"""

import argparse
import io
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

import borderless as bl
import record
from borderless.engine import lattice
from borderless.models.packaged import load_packaged, normalize

CROP_PX, RESIZED_PX, OFFSETS_PX = 224, 256, 32
PHOTOGRAPHS = ("astronaut", "cat", "coffee", "rocket", "chelsea", "hubble_deep_field", "immunohistochemistry")
Choice = Callable[[Tensor, tuple[int, ...], tuple[int, ...], tuple[int, ...]], Tensor]


def by_energy(deviation: Tensor, axes: Any, start: tuple[int, ...], factor: tuple[int, ...]) -> Tensor:
    """The class with the most energy; of equal ones the first in row-major order."""
    index = _energy(deviation, axes, start, factor).flatten(1).argmax(1)
    return torch.stack(torch.unravel_index(index, factor), 1)


def by_centroid(deviation: Tensor, axes: Any, start: tuple[int, ...], factor: tuple[int, ...]) -> Tensor:
    """The class that follows the centroid of the energy: all classes are tied."""
    with _swapped("TIE", 1.0):
        return by_energy_then_centroid(deviation, axes, start, factor)


by_energy_then_centroid = lattice.choose_phase
CHOICES: dict[str, Choice] = {
    "energy": by_energy,
    "energy, ties by the centroid": by_energy_then_centroid,
    "centroid": by_centroid,
}


def _energy(deviation: Tensor, axes: Any, start: tuple[int, ...], factor: tuple[int, ...]) -> Tensor:
    inner = tuple(i for i in range(1, deviation.ndim) if i not in axes)
    dtype = torch.float32 if deviation.dtype in (torch.float16, torch.bfloat16) else deviation.dtype
    energy = torch.linalg.vector_norm(deviation, dim=inner, dtype=dtype).square()
    return lattice._energy_by_class(energy, start, factor)


@contextmanager
def _swapped(name: str, value: Any) -> Iterator[None]:
    before = getattr(lattice, name)
    setattr(lattice, name, value)
    try:
        yield
    finally:
        setattr(lattice, name, before)


def chosen_by(choice: Choice) -> Any:
    """For the length of a with-block every adaptive phase is chosen by `choice`."""
    return _swapped("choose_phase", choice)


def awkward_objects() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    radius = ((rows - 23.5) ** 2 + (columns - 23.5) ** 2).sqrt()
    half = torch.randn(48, 24, generator=generator)
    return {
        "square 48": torch.ones(48, 48),
        "square 64": torch.ones(64, 64),
        "disc": (radius < 22).float(),
        "ring": ((radius < 22) & (radius > 12)).float(),
        "stripes": (columns // 4 % 2).float(),
        "checkerboard": ((rows // 6 + columns // 6) % 2).float(),
        "mirrored": torch.cat([half, half.flip(1)], 1),
        "pixel": torch.ones(1, 1),
        "noise": torch.randn(48, 48, generator=generator),
    }


def exact(_: argparse.Namespace) -> Iterator[dict[str, Any]]:
    things = awkward_objects()
    shifts = ((0, 0), (0, 1), (3, 5), (10, 13), (20, 17))
    networks: dict[str, nn.Module] = {
        "resnet18": torchvision.models.resnet18(num_classes=10),
        "convnext_atto": timm.create_model("convnext_atto", num_classes=10),
        "test_resnet": timm.create_model("test_resnet", num_classes=10),
    }
    for network, model in networks.items():
        # float64 is in tests/engine/test_phase.py; bfloat16 is slow on most CPUs.
        for dtype in (torch.float32, torch.bfloat16) if network == "test_resnet" else (torch.float32,):
            converted = bl.convert(model.eval(), "infinite", phase="adaptive").to(dtype)
            for name, choice in CHOICES.items():
                found = []
                with chosen_by(choice):
                    for dy, dx in shifts:
                        canvas = torch.zeros(len(things), 3, 96, 96, dtype=dtype)
                        for image, thing in zip(canvas, things.values(), strict=True):
                            image[:, 5 + dy : 5 + dy + len(thing), 3 + dx : 3 + dx + len(thing)] = thing
                        found.append(converted(canvas).double())
                change = torch.stack([(f - found[0]).abs().amax(1) for f in found[1:]]).amax(0)
                change = change / found[0].abs().amax(1)
                worst = dict(zip(things, change.tolist(), strict=True))
                yield {
                    "network": network,
                    "type": str(dtype)[6:],
                    "choice": name,
                    "largest": max(worst.values()),
                    "each": worst,
                }


def photographs() -> list[Tensor]:
    """[3, 256, width] in [0, 1], the shorter side at 256 px or the next that holds all offsets."""
    import skimage.data
    import skimage.transform

    found = []
    for name in PHOTOGRAPHS:
        try:
            pixels = getattr(skimage.data, name)()
        except (AttributeError, ModuleNotFoundError, OSError):
            continue  # not carried by this version of scikit-image
        scale = RESIZED_PX / min(pixels.shape[:2])
        size = [max(RESIZED_PX, round(side * scale)) for side in pixels.shape[:2]]
        resized = skimage.transform.resize(pixels, size, anti_aliasing=True)
        found.append(torch.from_numpy(np.asarray(resized, np.float32)).permute(2, 0, 1))
    return found


def jpeg(image: Tensor, quality: int) -> Tensor:
    file = io.BytesIO()
    Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.asarray(Image.open(file), np.float32) / 255).permute(2, 0, 1)


def kept(config: argparse.Namespace) -> Iterator[dict[str, Any]]:
    generator = torch.Generator().manual_seed(config.seed)
    cutouts = []
    for i, photo in zip(range(config.objects), photographs() * config.objects, strict=False):
        row, column = (int(torch.randint(side - 96 + 1, (), generator=generator)) for side in photo.shape[1:])
        del i
        cutouts.append(photo[:, row : row + 96, column : column + 96])
    disturbed: dict[str, Callable[[Tensor], Tensor]] = {
        "JPEG 95": lambda cells: jpeg(cells, 95),
        "JPEG 75": lambda cells: jpeg(cells, 75),
        "noise 1/255": lambda cells: cells + torch.randn(cells.shape, generator=generator) / 255,
        "noise 8/255": lambda cells: cells + torch.randn(cells.shape, generator=generator) * 8 / 255,
    }
    model = bl.convert(load_packaged(), "infinite", phase="adaptive")
    for name, choice in CHOICES.items():
        phases: list[Tensor] = []

        def spy(*arguments: Any, choice: Choice = choice, phases: list[Tensor] = phases) -> Tensor:
            phases.append(choice(*arguments))
            return phases[-1]

        def of(cells: list[Tensor], phases: list[Tensor] = phases) -> Tensor:
            """(images, strides, 2): the phases that a pass chooses."""
            canvas = torch.zeros(len(cells), 3, 128, 128)
            canvas[:, :, 16:112, 16:112] = normalize(torch.stack(cells))
            phases.clear()
            model(canvas)
            return torch.stack(phases, 1)

        with chosen_by(spy):
            clean = of(cutouts)
            for kind, disturb in disturbed.items():
                same = (of([disturb(cells) for cells in cutouts]) == clean).all(2)
                yield {
                    "choice": name,
                    "disturbance": kind,
                    "first stride kept": float(same[:, 0].float().mean()),
                    "all kept": float(same.all(1).float().mean()),
                }


def elsewhere(config: argparse.Namespace) -> Iterator[dict[str, Any]]:
    generator = torch.Generator().manual_seed(config.seed)
    photos = photographs()
    for side in (96, 192, 256):
        before = []
        for i in range(2 * config.objects):
            photo = photos[i % len(photos)]
            row, column = (int(torch.randint(n - side + 1, (), generator=generator)) for n in photo.shape[1:])
            before.append(photo[:, row : row + side, column : column + side])
        images = torch.stack(before)
        changed = images.clone()
        corner = side // 16
        changed[..., :corner, :corner] = torch.rand(len(images), 3, 1, 1, generator=generator)
        for name, choice in CHOICES.items():
            here, there = (choice(normalize(pixels), (2, 3), (0, 0), (2, 2)) for pixels in (images, changed))
            yield {"choice": name, "side": side, "kept": float((here == there).all(1).float().mean())}


def pairs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two crops of `count` photographs, taken in turn at random places: [count, 3, 224, 224] each."""
    generator = torch.Generator().manual_seed(seed)
    photos, crops = photographs(), ([], [])
    for i in range(count):
        photo = photos[i % len(photos)]
        slack = [side - CROP_PX - OFFSETS_PX + 1 for side in photo.shape[1:]]
        corner = [int(torch.randint(max(1, room), (), generator=generator)) for room in slack]
        for side in crops:
            row, column = (start + int(torch.randint(OFFSETS_PX, (), generator=generator)) for start in corner)
            side.append(photo[:, row : row + CROP_PX, column : column + CROP_PX])
    return torch.stack(crops[0]), torch.stack(crops[1])


def interval(same: Tensor, seed: int) -> tuple[float, float]:
    """95 %, bootstrap over pairs."""
    drawn = torch.randint(len(same), (2000, len(same)), generator=torch.Generator().manual_seed(seed))
    low, high = torch.quantile(same.float()[drawn].mean(1), torch.tensor([0.025, 0.975]))
    return float(low), float(high)


def crops(config: argparse.Namespace) -> Iterator[dict[str, Any]]:
    own = load_packaged()
    first, second = pairs(config.pairs, config.seed)

    def labels(model: nn.Module, images: Tensor) -> Tensor:
        return torch.cat([model(normalize(part)) for part in images.split(8)]).argmax(1)

    unmodified = labels(own, first)
    arms: dict[str, tuple[nn.Module, Choice]] = {
        "original padding": (own, by_energy),
        "infinite, fixed": (bl.convert(own, "infinite"), by_energy),
    }
    for reach in (None, 1):
        model = bl.convert(own, bl.Border("infinite", "adaptive", reach=reach))
        arms |= {f"infinite, reach {reach}, {name}": (model, choice) for name, choice in CHOICES.items()}
    for arm, (model, choice) in arms.items():
        with chosen_by(choice):
            here, there = labels(model, first), labels(model, second)
        low, high = interval(here == there, config.seed)
        yield {
            "arm": arm,
            "same top-1": float((here == there).float().mean()),
            "interval": [low, high],
            "the unmodified network's label": float((here == unmodified).float().mean()),
        }


def trained(config: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from borderless.experiments.experiment import Cell
    from borderless.experiments.one_place import OnePlaceConfig
    from borderless.experiments.one_place.experiment import run_cell

    for name, choice in CHOICES.items():
        found = []
        for seed in range(config.seeds):
            cell = Cell(f"infinite-adaptive-seed{seed}", {"arm": "infinite-adaptive", "seed": seed})
            with chosen_by(choice), tempfile.TemporaryDirectory() as folder, torch.enable_grad():
                found.append(run_cell(OnePlaceConfig(), cell, Path(folder)))
        yield {"choice": name, **{key: [m[key] for m in found] for key in ("accuracy_mean", "changed_predictions")}}


PARTS = {part.__name__: part for part in (exact, kept, elsewhere, crops, trained)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--pairs", type=int, default=150, help="pairs of crops")
    parser.add_argument("--objects", type=int, default=60, help="cutouts that are disturbed")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each choice")
    parser.add_argument("--seed", type=int, default=0, help="of the crops, cutouts and noise")
    record.add_options(parser, "phase_choice")
    config = parser.parse_args()
    rows = []
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", bl.RoundingWarning)
        for row in PARTS[config.part](config):
            rows.append(row)
            print({key: value for key, value in row.items() if key != "each"}, flush=True)
    print(f"The record is in {record.save('phase_choice', config, rows)}")


if __name__ == "__main__":
    main()
