"""Random chains of relabelings between convolutions: exact, or refused by name.

A chain goes from maps to tokens, stacks and folded batches and back. Oracles: the unmodified model, bit for bit, under
`zero`; the same on a hugely padded image under `infinite`; a dense run for `bl.place`; a moved image under the adaptive
phase.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import borderless as bl
from support.bodies import noise
from support.endless_plane import on_a_huge_canvas

PADDING_PX = 32


class Held(NamedTuple):
    """What a chain has, and the sizes of its map.

    "map" (N, C, H, W), "last" (N, H, W, C), "rows" (N · C, 1, H, W), "channels" (N, C, L), "tokens" (N, L, C), "first"
    (L, N, C), "stack" (2, N, C, H, W).
    """

    kind: str
    cells: Tensor
    sizes: torch.Size


Step = Callable[[Tensor, torch.Size, int], tuple[str, Tensor] | Tensor]


def wide(t: Tensor, k: int) -> Tensor:
    return F.conv2d(t, noise(2 + k % 3, t.shape[1], 3, 3) / 3, noise(2 + k % 3), padding=1)


def written(t: Tensor, index: object, value: object) -> Tensor:
    t = t.clone()
    t[index] = value
    return t


STEPS: dict[str, dict[str, Step]] = {
    "map": {
        "convolution": lambda t, s, k: wide(t, k),
        "activation": lambda t, s, k: (t + 0.3).relu(),
        "repeat": lambda t, s, k: t[:, :2].repeat(1, 1 + k % 2, 1, 1),
        "repeat_interleave": lambda t, s, k: t[:, :2].repeat_interleave(1 + k % 2, dim=1),
        "gray": lambda t, s, k: t.mean(1, keepdim=True).expand(-1, 3, -1, -1),
        "flip": lambda t, s, k: t.flip(1),
        "index_select": lambda t, s, k: t.index_select(1, torch.tensor([k % t.shape[1], 0])),
        "narrow": lambda t, s, k: t.narrow(1, k % t.shape[1], 1),
        "write": lambda t, s, k: written(t, (slice(None), k % t.shape[1]), 0.5),
        "write a map": lambda t, s, k: written(t, (slice(None), slice(0, 1)), t[:, -1:]),
        "mask": lambda t, s, k: written(t, t > 0.5, -0.5),
        "siamese": lambda t, s, k: torch.cat([t, t.flip(1)], 0).sigmoid().chunk(2)[k % 2],
        "batch": lambda t, s, k: torch.stack([x * 2 for x in t.unbind()]),
        "repeat of the batch": lambda t, s, k: t.repeat(2, 1, 1, 1)[: len(t)],
        "skip": lambda t, s, k: t + wide(t, k)[:, :1],
        "finer and coarser": lambda t, s, k: F.avg_pool2d(t.repeat_interleave(2, 2).repeat_interleave(2, 3), 2),
        "to last": lambda t, s, k: ("last", t.permute(0, 2, 3, 1)),
        "fold": lambda t, s, k: ("rows", t.reshape(-1, 1, *t.shape[2:])),
        "flatten": lambda t, s, k: ("channels", t.flatten(2) if k % 2 else t.view(*t.shape[:2], -1)),
        "stack": lambda t, s, k: ("stack", torch.stack([t, t * 2 - 1])),
    },
    "last": {
        "layer norm": lambda t, s, k: F.layer_norm(t, t.shape[-1:]) + 0.1 * t,
        "linear": lambda t, s, k: F.linear(t, noise(2 + k % 3, t.shape[-1])),
        "to map": lambda t, s, k: ("map", t.permute(0, 3, 1, 2)),
        "flatten": lambda t, s, k: ("tokens", t.flatten(1, 2) if k % 2 else t.reshape(len(t), -1, t.shape[-1])),
    },
    "rows": {
        "convolution": lambda t, s, k: wide(t, k).sum(1, keepdim=True),
        "activation": lambda t, s, k: F.gelu(t + 0.5),
        "unfold": lambda t, s, k: ("map", t.view(s[0], -1, *t.shape[2:])),
    },
    "channels": {
        "activation": lambda t, s, k: t.sigmoid() * t,
        "softmax over channels": lambda t, s, k: t.softmax(1),
        "transpose": lambda t, s, k: ("tokens", t.transpose(1, 2) if k % 2 else t.permute(0, 2, 1)),
        "tokens first": lambda t, s, k: ("first", t.permute(2, 0, 1)),
        "to map": lambda t, s, k: ("map", t.view(len(t), -1, *s[2:]) if k % 2 else t.unflatten(2, s[2:])),
        "softmax over tokens": lambda t, s, k: t.softmax(2),
    },
    "tokens": {
        "linear": lambda t, s, k: F.linear(t, noise(2 + k % 3, t.shape[-1]), noise(2 + k % 3)),
        "layer norm": lambda t, s, k: F.layer_norm(t, t.shape[-1:]) + 0.1 * t,
        "skip": lambda t, s, k: t + (t * 0.5).tanh(),
        "cat": lambda t, s, k: torch.cat([t, t.flip(2)], -1),
        "chunk": lambda t, s, k: t.chunk(2, -1)[0],
        "slice": lambda t, s, k: t[:, :, k % t.shape[2] :],
        "dropout": lambda t, s, k: F.dropout(t, 0.1, training=False),
        "heads": lambda t, s, k: t.reshape(*t.shape[:2], t.shape[2], 1).permute(0, 2, 1, 3).transpose(1, 2).flatten(2),
        "in place": lambda t, s, k: t.clone().mul_(2).add_(0.25),
        "contiguous": lambda t, s, k: t.contiguous(),
        "transpose": lambda t, s, k: ("channels", t.transpose(1, 2)),
        "to last": lambda t, s, k: ("last", t.view(len(t), *s[2:], -1)),
        "attention": lambda t, s, k: t @ t.transpose(1, 2) @ t,
    },
    "first": {
        "linear": lambda t, s, k: F.linear(t, noise(2 + k % 3, t.shape[-1])),
        "activation": lambda t, s, k: t.relu() + 0.1,
        "back": lambda t, s, k: ("tokens", t.transpose(0, 1)),
    },
    "stack": {
        "mean": lambda t, s, k: ("map", t.mean(0)),
        "sum": lambda t, s, k: ("map", t.sum(dim=0) if k % 2 else t.amax(0)),
        "one": lambda t, s, k: ("map", t[k % 2]),
        "activation": lambda t, s, k: t.relu() + t,
        "channels": lambda t, s, k: ("map", t.transpose(0, 1).flatten(1, 2)),
        "batches": lambda t, s, k: ("map", t.flatten(0, 1).relu().chunk(2)[k % 2]),
    },
}
HOME = {"last": "to map", "rows": "unfold", "channels": "to map", "tokens": "to last", "first": "back", "stack": "mean"}


class Chain(nn.Module):
    """A convolution, a chain of steps that ends in a map, and a convolution."""

    def __init__(self, chain: list[tuple[int, int]], stride: int = 1) -> None:
        super().__init__()
        self.chain, self.stride, self.has_tokens_first = chain, stride, False
        self.first = nn.Conv2d(3, 4, 3, stride, 1, dtype=torch.float64)
        self.first.weight.data, self.first.bias.data = noise(4, 3, 3, 3) / 3, noise(4)

    def forward(self, x: Tensor) -> Tensor:
        cells = self.first(x)
        held = Held("map", cells, cells.shape)
        for which, k in self.chain:
            held = self.step(held, list(STEPS[held.kind])[which % len(STEPS[held.kind])], k)
        while held.kind != "map":
            held = self.step(held, HOME[held.kind], 1)
        y = F.conv2d(held.cells, noise(2, held.cells.shape[1], 3, 3), padding=1, stride=self.stride)
        return y if self.stride == 1 else y.mean((2, 3))

    def step(self, held: Held, name: str, k: int) -> Held:
        made = STEPS[held.kind][name](held.cells, held.sizes, k)
        kind, cells = made if isinstance(made, tuple) else (held.kind, made)
        self.has_tokens_first |= kind == "first"
        return Held(kind, cells, cells.shape if kind == "map" else held.sizes)


chains = st.lists(st.tuples(st.integers(0, 99), st.integers(0, 9)), min_size=3, max_size=9)


def count(check: Callable[[list[tuple[int, int]]], None], max_examples: int) -> Counter[str]:
    """How many random chains came out right, and how many were refused by name."""
    seen: Counter[str] = Counter()

    @settings(max_examples=max(max_examples, settings.default.max_examples * (max_examples > 50)))
    @given(chains)
    def run(chain: list[tuple[int, int]]) -> None:
        try:
            with torch.no_grad():
                check(chain)
        except bl.errors.UnsupportedOperation as error:
            if not any(
                text in str(error)
                for text in (
                    "mixes tokens",
                    "sample has its own phase",
                    "multiplies cells with each other",
                    "chosen different phases",
                    "changed in place",
                )
            ):
                raise
            seen["refused by name"] += 1
        else:
            seen["exact"] += 1

    run()
    return seen


def test_chains_are_the_unmodified_model_under_zero() -> None:
    def check(chain: list[tuple[int, int]]) -> None:
        model, images = Chain(chain), noise(2, 3, 6, 8)
        got, expected = bl.convert(model, "zero")(images), model(images)
        if model.has_tokens_first:  # a matrix product sums rows of another order in another order
            assert (got - expected).abs().max() <= 1e-12 * max(1.0, float(expected.abs().max()))
        else:
            assert torch.equal(got, expected)

    seen = count(check, 100)
    assert seen["exact"] > 3 * seen["refused by name"]


def test_chains_are_exact_on_an_endless_plane() -> None:
    def check(chain: list[tuple[int, int]]) -> None:
        model, images = Chain(chain), noise(2, 3, 6, 8)
        got = bl.convert(model, "infinite", output="signal")(images)
        huge = on_a_huge_canvas(model, images, PADDING_PX, 1)
        rows, columns = (slice(a + PADDING_PX, b + PADDING_PX) for a, b in got.box)
        expected = huge[..., rows, columns]
        if expected.isnan().any():  # a mask is no mask where its map is NaN, or a chain reads far
            return
        scale = max(1.0, float(expected.abs().max()))
        assert (got.window - expected).abs().max() <= 1e-10 * scale

    seen = count(check, 100)
    assert seen["exact"] > 3 * seen["refused by name"]


def test_chains_are_placed() -> None:
    def check(chain: list[tuple[int, int]]) -> None:
        patch, positions = noise(3, 5, 5), [(0, 3), (9, 8)]
        for border in ("zero", "infinite"):
            model = bl.convert(Chain(chain).eval(), border)
            dense = []
            for y, x in positions:
                canvas = torch.zeros(1, 3, 20, 20, dtype=torch.float64)
                canvas[0, :, y : y + 5, x : x + 5] = patch
                dense.append(model(canvas))
            placed = bl.place(model, patch, positions, canvas=(20, 20))
            assert (placed - torch.cat(dense)).abs().max() <= 1e-10 * max(1.0, float(placed.abs().max()))

    seen = count(check, 12)
    assert seen["exact"] > 2 * seen["refused by name"]


def test_chains_move_along_under_the_adaptive_phase() -> None:
    def check(chain: list[tuple[int, int]]) -> None:
        model, image = bl.convert(Chain(chain, stride=2).eval(), "infinite", phase="adaptive"), noise(2, 3, 6, 6)
        found = [model(F.pad(image, (8 + dx, 8 - dx, 8 + dy, 8 - dy))) for dy, dx in ((0, 0), (1, 2), (3, 1))]
        for other in found[1:]:
            assert (other - found[0]).abs().max() <= 1e-9 * max(1.0, float(found[0].abs().max()))

    seen = count(check, 20)
    assert seen["exact"] > 2 * seen["refused by name"]
