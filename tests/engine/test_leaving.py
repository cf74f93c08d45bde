"""Where maps end: heads that flatten at the end run, what mixes cells afterwards is named or refused."""

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import borderless as bl
from borderless.engine.leaving import LeftCells
from support.bodies import noise

PADDING_PX = 96


class Head(nn.Module):
    """`convolve` makes maps of maps of strides 4 and 8, `decode` flattens them."""

    def forward(self, maps: list[Tensor]) -> Any:
        return self.decode(self.convolve(maps))

    def convolve(self, maps: list[Tensor]) -> list[Tensor]:
        return maps

    def decode(self, maps: list[Tensor]) -> Any:
        raise NotImplementedError


class BinHead(Head):
    """Boxes as expected values over 4 bins a side, on anchors: flattened by view, joined over levels."""

    def __init__(self) -> None:
        super().__init__()
        self.sides, self.classes, self.bins = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 5, 1), nn.Conv2d(4, 1, 1)

    def convolve(self, maps: list[Tensor]) -> list[Tensor]:
        return [torch.cat([self.sides(m), self.classes(m)], 1) for m in maps]

    def decode(self, maps: list[Tensor]) -> Tensor:
        sides, classes = torch.cat([m.view(m.shape[0], 21, -1) for m in maps], 2).split((16, 5), 1)
        count = sides.shape[-1]
        expected = self.bins(sides.view(-1, 4, 4, count).transpose(2, 1).softmax(1)).view(-1, 4, count)
        grids = [torch.cartesian_prod(*(torch.arange(n, dtype=sides.dtype) for n in m.shape[2:])).T for m in maps]
        anchors = torch.cat(grids, 1) + 0.5
        first, last = expected.chunk(2, 1)
        return torch.cat([anchors - first, anchors + last, classes.sigmoid()], 1)


