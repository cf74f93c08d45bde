"""The engine's small tests run on one thread: on maps of a few cells, threads cost more than they bring."""

from collections.abc import Iterator

import pytest
import torch

LARGE = ("test_networks", "test_feature_maps")


@pytest.fixture(autouse=True)
def one_thread_for_small_maps(request: pytest.FixtureRequest) -> Iterator[None]:
    threads = torch.get_num_threads()
    if not request.module.__name__.endswith(LARGE):
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
