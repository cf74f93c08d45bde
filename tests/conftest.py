"""What every test stands on: a seed, as many threads as there is room for, and no window on the screen."""

import os

# Before anything is imported that reads them, so that processes which a test starts have them too.
os.environ["MPLBACKEND"] = "Agg"
# The workers of pytest-xdist together ask for no more threads than there are cores: PyTorch, and the BLAS of NumPy.
if (workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))) > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image

# The same examples in every run, and a busy machine fails nothing; `pytest --hypothesis-profile=search` draws afresh.
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None, derandomize=False, max_examples=1000, print_blob=True)
hypothesis.settings.load_profile("tests")


@pytest.fixture(autouse=True)
def seed() -> None:
    """Draws that a test makes without a generator of its own (a new layer's weights) are the same in any order."""
    torch.manual_seed(0)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder with seven pictures of 48 × 40 px, each of its own coarse pattern of colors."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for i in range(7):
        coarse = Image.fromarray(draw.integers(0, 255, (6, 6, 3), dtype=np.uint8))
        coarse.resize((48, 40), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder
