"""`reach` and `background`, and options that would have no effect."""

import pytest
import torch
from torch import Tensor, nn

import borderless as bl
from support.networks import relative_change, residual

REFUSED = (ValueError, TypeError)


class Note(nn.Module):
    """Passes its input on and writes down where the window of it lies."""

    def __init__(self, seen: list):
        super().__init__()
        self.seen = seen

    def forward(self, maps: Tensor) -> Tensor:
        self.seen.append((tuple(maps.start), tuple(maps.window.shape[2:]), tuple(maps.frame)))
        return maps


def layers(seen: list) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 5, padding=2),
            Note(seen),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
            Note(seen),
            nn.Conv2d(4, 4, 11, padding=5),
            Note(seen),
        )
    return model.double()


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def windows(border: str, **options: object) -> tuple[list, bl.Signal]:
    seen: list = []
    model = layers(seen)
    bl.convert_(model, border, output="signal", **options)  # in place: a copy would write into a copy of the list
    with torch.inference_mode():
        return seen, model(noise(1, 3, 11, 14))


@pytest.mark.parametrize("reach", [0, 1, 2, 4])
@pytest.mark.parametrize("border", ["full", "infinite"])
def test_no_window_leaves_the_frame_by_more_than_reach(border: str, reach: int) -> None:
    seen, _ = windows(border, reach=reach)
    free, _ = windows(border)
    assert len(seen) == 3
    for (start, size, frame), (free_start, free_size, free_frame) in zip(seen, free, strict=True):
        assert frame == free_frame
        for axis in range(2):
            assert start[axis] >= -reach
            assert start[axis] + size[axis] <= frame[axis] + reach
        if all(
            -begin <= reach and begin + length - n <= reach
            for begin, length, n in zip(free_start, free_size, frame, strict=True)
        ):
            assert (start, size) == (free_start, free_size), "a window within reach is not cut"
    assert any(-start[0] > reach for start, _, _ in free), "no power: nothing to cut"


@pytest.mark.parametrize("border", ["full", "infinite"])
def test_a_large_reach_is_no_limit(border: str) -> None:
    seen, signal = windows(border, reach=1000)
    free, unlimited = windows(border)
    assert seen == free
    assert torch.equal(signal.window, unlimited.window)


@pytest.mark.parametrize("border", ["full", "infinite"])
def test_reach_cuts_a_single_layers_window_and_changes_nothing_else(border: str) -> None:
    conv = nn.Conv2d(3, 4, 7, padding=3, dtype=torch.float64)
    with torch.inference_mode():
        free, cut = (bl.convert(conv, border, reach=reach, output="signal")(noise(1, 3, 9, 9)) for reach in (None, 2))
    assert tuple(free.start) == (-3, -3) and tuple(cut.start) == (-2, -2)
    assert cut.window.shape == (1, 4, 13, 13)
    assert (cut.window - free.window[..., 1:-1, 1:-1]).abs().max() <= 1e-12


def test_reach_trades_exactness_for_cost() -> None:
    model = residual().double()
    images = noise(1, 3, 16, 16)
    with torch.inference_mode():
        exact = bl.convert(model, "infinite")(images)
        errors = [relative_change(exact, bl.convert(model, "infinite", reach=reach)(images)) for reach in (0, 100)]
    assert errors[0] > 1e-6
    assert errors[1] == 0


@pytest.mark.parametrize("border", ["valid", "zero", "reflect", "replicate", "circular"])
def test_reach_without_effect_is_refused(border: str) -> None:
    with pytest.raises(REFUSED, match=f"(?is)(?=.*reach)(?=.*{border})"):
        bl.convert(nn.Conv2d(3, 4, 3, padding=1), border, reach=2)


@pytest.mark.parametrize("border", ["valid", "zero", "reflect", "replicate", "circular", "full"])
def test_background_without_effect_is_refused(border: str) -> None:
    with pytest.raises(REFUSED, match=f"(?is)(?=.*background)(?=.*{border})"):
        bl.convert(nn.Conv2d(3, 4, 3, padding=1), border, background=0.5)


@pytest.mark.parametrize("reach", [-1, 1.5, "2"])
def test_a_reach_that_is_no_number_of_cells_is_refused(reach: object) -> None:
    with pytest.raises(REFUSED, match=r"(?is)reach.*(-1|1\.5|2)"):
        bl.convert(nn.Conv2d(3, 4, 3, padding=1), "infinite", reach=reach)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"border": "infinit"}, ["infinit", "infinite", "circular", "valid"]),
        ({"border": "infinite", "phase": "adaptative"}, ["adaptative", "adaptive", "fixed"]),
        ({"border": "infinite", "output": "window"}, ["window", "frame", "signal"]),
    ],
    ids=["border", "phase", "output"],
)
def test_a_word_that_is_none_of_the_choices_is_refused_with_the_choices(options: dict, words: list[str]) -> None:
    with pytest.raises(REFUSED) as caught:
        bl.convert(nn.Conv2d(3, 4, 3), **options)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("color", [(0.1, 0.2), (0.1, 0.2, 0.3, 0.4)], ids=["two numbers", "four numbers"])
def test_a_color_of_the_wrong_length_is_refused(color: tuple[float, ...]) -> None:
    model = nn.Conv2d(3, 4, 3, padding=1, dtype=torch.float64)
    with pytest.raises(REFUSED, match=rf"(?is)(?=.*background)(?=.*{len(color)})(?=.*3)"):
        bl.convert(model, "infinite", background=color)(noise(1, 3, 9, 9))


@pytest.mark.parametrize("phase", ["fixed", "adaptive"])
def test_an_object_on_its_own_background_color_is_seen_the_same_everywhere(phase: str) -> None:
    color = (0.4, -0.3, 1.1)
    model = residual().double()
    canvas = torch.tensor(color, dtype=torch.float64).view(1, 3, 1, 1).repeat(2, 1, 40, 40)
    thing = noise(1, 3, 9, 9)[0]
    for image, (row, column) in zip(
        canvas, [(0, 4), (16, 28)] if phase == "fixed" else [(0, 4), (17, 31)], strict=True
    ):
        image[:, row : row + 9, column : column + 9] = thing
    with torch.inference_mode():
        right = bl.convert(model, "infinite", phase=phase, background=color)(canvas)
        wrong = bl.convert(model, "infinite", phase=phase)(canvas)
    assert relative_change(right[:1], right[1:]) <= 1e-12
    assert relative_change(wrong[:1], wrong[1:]) > 1e-4, "no power: the color makes no difference"


def test_full_leaves_the_edge_visible_once_there_is_a_bias() -> None:
    """Why `infinite`: after a bias the empty part of a map is not 0, and padding with 0 shows the edge again."""
    model = residual().double()
    thing = noise(1, 3, 9, 9)[0]
    images = torch.zeros(2, 3, 40, 40, dtype=torch.float64)
    images[0, :, :9, :9] = thing
    images[1, :, 16:25, 16:25] = thing
    with torch.inference_mode():
        full, infinite = (bl.convert(model, border)(images) for border in ("full", "infinite"))
    assert relative_change(full[:1], full[1:]) > 1e-4
    assert relative_change(infinite[:1], infinite[1:]) <= 1e-12
