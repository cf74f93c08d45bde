"""Repeats, selections, batches, writes, casts, noise, blocks, tokens: as in the unmodified model, or refused by name.

Oracles: the unmodified model; the same on a hugely padded image; a dense run for `bl.place`; moved images for the
adaptive phase.
"""

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import borderless as bl
from support.bodies import CHANNELS, noise, seeded
from support.endless_plane import assert_as_on_a_huge_canvas

Body = Callable[[Tensor, Tensor], Tensor]


def written(a: Tensor, index: object, value: object) -> Tensor:
    a[index] = value
    return a


def filtered(a: Tensor) -> Tensor:
    """Each channel by itself, folded into the batch, and as one sample again."""
    rows = a.reshape(-1, 1, *a.shape[-2:])
    return F.conv2d(rows, noise(1, 1, 3, 3), padding=1).view(a.shape)


def frames(a: Tensor) -> Tensor:
    """(B, T, C, H, W) from (B, T · C, H, W), and each image by itself."""
    clips = a.view(len(a), 2, 2, *a.shape[2:])
    images = F.conv2d(clips.flatten(0, 1), noise(3, 2, 3, 3), padding=1)
    return images.unflatten(0, (len(a), 2)).mean(1)


def depth_to_space(a: Tensor) -> Tensor:
    n, _, h, w = a.shape
    finer = a.view(n, 2, 2, 1, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, 1, 2 * h, 2 * w)
    return F.conv2d(finer, noise(2, 1, 3, 3), padding=1, stride=2)


