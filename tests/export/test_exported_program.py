"""A frozen model is a program of plain ATen operations that runs where borderless does not exist."""

import operator
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import borderless as bl
from support.calls import CALLS, Calls, noise
from support.networks import network, patch, placed, relative_change, residual

SIZE_PX = 64
PHASES = ("fixed", "adaptive")

ALONE = """
import sys
sys.modules["borderless"] = None
import torch
for phase in sys.argv[1:]:
    program = torch.export.load(f"{phase}.pt2")
    torch.save(program.module()(torch.load("images.pt")), f"{phase}-logits.pt")
try:
    import borderless
except ImportError:
    print("ran alone")
"""


def images(seed: int, batch: int = 2) -> Tensor:
    """Objects at odd places that differ from sample to sample, so that the samples' phases differ."""
    places = torch.randint(0, SIZE_PX - 24, (batch, 2), generator=torch.Generator().manual_seed(seed)).tolist()
    return placed(
        [patch(24, seed + i, torch.float32) for i in range(batch)], [tuple(place) for place in places], SIZE_PX
    )


Frozen = tuple[nn.Module, torch.export.ExportedProgram]


@pytest.fixture(scope="module")
def both() -> dict[str, Frozen]:
    models = {phase: bl.convert(network("resnet18"), "infinite", phase=phase) for phase in PHASES}
    return {phase: (model, bl.freeze(model, images(0))) for phase, model in models.items()}


# One worker of pytest-xdist, so that both programs are made once.
of_both = pytest.mark.xdist_group("exported_program")


@pytest.fixture(params=PHASES)
def frozen(request: pytest.FixtureRequest, both: dict[str, Frozen]) -> Frozen:
    return both[request.param]


@of_both
def test_the_program_is_plain_aten(frozen: Frozen) -> None:
    _, program = frozen
    assert isinstance(program, torch.export.ExportedProgram)
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert any("convolution" in str(target) or "conv2d" in str(target) for target in called)
    for target in called:
        aten = isinstance(target, torch._ops.OpOverload) and target.namespace == "aten"
        assert aten or target is operator.getitem, f"{target} is no ATen operation"
    assert not [node for node in program.graph.nodes if node.op == "call_module"]


@of_both
def test_the_program_equals_the_model_on_other_images(frozen: Frozen) -> None:
    model, program = frozen
    run = program.module()
    with torch.inference_mode():
        for seed in (0, 1, 2):
            expected = model(images(seed))
            assert relative_change(expected, run(images(seed))) <= 1e-6
        noise = torch.randn(2, 3, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(9))
        assert relative_change(model(noise), run(noise)) <= 1e-6


@pytest.mark.nightly
@of_both
def test_the_programs_run_where_borderless_cannot_be_imported(both: dict[str, Frozen], tmp_path: Path) -> None:
    for phase, (_, program) in both.items():
        torch.export.save(program, tmp_path / f"{phase}.pt2")
    torch.save(images(5), tmp_path / "images.pt")
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONWARNINGS")}
    environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())  # sums are added up in the same order
    command = [sys.executable, "-c", ALONE, *both]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    assert "ran alone" in ran.stdout
    with torch.inference_mode():
        for phase, (model, _) in both.items():
            assert relative_change(model(images(5)), torch.load(tmp_path / f"{phase}-logits.pt")) <= 1e-6


def test_a_frozen_adaptive_model_is_blind_to_every_move() -> None:
    """The phase is computed in the program, sample by sample, and not the example's."""
    model = bl.convert(residual(), "infinite", phase="adaptive")
    places = [(0, 0), (1, 2), (3, 1), (15, 18)]
    batch = placed([patch(9, 1, torch.float32)] * 4, places, 40)
    run = bl.freeze(model, torch.zeros(4, 3, 40, 40)).module()
    with torch.inference_mode():
        logits = run(batch)
        fixed = bl.freeze(bl.convert(residual(), "infinite"), torch.zeros(4, 3, 40, 40)).module()(batch)
    assert relative_change(logits[:1], logits[1:]) <= 2e-5
    assert relative_change(fixed[:1], fixed[1:]) > 1e-4, "no power"


BORDERS = ["valid", "zero", "reflect", "replicate", "circular", "full", "infinite"]


@pytest.mark.parametrize(
    ("border", "phase"),
    [(border, "fixed") for border in BORDERS] + [("circular", "adaptive"), ("infinite", "adaptive")],
)
def test_every_border_freezes(border: str, phase: str) -> None:
    model = bl.convert(residual(), border, phase=phase)
    example, other = (torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    run = bl.freeze(model, example).module()
    with torch.inference_mode():
        assert relative_change(model(other), run(other)) <= 1e-6


@pytest.mark.parametrize("name", ["channels shuffled", "each cell twice", "bilinear, 1.5", "a channel set"])
@pytest.mark.filterwarnings("ignore")
def test_what_models_call_freezes_for_batches_of_any_size(name: str) -> None:
    model, example = bl.convert(Calls(CALLS[name]).eval(), "infinite"), noise(2, 1, 12, 16)
    program, other = bl.freeze(model, example, dynamic_batch=True), noise(3, 1, 12, 16, seed=7)
    with torch.no_grad():
        assert torch.allclose(program.module()(other), model(other), rtol=0, atol=1e-12)


def test_a_frozen_program_refuses_another_size() -> None:
    run = bl.freeze(bl.convert(residual(), "infinite"), torch.randn(1, 3, 32, 32)).module()
    with pytest.raises((AssertionError, RuntimeError, ValueError)):
        run(torch.randn(1, 3, 36, 32))