class AnchorHead(Head):
    """Three anchors a cell: (N, A·K, H, W) as (N, H·W·A, K), then the best scores."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3 * 7, 3, padding=1))

    def convolve(self, maps: list[Tensor]) -> list[Tensor]:
        return [self.tower(m) for m in maps]

    def decode(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        cells = torch.cat([m.permute(0, 2, 3, 1).reshape(len(m), -1, 7) for m in maps], 1)
        scores, order = cells[..., 4:].sigmoid().flatten(1).topk(6, dim=1)
        return scores, cells[..., :4].gather(1, (order // 3)[..., None].expand(-1, -1, 4))


class SplitAnchorHead(AnchorHead):
    """The same by view, permute and view."""

    def decode(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        split = [m.view(len(m), 3, 7, *m.shape[2:]).permute(0, 1, 3, 4, 2).contiguous() for m in maps]
        cells = torch.cat([m.sigmoid().view(len(m), -1, 7) for m in split], 1)
        cells[..., :2] = cells[..., :2] * 2 - 0.5
        return tuple(cells.max(-1))


class HeatMaps(Head):
    """The largest value of each heat map and where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.heat = nn.Conv2d(16, 4, 3, padding=1)

    def convolve(self, maps: list[Tensor]) -> list[Tensor]:
        return [self.heat(m) for m in maps]

    def decode(self, maps: list[Tensor]) -> Tensor:
        found = []
        for heat in maps:
            score, place = heat.view(heat.shape[0], 4, -1).max(-1)
            found += [score, place // heat.shape[3], place % heat.shape[3]]
        return torch.stack(found, -1)


class Codebook(Head):
    """The nearest of 9 codes for each cell."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Embedding(9, 16)

    def decode(self, maps: list[Tensor]) -> Tensor:
        last = maps[1].permute(0, 2, 3, 1)
        cells, codes = last.reshape(-1, 16), self.codes.weight
        distance = (cells**2).sum(1, keepdim=True) + (codes**2).sum(1) - 2 * cells @ codes.t()
        return self.codes(distance.argmin(1)).view(last.shape).permute(0, 3, 1, 2)


HEADS = {
    "bins": BinHead,
    "anchors": AnchorHead,
    "split anchors": SplitAnchorHead,
    "heat maps": HeatMaps,
    "codebook": Codebook,
}
LEAVES_BY = {
    "bins": "torch.Tensor.view",
    "anchors": "torch.Tensor.reshape",
    "split anchors": "torch.Tensor.view",
    "heat maps": "torch.Tensor.view",
    "codebook": "torch.Tensor.reshape",
}


class Detector(nn.Module):
    def __init__(self, head: Head) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 16, 3, 2, 1))
        self.deep = nn.Sequential(nn.SiLU(), nn.Conv2d(16, 16, 3, 2, 1), nn.SiLU())
        self.head = head

    def maps(self, images: Tensor) -> list[Tensor]:
        fine = self.stem(images)
        return [fine, self.deep(fine)]

    def forward(self, images: Tensor) -> Any:
        return self.head(self.maps(images))


@pytest.fixture(params=HEADS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def detector(name: str) -> Detector:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Detector(HEADS[name]()).double().eval()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
    return model


def on_the_endless_plane(model: Detector, images: Tensor) -> Any:
    """What the unmodified model decodes of the frame's cells of maps on a hugely padded image.

    A maximum over all of space is that of all cells, and only where it is that of the frame.
    """
    height, width = images.shape[2:]
    cropped, largest = [], []
    for maps, stride in zip(model.head.convolve(model.maps(F.pad(images, [PADDING_PX] * 4))), (4, 8), strict=True):
        at = PADDING_PX // stride
        cropped.append(maps[:, :, at : at + height // stride, at : at + width // stride].contiguous())
        largest.append(maps[:, :, at // 2 : -at // 2, at // 2 : -at // 2].amax((2, 3)))
    decoded = model.head.decode(cropped)
    if isinstance(model.head, HeatMaps):
        decoded[..., ::3] = torch.stack(largest, -1)
    return decoded


def assert_equal_parts(got: Any, expected: Any, tolerance: float) -> None:
    got, expected = ([o] if isinstance(o, Tensor) else list(o) for o in (got, expected))
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        assert type(ours) is Tensor
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_heads_are_the_unmodified_models_under_zero(name: str) -> None:
    model, images = detector(name), noise(2, 3, 32, 48)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_equal_parts(bl.convert(model, "zero", strict=True)(images), model(images), 0)


def test_heads_get_the_frame_of_the_endless_plane(name: str) -> None:
    model, images = detector(name), noise(2, 3, 32, 48)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        got = bl.convert(model, "infinite", strict=True)(images)
    expected = on_the_endless_plane(model, images)
    assert_equal_parts(got, expected, 1e-12)
    assert not torch.equal(got if isinstance(got, Tensor) else got[0], model(images)[0]), "the border is in use"


def test_heads_are_trained(name: str) -> None:
    model = bl.convert(detector(name), "infinite").train()
    output = model(noise(2, 3, 32, 48))
    (output if isinstance(output, Tensor) else output[0]).sum().backward()
    is_chosen = name == "codebook"  # the choice has no gradients, the codes have
    assert (model.stem[0].weight.grad is None) == is_chosen
    assert is_chosen or model.stem[0].weight.grad.abs().sum() > 0


def test_explain_tells_where_a_map_leaves(name: str) -> None:
    found = bl.explain(detector(name), (32, 48))
    frames = [left.frame for left in found.departures]
    assert frames == ([(4, 6)] if name == "codebook" else [(8, 12), (4, 6)])
    assert {left.operation for left in found.departures} == {LEAVES_BY[name]}
    assert {left.module for left in found.departures} == {"head"}
    assert found.position_reads == ()
    assert f"leaves          head: {LEAVES_BY[name]}: the map of 4×6 cells, cropped to its frame" in str(found)
    assert str(found.departures[-1].shape) in str(found)


def test_a_detector_moves_with_its_object() -> None:
    model = bl.convert(detector("heat maps"), "infinite", phase="adaptive")
    canvas = torch.zeros(2, 3, 48, 64, dtype=torch.float64)
    canvas[0, :, 12:28, 20:36] = canvas[1, :, 20:36, 28:44] = noise(3, 16, 16)
    with torch.no_grad():
        first, second = model(canvas)
    torch.testing.assert_close(second[:, ::3], first[:, ::3], rtol=1e-12, atol=1e-12)  # scores
    assert torch.equal(second[:, 1:3] - first[:, 1:3], torch.full((4, 2), 2.0, dtype=torch.float64))
    assert torch.equal(second[:, 4:] - first[:, 4:], torch.full((4, 2), 1.0, dtype=torch.float64))


def test_placements_are_not_taken_for_alike() -> None:
    model = detector("heat maps")
    patch, positions = noise(1, 3, 8, 8), [(8, 8), (8, 16), (16, 24)]
    for border in ("zero", "infinite"):
        converted = bl.convert(model, border)
        canvases = torch.zeros(3, 3, 48, 48, dtype=torch.float64)
        for canvas, (row, column) in zip(canvases, positions, strict=True):
            canvas[:, row : row + 8, column : column + 8] = patch[0]
        got = bl.place(converted, patch, positions, canvas=(48, 48))
        with torch.no_grad():
            torch.testing.assert_close(got[:, 0], converted(canvases), rtol=1e-12, atol=1e-12)


def test_a_head_is_frozen() -> None:
    model, images = bl.convert(detector("anchors"), "infinite"), noise(2, 3, 32, 48)
    with torch.no_grad():
        assert_equal_parts(bl.freeze(model, images).module()(images), model(images), 1e-12)


def test_what_is_refused_is_not_frozen() -> None:
    model = after_a_convolution(lambda y: F.scaled_dot_product_attention(*[sequence(y)] * 3))
    with pytest.raises(bl.UnsupportedOperation, match="attention over cells"):
        bl.freeze(bl.convert(model, "infinite"), noise(1, 3, 6, 8))


def test_valid_needs_the_frame() -> None:
    with pytest.raises(bl.ImageError, match="under the border 'valid' nothing is known outside"):
        bl.convert(detector("anchors"), "valid")(noise(1, 3, 64, 64))


# What comes after


class Act(nn.Module):
    def __init__(self, call: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.call, self.parts = call, nn.ModuleList(parts)

    def forward(self, maps: Tensor) -> Any:
        return self.call(maps, *self.parts)


def after_a_convolution(call: Callable[..., Any], *parts: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), Act(call, *parts)).double().eval()


def sequence(maps: Tensor) -> Tensor:
    return maps.view(len(maps), 4, -1).transpose(1, 2)


def joined(maps: Tensor) -> Tensor:
    """The cells as in a detector, which joins them over its levels: they are a map no more."""
    cells = sequence(maps)
    return torch.cat([cells, cells * 2], 1)[:, : cells.shape[1]]


REFUSED: dict[str, tuple[Any, str]] = {
    "scores": ((lambda y: (sequence(y) @ sequence(y).mT).softmax(-1) @ sequence(y),), "multiplies cells with each"),
    "einsum": ((lambda y: torch.einsum("nic,njc->nij", sequence(y), sequence(y)),), "multiplies cells with each"),
    "places and cells": ((lambda y: sequence(y).mT @ joined(y),), "multiplies cells with each other"),
    "scaled_dot_product_attention": (
        (lambda y: F.scaled_dot_product_attention(*[sequence(y)] * 3),),
        "it is attention over cells",
    ),
    "MultiheadAttention": (
        (lambda y, part: part(*[sequence(y)] * 3)[0], nn.MultiheadAttention(4, 2, batch_first=True)),
        "it is attention over cells",
    ),
    "an encoder": (
        (lambda y, part: part(sequence(y)), nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)),
        "it is attention over cells",
    ),
    "LSTM": ((lambda y, part: part(sequence(y))[0], nn.LSTM(4, 4, batch_first=True)), "it runs along cells"),
    "Fourier transform": ((lambda y: torch.fft.rfft(y.view(1, 4, -1)).abs(),), "it runs along cells"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_attention_and_recurrence_over_cells_are_refused_by_name(case: Any) -> None:
    (call, *parts), reason = case
    model, images = after_a_convolution(call, *parts), noise(1, 3, 6, 8)
    for border in ("zero", "infinite"):
        with pytest.raises(bl.UnsupportedOperation) as caught:
            bl.convert(model, border)(images)
        text = str(caught.value)
        assert reason in text and "in module '1" in text
        assert "cells of a map: torch.Tensor.view in module '1' (Act)" in text
        assert f"bl.Border({border!r}, at='boundary')" in text


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_at_the_boundary_they_run_and_are_named(case: Any) -> None:
    (call, *parts), reason = case
    model, images = after_a_convolution(call, *parts), noise(1, 3, 6, 8)
    with pytest.warns(bl.PositionDependentWarning, match=reason), torch.no_grad():
        got = bl.convert(model, bl.Border("zero", at="boundary"))(images)
    torch.testing.assert_close(got, model(images))
    border = bl.Border("infinite", at="boundary")
    first = bl.convert(model[0], "infinite")
    with pytest.warns(bl.PositionDependentWarning, match=reason), torch.no_grad():
        torch.testing.assert_close(bl.convert(model, border)(images), model[1](first(images).contiguous()))
    assert reason in bl.explain(model, (6, 8), border).position_reads[0].reason
    with pytest.raises(bl.PositionDependentError, match=reason):
        bl.convert(model, border, strict=True)(images)


@pytest.mark.parametrize("border", ["zero", "infinite"])
def test_what_has_no_rule_runs_at_the_boundary(border: str) -> None:
    model = after_a_convolution(lambda y, part: part(y.mean(2).transpose(1, 2))[0], nn.LSTM(4, 4, batch_first=True))
    images = noise(1, 3, 6, 8)
    with pytest.raises(
        bl.UnsupportedOperation, match=r"torch\.lstm in module '1\.parts\.0' \(LSTM\).* with a state.*at='boundary'"
    ):
        bl.convert(model, bl.Border(border))(images)
    converted = bl.convert(model, bl.Border(border, at="boundary"))
    with pytest.warns(bl.PositionDependentWarning, match=r"torch\.lstm in .*at='boundary' runs it"):
        assert converted(images).shape == (1, 8, 4)
    if border == "zero":
        with pytest.warns(bl.PositionDependentWarning):
            torch.testing.assert_close(bl.convert(converted, bl.Border("zero", at="boundary"))(images), model(images))


def test_place_runs_what_is_at_the_boundary() -> None:
    model = after_a_convolution(lambda y, part: part(sequence(y))[0][:, -1], nn.LSTM(4, 4, batch_first=True))
    patch, positions = noise(1, 3, 3, 3), [(0, 0), (3, 5)]
    canvases = torch.zeros(2, 3, 8, 9, dtype=torch.float64)
    canvases[0, :, :3, :3] = canvases[1, :, 3:6, 5:8] = patch[0]
    for border in ("zero", "infinite"):
        converted = bl.convert(model, bl.Border(border, at="boundary"))
        with pytest.warns(bl.PositionDependentWarning), torch.no_grad():
            expected = converted(canvases)
        with pytest.warns(bl.PositionDependentWarning):
            got = bl.place(converted, patch, positions, canvas=(8, 9))
        torch.testing.assert_close(got[:, 0], expected, rtol=1e-12, atol=1e-12)


NAMED: dict[str, tuple[Any, str]] = {
    "soft-argmax": ((lambda y: (y.view(1, 4, -1).softmax(-1) * torch.arange(48.0)).sum(-1),), "takes the cells of a"),
    "mean": ((lambda y: joined(y).mean(1),), "takes the cells of a frame together"),
    "weights": ((lambda y, part: part(y.view(1, 4, -1)), nn.Linear(48, 3)), "has a weight for each cell"),
    "embedding": ((lambda y, part: sequence(y) + part.weight, nn.Embedding(48, 4)), "has a learned value for each"),
    "a convolution": (
        (lambda y, part: part(joined(y).relu().mT.reshape(1, 4, 6, 8)), nn.Conv2d(4, 4, 3, padding=1)),
        "reads several cells, with the model's original padding",
    ),
    "a convolution of channels in another order": (
        (
            lambda y, part: part(joined(y)[:, :, [1, 0, 3, 2]][..., torch.ones(4) > 0].mT.reshape(1, 4, 6, 8)),
            nn.Conv2d(4, 4, 3, padding=1),
        ),
        "reads several cells, with the model's original padding",
    ),
    "a convolution of codes": (
        (
            lambda y, codes, part: part(codes(sequence(y).argmax(-1)).view(1, 6, 8, 4).permute(0, 3, 1, 2)),
            nn.Embedding(9, 4),
            nn.Conv2d(4, 4, 3, padding=1),
        ),
        "reads several cells, with the model's original padding",
    ),
    "GroupNorm": ((lambda y, part: part(y.view(1, 4, -1)), nn.GroupNorm(2, 4)), "reads several cells"),
    "roll": ((lambda y: sequence(y).roll(1, 1),), "reads several cells"),
}


@pytest.mark.parametrize("case", NAMED.values(), ids=NAMED)
def test_what_mixes_cells_afterwards_is_named_once(case: Any) -> None:
    (call, *parts), reason = case
    model, images = after_a_convolution(call, *parts), noise(1, 3, 6, 8)
    with pytest.warns(bl.PositionDependentWarning) as caught, torch.no_grad():
        assert torch.equal(bl.convert(model, "zero")(images), model(images))
    assert len(caught) == 1 and reason in str(caught[0].message)
    assert "cells of a map: torch.Tensor.view in module '1' (Act)" in str(caught[0].message)
    with pytest.raises(bl.PositionDependentError, match=reason):
        bl.convert(model, "infinite", strict=True)(images)


def test_attention_after_it_was_named_is_still_refused() -> None:
    model = after_a_convolution(
        lambda y, code, part: part(*[sequence(y) + code.weight] * 3)[0],
        nn.Embedding(48, 4),
        nn.MultiheadAttention(4, 2, batch_first=True),
    )
    with (
        pytest.warns(bl.PositionDependentWarning, match="a learned value for each cell"),
        pytest.raises(bl.UnsupportedOperation, match="attention over cells"),
    ):
        bl.convert(model, "infinite")(noise(1, 3, 6, 8))


QUIET: dict[str, Any] = {
    "products with channels": (lambda y, part: part(sequence(y)), nn.Linear(4, 5)),
    "norm of channels": (lambda y, part: part(sequence(y)), nn.LayerNorm(4)),
    "mean of channels": (lambda y: sequence(y).mean(-1),),
    "a loss": (lambda y: F.mse_loss(sequence(y), sequence(y) * 2),),
    "a statistic of the batch": (lambda y: sequence(y).flatten(0, 1).mean(0),),
    "a mask": (lambda y: sequence(y)[sequence(y)[..., 0] > 0],),
    "sorted": (lambda y: sequence(y)[..., 0].sort(1, descending=True)[0],),
    "one sample after another": (lambda y: torch.stack([s.relu() for s in sequence(y)]),),
    "in place": (lambda y: sequence(y).contiguous().sigmoid_().mul_(2),),
    "einsum of channels": (lambda y: torch.einsum("nlc,nc->nl", sequence(y), torch.ones(1, 4, dtype=y.dtype)),),
    "attention over channels": (lambda y: F.scaled_dot_product_attention(*[sequence(y)[..., None]] * 3),),
}


@pytest.mark.parametrize("case", QUIET.values(), ids=QUIET)
def test_cells_by_themselves_are_not_named(case: Any) -> None:
    call, *parts = case
    model, images = after_a_convolution(call, *parts), noise(1, 3, 6, 8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(bl.convert(model, "zero", strict=True)(images), model(images))
        assert bl.convert(model, "infinite", strict=True)(images).shape == model(images).shape


def test_only_ordinary_tensors_leave_the_model() -> None:
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, images: Tensor) -> dict[str, Any]:
            tokens = self.conv(images).flatten(2)
            cells = tokens[..., torch.arange(24)]
            assert isinstance(cells, LeftCells) or not bl.border_of(self)
            self.kept, self.several, self.tokens = cells, [cells * 2], tokens
            return {"cells": cells, "tokens": tokens, "parts": cells.split(6, 2)}

    model = bl.convert(Keeping(), "infinite")
    output = model(noise(1, 3, 6, 8).float())
    tensors = [output["cells"], output["tokens"], *output["parts"], model.kept, *model.several, model.tokens]
    assert {type(tensor) for tensor in tensors} == {Tensor}
    assert torch.equal(torch.cat(output["parts"], 2), model.kept)
    pickle.loads(pickle.dumps(output))


@pytest.mark.parametrize("strict", [False, True])
def test_one_cell_has_no_position_under_the_original_padding(strict: bool) -> None:
    calls: list[Any] = [
        lambda y: y.flatten(1),
        lambda y: y.view(2, 4, -1).mT,
        lambda y: F.layer_norm(y, (4, 1, 1)),
        lambda y: F.adaptive_avg_pool2d(y, (2, 3)),
        lambda y: F.interpolate(y, (3, 3), mode="bilinear", align_corners=True),
        lambda y: y + torch.arange(12.0).view(1, 1, 3, 4),
        lambda y: torch.cat([y, y.flatten(1)[:, :, None, None]], 1),
    ]
    images = torch.rand(2, 3, 4, 4)
    for call in calls:
        model = nn.Sequential(nn.Conv2d(3, 4, 4), Act(call))
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("error")
            assert torch.equal(bl.convert(model, "zero", strict=strict)(images), model(images))


@pytest.mark.parametrize("head", [nn.Flatten(), nn.Unflatten(1, (2, 2))], ids=["flatten", "unflatten"])
def test_a_map_of_one_cell_is_flattened_without_a_warning_under_zero(head: nn.Module) -> None:
    layers = [(nn.Conv2d(3 if i == 0 else 4, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)) for i in range(4)]
    model = nn.Sequential(*(layer for stage in layers for layer in stage), head).eval()
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")
        assert torch.equal(bl.convert(model, "zero")(images), model(images))