def space_to_depth(a: Tensor) -> Tensor:
    n, c, h, w = a.shape
    return a.view(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(n, 4 * c, h // 2, w // 2)


def nearest(a: Tensor) -> Tensor:
    finer = a.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    return F.conv2d(finer, noise(2, CHANNELS, 3, 3), padding=1, stride=2)


def token_wise(a: Tensor) -> Tensor:
    tokens = F.linear(a.flatten(2).transpose(1, 2), noise(6, CHANNELS), noise(6))
    tokens = F.gelu(F.layer_norm(tokens, (6,))) + noise(6)
    return tokens.transpose(1, 2).reshape(len(a), 6, *a.shape[2:])


def tokens_with_a_skip(a: Tensor) -> Tensor:
    tokens = a.permute(0, 2, 3, 1).reshape(len(a), -1, CHANNELS)
    tokens = tokens + F.linear(tokens, noise(CHANNELS, CHANNELS))
    parts = torch.cat(tokens.chunk(2, -1)[::-1], -1) * tokens[..., 1:2]
    return parts.view(len(a), *a.shape[2:], CHANNELS).permute(0, 3, 1, 2).contiguous()


def tokens_first(a: Tensor) -> Tensor:
    tokens = F.linear(a.flatten(2).permute(2, 0, 1), noise(CHANNELS, CHANNELS)).relu()
    return tokens.permute(1, 2, 0).view(a.shape)


def tokens_in_heads(a: Tensor) -> Tensor:
    tokens = a.flatten(2).transpose(1, 2)
    heads = tokens.reshape(*tokens.shape[:2], 2, 2).permute(2, 0, 1, 3)
    return (heads[0] * heads[1]).transpose(1, 2).unflatten(2, a.shape[2:])


def batch_norm_of_tokens(a: Tensor) -> Tensor:
    return F.prelu(a.flatten(2), noise(CHANNELS)).view_as(a)


EXACT: dict[str, Body] = {
    "repeat": lambda a, b: a.repeat(1, 2, 1, 1) * b.repeat(repeats=(1, 2, 1, 1)),
    "tile": lambda a, b: a.tile(2, 1, 1) + b.repeat((1, 2, 1, 1)),
    "repeat of the batch": lambda a, b: a.repeat(2, 1, 1, 1).chunk(2)[1] * b,
    "gray to RGB": lambda a, b: a[:, :1].expand(-1, 3, -1, -1) + b[:, :1].repeat(1, 3, 1, 1),
    "expand by name": lambda a, b: (
        a[:, :1].expand(size=(-1, 3, -1, -1)) * b[:, 1:2].broadcast_to((len(b), 3, *b.shape[2:]))
    ),
    "repeat_interleave": lambda a, b: a.repeat_interleave(2, dim=1) * torch.repeat_interleave(b, 2, 1),
    "repeat_interleave of samples": lambda a, b: a.repeat_interleave(2, 0).view(-1, 8, *a.shape[2:])[:, 4:] * b,
    "repeats as a tensor": lambda a, b: a.repeat_interleave(torch.tensor([2, 0, 1, 1]), dim=1) + b,
    "index_select": lambda a, b: (
        a.index_select(1, torch.tensor([2, 0])) * b.index_select(dim=-3, index=torch.tensor([1]))
    ),
    "narrow": lambda a, b: a.narrow(1, 1, 2) * b.narrow(dim=1, start=-2, length=2),
    "narrow along space": lambda a, b: F.pad(a.narrow(3, 1, a.shape[3] - 2), (1, 1)) + b * (1 + b),
    "select": lambda a, b: (a.select(1, 0) + b.select(dim=1, index=-1)).unsqueeze(1),
    "unbind": lambda a, b: torch.stack([x * 2 for x in a.unbind(1)], 1) * b,
    "unbind of the batch": lambda a, b: torch.stack([x * y for x, y in zip(a.unbind(), b.unbind(0), strict=True)]) + 0,
    "iterated": lambda a, b: torch.cat([x[None] * y.unsqueeze(0) for x, y in zip(a, b, strict=True)]),
    "flip": lambda a, b: a.flip(1) * torch.flip(b, dims=(1,)) + a.fliplr(),
    "flip of the batch": lambda a, b: a.flip(0).flip(0) + torch.flip(b, (0, 1)).flipud(),
    "stack, mean": lambda a, b: torch.stack([a, b]).mean(0),
    "stack, sum": lambda a, b: torch.stack([a, b, a * b], 0).sum(dim=0),
    "stack, amax": lambda a, b: torch.stack([a, b]).amax(0) + torch.stack([a, b]).max(dim=0).values,
    "stack, weighed": lambda a, b: (torch.stack([a, b]) * noise(2, 1, 1, 1, 1)).softmax(0).sum(0),
    "stack, select": lambda a, b: torch.stack([a, b])[1] + torch.stack([a, b]).unbind(0)[0],
    "stack and move": lambda a, b: torch.stack([a, b]).transpose(0, 1).flatten(1, 2),
    "siamese": lambda a, b: torch.mul(*F.conv2d(torch.cat([a, b], 0), noise(3, CHANNELS, 3, 3), padding=1).chunk(2, 0)),
    "siamese by slices": lambda a, b: (lambda both, n: both[:n] - both[n:])(torch.cat((a, b)).relu(), len(a)),
    "siamese by split": lambda a, b: (lambda both: both[0] * both[1])(torch.cat([a, b]).split(len(a))),
    "one channel a row": lambda a, b: filtered(a) * b,
    "frames of a clip": lambda a, b: frames(a) + b[:, :1],
    "write to a channel": lambda a, b: written(a, (slice(None), 0), 0.5) * b,
    "write to channels": lambda a, b: written(a * 1, (slice(None), slice(0, 2)), b[:, 2:]) * b,
    "write to a list of channels": lambda a, b: written(a * 1, (slice(None), [0, 2]), 0.25) * b,
    "write with an ellipsis": lambda a, b: written(a * 1, (slice(None), 1, ...), noise(1, 1, 1)) * b,
    "write to a sample": lambda a, b: written(a * 1, 0, 0.5) * b,
    "write where a mask is true": lambda a, b: written(a * b, a > 0.1, 0.5) + 0 * b,
    "change of a channel": lambda a, b: written(a * 1, (slice(None), 1), b[:, 1] * 2) + b,
    "data": lambda a, b: a.data * b,
    "casts": lambda a, b: (a > 0).byte() * b + a.bool() * 0.5 + b.long() + (4 * a).int().short().char() + 0 * (a + b),
    "to": lambda a, b: a.to(torch.float32).type(torch.float64) * b.float().to(b),
    "like": lambda a, b: torch.ones_like(a) * b + torch.full_like(a, 2.0) * a - torch.zeros_like(b),
    "empty_like": lambda a, b: torch.empty_like(a).copy_(b) + torch.empty_like(b).fill_(2.0) * a + b.clone().zero_(),
    "depth to space": lambda a, b: depth_to_space(a * b),
    "repeated cells": lambda a, b: nearest(a * b),
    "tokens": lambda a, b: token_wise(a) + b.mean(1, keepdim=True),
    "tokens with a skip": lambda a, b: tokens_with_a_skip(a) * b,
    "tokens first": lambda a, b: tokens_first(a) + b,
    "tokens in heads": lambda a, b: tokens_in_heads(a) + b[:, :2],
    "tokens by channel": lambda a, b: batch_norm_of_tokens(a) * b,
    "tokens, no more": lambda a, b: a.flatten(2).mean(2)[:, :, None, None] * b,
}


@pytest.mark.parametrize("body", EXACT.values(), ids=EXACT)
def test_as_in_the_unmodified_model(body: Body) -> None:
    images, model = noise(2, 3, 8, 12), seeded(body)
    with torch.no_grad():
        expected = model(images)
        assert torch.equal(bl.convert(model, "zero")(images), expected)
        for border in ("full", "circular", "replicate"):
            assert bl.convert(model, border)(images).shape == expected.shape


@pytest.mark.parametrize("body", [body for name, body in EXACT.items() if name != "tokens, no more"])
def test_as_on_a_huge_canvas(body: Body) -> None:
    assert_as_on_a_huge_canvas(seeded(body), noise(2, 3, 8, 12), 16, 1)


def test_space_to_depth_as_on_a_huge_canvas() -> None:
    assert_as_on_a_huge_canvas(seeded(lambda a, b: space_to_depth(a * b)), noise(2, 3, 8, 12), 16, 2)


def moved(image: Tensor, dy: int, dx: int) -> Tensor:
    canvas = image.new_zeros(len(image), 3, 24, 26)
    canvas[..., 5 + dy : 13 + dy, 6 + dx : 14 + dx] = image
    return canvas


class Strided(nn.Module):
    """Two strided maps on one lattice, `body`, a stride more, and the mean over space."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.inner = seeded(body)
        self.first = nn.Conv2d(3, 3, 3, 2, 1, dtype=torch.float64)
        self.first.weight.data, self.first.bias.data = noise(3, 3, 3, 3), noise(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(self.first(x))
        return F.conv2d(y, noise(2, y.shape[1], 3, 3), stride=2, padding=1).mean((2, 3))


@pytest.mark.parametrize("body", EXACT.values(), ids=EXACT)
def test_the_adaptive_phase_moves_along(body: Body) -> None:
    model = bl.convert(Strided(body).eval(), "infinite", phase="adaptive")
    image = noise(2, 3, 8, 8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        still = model(moved(image, 0, 0))
        for shift in ((1, 0), (2, 3), (3, 1)):
            assert (model(moved(image, *shift)) - still).abs().max() <= 1e-10 * still.abs().max()


@pytest.mark.parametrize("border", ["zero", "infinite", "full", "circular", "adaptive"])
def test_place_is_dense(border: str) -> None:
    patch, positions = noise(3, 6, 6), [(0, 0), (10, 12), (12, 10), (17, 18)]
    canvases = torch.zeros(4, 1, 3, 24, 24, dtype=torch.float64)
    for canvas, (y, x) in zip(canvases, positions, strict=True):
        canvas[0, :, y : y + 6, x : x + 6] = patch[:, : 24 - y, : 24 - x]
    for name, body in EXACT.items():
        model = seeded(body)
        model = bl.convert(model, "infinite", phase="adaptive") if border == "adaptive" else bl.convert(model, border)
        with torch.no_grad():
            dense = torch.cat([model(canvas) for canvas in canvases])
            placed = bl.place(model, patch, positions, canvas=(24, 24))
        assert (placed - dense).abs().max() <= 1e-12 * dense.abs().max(), name


def pooled_rows(a: Tensor, b: Tensor) -> Tensor:
    """Each channel by itself through a stride, then one number of it."""
    rows = F.conv2d((a * b).reshape(-1, 1, *a.shape[2:]), noise(3, 1, 3, 3), stride=2, padding=1)
    return rows.relu().mean((2, 3)).view(len(a), -1, 1, 1) * b[:, :1]


def rows_through_a_stride(a: Tensor, b: Tensor) -> Tensor:
    """The same, and the map again."""
    rows = F.conv2d((a * b).reshape(-1, 1, *a.shape[2:]), noise(1, 1, 3, 3), stride=2, padding=1)
    return rows.view(len(a), CHANNELS, *rows.shape[2:])


def equal_rows_through_a_stride(a: Tensor, b: Tensor) -> Tensor:
    """The phases agree, so that what follows joins what was left outside."""
    return rows_through_a_stride(a[:, :1].expand_as(a), b[:, :1]) + (a * b)[:, :1, ::2, ::2]


def siamese_through_a_stride(a: Tensor, b: Tensor) -> Tensor:
    first, second = F.conv2d(torch.cat([a, b * 3]), noise(2, CHANNELS, 3, 3), stride=2, padding=1).chunk(2)
    return first.amax((2, 3), keepdim=True) - second.mean((2, 3), keepdim=True) + a[:, :2]


@pytest.mark.parametrize("body", [pooled_rows, equal_rows_through_a_stride, siamese_through_a_stride])
def test_rows_of_a_batch_choose_phases_of_their_own(body: Body) -> None:
    model = bl.convert(Strided(body).eval(), "infinite", phase="adaptive")
    image = noise(2, 3, 8, 8)
    with torch.no_grad():
        still = model(moved(image, 0, 0))
        for shift in ((1, 0), (0, 1), (2, 3), (3, 1)):
            assert (model(moved(image, *shift)) - still).abs().max() <= 1e-10 * still.abs().max()


def test_rows_with_different_phases_are_not_one_sample() -> None:
    model = bl.convert(Strided(rows_through_a_stride).eval(), "infinite", phase="adaptive")
    with pytest.raises(bl.UnsupportedOperation, match=r"have chosen different phases. Write the strided layers before"):
        model(noise(2, 3, 24, 24))


REFUSED: dict[str, tuple[Body, str]] = {
    "flip along space": (lambda a, b: a.flip(3), r"mirrors .* Write the flip outside .* model\(x.flip\(-1\)\)"),
    "side by side": (lambda a, b: a.repeat(1, 1, 2, 1), "side by side, at absolute positions. Write F.interpolate"),
    "new dimensions": (lambda a, b: a.repeat(2, 1, 1, 1, 1), "along new dimensions. Write .unsqueeze"),
    "cells in a row": (lambda a, b: a.repeat_interleave(2), "in a single row. Write its dimension"),
    "cut along space": (lambda a, b: a.chunk(2, 2)[0], r"cuts a map along space.* Write slices"),
    "joined along space": (lambda a, b: torch.cat([a, b], 3), "joins maps along space"),
    "a row of cells": (lambda a, b: a.select(2, 0), "picks an absolute position"),
    "cells in a list": (lambda a, b: a.index_select(3, torch.tensor([0, 1])), "picks an absolute position"),
    "write along space": (lambda a, b: written(a, (..., slice(0, 2)), 0.0), "writes at absolute positions"),
    "values that a mask picks": (lambda a, b: a[a > 0], r"Write\s+torch.where"),
    "a smaller mask": (lambda a, b: written(a, a[:, 0] > 0, 0.0), r"Write torch.where\(mask, value, x\)"),
    "a map into a tensor": (lambda a, b: written(torch.zeros(2, 4, 8, 12), 0, a[0]), "Write torch.cat or torch.stack"),
    "other noise": (lambda a, b: torch.bernoulli(a.sigmoid()), "draws noise .* give the noise as an input"),
    "attention": (
        lambda a, b: (a.flatten(2).transpose(1, 2) @ a.flatten(2)).softmax(-1),
        r"multiplies cells with each other, as attention does.* Layers that treat each cell alike can run",
    ),
    "written tokens": (
        lambda a, b: written(a.flatten(2), (..., slice(0, 2)), 0.0),
        "writes at absolute positions of a feature map",
    ),
    "a position embedding": (lambda a, b: a.flatten(2) + nn.Parameter(noise(1, 4, 96)), "has a learned value for each"),
    "a weight for each token": (lambda a, b: F.linear(a.flatten(2), noise(5, 96)), "has a weight for each cell"),
    "tokens and a map": (lambda a, b: a.flatten(2)[..., None] + b, "joins a feature map of shape"),
}


@pytest.mark.parametrize(("body", "text"), REFUSED.values(), ids=REFUSED)
def test_refused_by_name(body: Body, text: str) -> None:
    with pytest.raises(bl.BorderlessError, match=text):
        bl.convert(seeded(body), "infinite", strict=True)(noise(2, 3, 8, 12))


LISTS: dict[str, Body] = {
    "a class token": lambda a, b: torch.cat([a.flatten(2), a.new_zeros(len(a), 4, 1)], 2),
    "windows of tokens": lambda a, b: a.flatten(2).view(-1, 4, 24, 4),
    "a grid": lambda a, b: a.flatten(2) + noise(1, 4, 96),
    "samples": lambda a, b: torch.stack(a.flatten(2).transpose(1, 2).unbind()),
    "samples and tokens": lambda a, b: a[:1].flatten(2).transpose(1, 2).flatten(0, 1),
    "the first token": lambda a, b: a.flatten(2)[..., 0],
}


@pytest.mark.parametrize("body", LISTS.values(), ids=LISTS)
def test_lists_of_tokens_are_those_of_the_frame(body: Body) -> None:
    images, model = noise(2, 3, 8, 12), seeded(body)
    maps = seeded(lambda a, b: torch.cat([a, b], 1))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(bl.convert(model, "zero", strict=True)(images), model(images))
        got = bl.convert(model, "infinite", strict=True)(images)
        a, b = bl.convert(maps, "infinite")(images).split(CHANNELS, 1)
        torch.testing.assert_close(got, body(a, b), rtol=1e-12, atol=1e-12)
    assert bl.explain(seeded(body), (8, 12)).departures[0].frame == (8, 12)


BEHIND: dict[str, Callable[[Tensor], Tensor]] = {
    "behind space": lambda t: t.reshape(*t.shape[1:3], 1, -1),
    "behind its blocks": lambda t: t.reshape(t.shape[1] // 2, 2, t.shape[2] // 2, 2, 1, -1),
    "gone": lambda t: t.reshape(*t.shape[1:3], -1),
}


@pytest.mark.parametrize("move", BEHIND.values(), ids=BEHIND)
def test_a_batch_of_one_leaves_with_its_cells_where_a_reshape_moves_it(move: Callable[[Tensor], Tensor]) -> None:
    image, last = noise(1, 3, 8, 12), seeded(lambda a, b: (a * b).permute(0, 2, 3, 1))
    model = seeded(lambda a, b: move((a * b).permute(0, 2, 3, 1)))
    with torch.no_grad():
        assert torch.equal(bl.convert(model, "zero")(image), model(image))
        assert torch.equal(bl.convert(model, "infinite")(image), move(bl.convert(last, "infinite")(image)))
        torch.testing.assert_close(bl.tile(model, image, tile=4), model(image), rtol=1e-12, atol=1e-12)


def test_a_flip_along_space_reads_position_under_zero() -> None:
    model, images = seeded(lambda a, b: a.flip(3) * b), noise(2, 3, 8, 12)
    with pytest.warns(bl.PositionDependentWarning, match="mirrors a feature map"):
        assert torch.equal(bl.convert(model, "zero")(images), model(images))


def sampled(a: Tensor, b: Tensor) -> Tensor:
    """How variational autoencoders sample."""
    return a + b.exp() * torch.randn_like(a) + torch.rand_like(b) * torch.empty_like(b).normal_(0.5, 2.0)


def test_noise_is_the_unmodified_models_under_zero_and_its_mean_around_a_window() -> None:
    model, images = seeded(sampled), noise(2, 3, 8, 12)
    results = []
    for run in (model, bl.convert(model, "zero"), bl.convert(model, "infinite", output="signal")):
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(3)
            results.append(run(images))
    assert torch.equal(results[0], results[1])
    around = model.first.bias + 0.5 * 0.5
    assert torch.allclose(results[2].background.flatten(), around, rtol=0, atol=1e-12)
    with pytest.raises(bl.UnsupportedOperation, match=r"draws noise, which bl.place would draw anew"):
        bl.place(model, images[0], [(0, 0)], canvas=(8, 12))


def test_under_vmap() -> None:
    images = noise(3, 2, 3, 8, 12)
    for name in (
        "repeat",
        "stack, mean",
        "siamese",
        "flip",
        "depth to space",
        "tokens",
        "tokens with a skip",
        "index_select",
    ):
        model = seeded(EXACT[name])
        with torch.no_grad():
            got = torch.func.vmap(bl.convert(model, "infinite"), randomness="same")(images)
            expected = torch.stack([bl.convert(model, "infinite")(image) for image in images])
        assert torch.allclose(got, expected, rtol=0, atol=1e-12), name


@pytest.mark.parametrize(
    "name", ["tokens with a skip", "siamese", "write to channels", "depth to space", "stack, mean"]
)
def test_gradients(name: str) -> None:
    model, images = seeded(EXACT[name]), noise(1, 3, 6, 6)
    converted = bl.convert(model, "infinite")
    huge = model(F.pad(images, [16] * 4))[..., 16:-16, 16:-16]
    expected = torch.autograd.grad((huge * noise(*huge.shape)).sum(), list(model.parameters()))
    got = torch.autograd.grad((converted(images) * noise(*huge.shape)).sum(), list(converted.parameters()))
    for one, other in zip(got, expected, strict=True):
        assert (one - other).abs().max() <= 1e-10 * other.abs().max()
