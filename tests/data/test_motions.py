"""Generated clips: what a motion is, and that the seed draws them."""

import numpy as np
import torch

from borderless.data.choices import MOTIONS
from borderless.data.motions import MEAN_GROUND, Generated, generated


def center(frames: torch.Tensor) -> torch.Tensor:
    """(row, column) of the bright part of each frame, in pixels: (frames, 2)."""
    light = (frames.max(0).values - frames.max(0).values.median()).clamp(min=0.1) - 0.1
    places = torch.arange(light.shape[1], dtype=torch.float32)
    total = light.sum((1, 2)).clamp(min=1e-6)
    return torch.stack([(light.sum(2) @ places) / total, (light.sum(1) @ places) / total], 1)


def test_a_motion_is_what_its_name_says() -> None:
    data = Generated(160, seed=0, frames=8, size_px=48)
    moved = {name: [] for name in MOTIONS}
    for index in range(len(data)):
        clip, label = data[index]
        assert clip.shape == (3, 8, 48, 48) and label == index % 8
        at = center(clip + MEAN_GROUND)
        moved[MOTIONS[label]].append((at[-1] - at[0]).tolist())
    median = {name: np.median(steps, axis=0) for name, steps in moved.items()}
    assert median["left"][1] < -4 and median["right"][1] > 4 and median["up"][0] < -4 and median["down"][0] > 4
    for name in ("clockwise", "counterclockwise", "growing", "shrinking"):
        assert np.abs(median[name]).max() < 2


def turned(clip: torch.Tensor) -> float:
    """How far the patch turned, by the long axis of what is lit: in radians, clockwise positive (rows go down)."""
    light = clip.max(0).values
    light = (light - light.flatten(1).median(1).values[:, None, None] > 0.15).float()
    rows, columns = (torch.arange(n, dtype=torch.float32) for n in light.shape[1:])
    total, axes = light.sum((1, 2)), []
    for t in range(len(light)):
        y = rows[:, None] - (light[t].sum(1) @ rows) / total[t]
        x = columns - (light[t].sum(0) @ columns) / total[t]
        axes.append(0.5 * torch.atan2((2 * light[t] * x * y).sum(), (light[t] * (x**2 - y**2)).sum()).item())
    half = np.pi / 2
    return float(((np.diff(axes) + half) % np.pi - half).sum())  # an axis has no sign, and turns little in a frame


def test_what_turns_turns_and_what_grows_grows() -> None:
    data = Generated(400, seed=0, frames=8, size_px=48)
    measured = {name: ([], []) for name in MOTIONS}
    for index in range(len(data)):
        clip, label = data[index]
        area = [(clip[:, t].max(0).values > clip[:, t].max(0).values.median() + 0.15).sum().item() for t in (0, -1)]
        measured[MOTIONS[label]][0].append(turned(clip))
        measured[MOTIONS[label]][1].append(area[1] > area[0])
    turn = {name: float(np.median(turns)) for name, (turns, _) in measured.items()}
    grown = {name: float(np.mean(areas)) for name, (_, areas) in measured.items()}
    assert turn.pop("clockwise") > 0.5 and turn.pop("counterclockwise") < -0.5
    assert max(abs(value) for value in turn.values()) < 0.3, turn
    assert grown["growing"] > 0.8 and grown["shrinking"] < 0.2


def test_the_seed_draws_the_clips() -> None:
    split, again = generated(16, 8, seed=1), generated(16, 8, seed=1)
    assert len(split.train) == 16 and split.classes == MOTIONS
    assert torch.equal(split.train[3][0], again.train[3][0])
    assert not torch.equal(split.train[3][0], split.test[3][0])
