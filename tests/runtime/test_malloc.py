"""Memory that is kept for the next tensor: seen in the page faults of a fresh process."""

import subprocess
import sys

import pytest

from borderless.runtime.malloc import keep_freed_memory

PROGRAM = """
import resource, torch
from borderless.runtime.malloc import keep_freed_memory
done = keep_freed_memory() if {keep} else False
def fill(): return float(torch.ones(12_000_000).sum())  # 48 MB, more than the C library ever keeps by itself
for _ in range(15): fill()  # the heap grows for up to eight rounds, until an aligned block fits into what was freed
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10): fill()
print(done, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the GNU C library's")
def test_another_tensor_of_a_size_costs_no_new_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)

    def faults(keep: bool) -> tuple[str, int]:
        command = [sys.executable, "-c", PROGRAM.format(keep=keep)]
        done, count = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        return done, int(count)

    done, with_it = faults(keep=True)
    if done == "False":
        pytest.skip("another C library")
    assert with_it < faults(keep=False)[1] / 2


def test_what_the_user_has_set_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")
    assert keep_freed_memory() is False
